"""Rounds of the state machine, each of a seed."""

import contextlib
import io
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.gate_model.machine import GateMachine
from tests.gate_model.oracle import UnsafeError
from tests.gate_model.person import StuckError

_STEPS = 50


@dataclass(frozen=True)
class Failure:
    """What a round has found.

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
