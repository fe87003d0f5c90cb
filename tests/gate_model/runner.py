"""Rounds of the state machine, each of a seed."""

import contextlib
import io
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.gate_model.machine import TALLY, GateMachine
from tests.gate_model.oracle import UnsafeError
from tests.gate_model.person import StuckError
from tests.gate_model.program import Tally

_STEPS = 50
# Runs of a round.
_EXAMPLES = 25


@dataclass(frozen=True)
class Failure:
    """The failure that a round has found.

    Attributes:
        kind: ``unsafe`` or ``stuck``.
        reason: What failed.
        scenario: The steps that led there.
    """

    kind: str
    reason: str
    scenario: str

    def __str__(self) -> str:
        return f"{self.reason}\n{self.scenario}"


def run_round(number: int, *, examples: int, shrink: bool = False) -> Failure | None:
    """Run the machine from the start so many times, and return what it has found, if anything.

    Args:
        number: Seed of the round; the same gives the same round.
        examples: Runs of up to 50 steps.
        shrink: Whether to look for the shortest scenario, which may take minutes.
    """
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    machine = seed(number)(type("GateMachine", (GateMachine,), {}))
    try:
        # Its own report goes to standard output, and is in the error too.
        with contextlib.redirect_stdout(io.StringIO()):
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=_STEPS,
                    deadline=None,
                    database=None,
                    phases=phases,
                    suppress_health_check=list(HealthCheck),
                    report_multiple_bugs=False,
                ),
            )
    except (UnsafeError, StuckError) as error:
        kind = "unsafe" if isinstance(error, UnsafeError) else "stuck"
        return Failure(kind, str(error), "\n".join(getattr(error, "__notes__", ())))
    return None


def run_rounds(first: int, processes: int, *, shrink: bool = False) -> Iterator[tuple[int, Failure | None, Tally]]:
    """Yield rounds as they end, each with its seed, what it has found, and what it has gone through; there is no last.

    Args:
        first: Seed of the first round; each has the next number.
        processes: How many run at a time.
        shrink: As of `run_round`.
    """
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_run, first + number, shrink=shrink) for number in range(processes)}
        following = first + processes
        try:
            while True:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for ended in done:
                    running.add(pool.submit(_run, following, shrink=shrink))
                    following += 1
                    yield ended.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()


def _run(number: int, *, shrink: bool) -> tuple[int, Failure | None, Tally]:
    TALLY.clear()
    return number, run_round(number, examples=_EXAMPLES, shrink=shrink), TALLY
