"""Work on many clusters: side by side up to a limit, in waves that grow, and no further after a failure."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from meshtrust.cluster.api import ClusterError
from meshtrust.linkerd.rollout import RolloutError
from meshtrust.rotation.steps import IllegalStepError
from meshtrust.stacks.progress import BlockedError, Reporter
from meshtrust.stacks.stack import Stack, StackError, Write

State = Literal["done", "failed", "blocked", "not begun"]
Work = Callable[[Stack, "Teller"], Awaitable[None]]


class Teller(Reporter, Protocol):
    """Who is told how the work on one stack goes."""

    @property
    def write(self) -> Write:
        """Takes what the engine writes, line by line."""

    def warn(self, text: str) -> None:
        """Tell of something that a person has to see, whatever else goes on."""


class Board(Protocol):
    """Who is told how the work on a fleet goes."""

    def phase(self, title: str, stacks: Sequence[str]) -> None:
        """Tell that a phase of the work begins, and which stacks it is about."""

    def teller(self, stack: str) -> Teller:
        """Return who is told of one stack."""

    def began(self, stack: str) -> None:
        """Tell that the work on a stack has begun."""

    def ended(self, outcome: "Outcome") -> None:
        """Tell what came of the work on a stack."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of the work on one stack.

    Attributes:
        stack: Its name.
        state: How it ended; ``not begun`` where a failure elsewhere came first.
        seconds: How long it took.
        error: Why it did not end well.
        blockers: What blocks it, where that is why.
    """

    stack: str
    state: State
    seconds: float = 0.0
    error: str = ""
    blockers: tuple[str, ...] = ()

    @property
    def went_wrong(self) -> bool:
        """Whether it was begun and did not end well."""
        return self.state in ("failed", "blocked")


class FleetError(Exception):
    """Work on a fleet that did not end well for every cluster; the message says for which.

    Attributes:
        outcomes: What came of it, by stack.
        exit_code: What a command ends with: 4 where all that went wrong has to wait, else 1.
    """

    def __init__(self, title: str, outcomes: Sequence[Outcome]) -> None:
        wrong = [outcome for outcome in outcomes if outcome.went_wrong]
        waiting = sum(outcome.state == "not begun" for outcome in outcomes)
        later = f" {waiting} were not begun." if waiting > 1 else " 1 was not begun." if waiting else ""
        names = ", ".join(outcome.stack for outcome in wrong)
        super().__init__(f"{title} did not end well for {names}.{later} Put it right and run the same command again")
        self.outcomes = tuple(outcomes)
        self.exit_code = 4 if all(outcome.state == "blocked" for outcome in wrong) else 1


def split_waves(stacks: Sequence[Stack]) -> list[Sequence[Stack]]:
    """Return the waves in which clusters are worked on: one, then a tenth of all, then the rest."""
    tenth = -(-len(stacks) // 10)
    return [wave for wave in (stacks[:1], stacks[1 : 1 + tenth], stacks[1 + tenth :]) if wave]


async def run_waves(title: str, stacks: Sequence[Stack], work: Work, *, parallel: int, board: Board) -> None:
    """Work on stacks wave by wave; a failure lets those that have begun come to their end, and begins no other.

    Args:
        title: What is done.
        stacks: The stacks, in the order in which they are worked on.
        work: What is done with each.
        parallel: How many at a time.
        board: Who is told.

    Raises:
        FleetError: It did not end well for one of them.
    """
    await _run(title, split_waves(stacks), work, parallel=parallel, board=board)


async def run_all(title: str, stacks: Sequence[Stack], work: Work, *, parallel: int, board: Board) -> None:
    """Work on stacks in one wave; otherwise as `run_waves`."""
    await _run(title, [stacks] if stacks else [], work, parallel=parallel, board=board)


async def _run(title: str, waves: Sequence[Sequence[Stack]], work: Work, *, parallel: int, board: Board) -> None:
    stacks = [stack for wave in waves for stack in wave]
    if not stacks:
        return
    board.phase(title, [stack.name for stack in stacks])
    limit, outcomes = asyncio.Semaphore(parallel), dict[str, Outcome]()

    async def run_one(stack: Stack) -> None:
        async with limit:
            if any(outcome.went_wrong for outcome in outcomes.values()):
                return
            board.began(stack.name)
            outcomes[stack.name] = await _outcome(stack, work, board)
            board.ended(outcomes[stack.name])

    for wave in waves:
        if not any(outcome.went_wrong for outcome in outcomes.values()):
            await asyncio.gather(*map(run_one, wave))
    if any(outcome.went_wrong for outcome in outcomes.values()):
        for stack in stacks:
            if stack.name not in outcomes:
                outcomes[stack.name] = Outcome(stack=stack.name, state="not begun")
                board.ended(outcomes[stack.name])
        raise FleetError(title, [outcomes[stack.name] for stack in stacks])


async def _outcome(stack: Stack, work: Work, board: Board) -> Outcome:
    started = time.monotonic()
    state: State = "done"
    error, blockers = "", tuple[str, ...]()
    try:
        await work(stack, board.teller(stack.name))
    except BlockedError as raised:
        state, error, blockers = "blocked", str(raised), tuple(map(str, raised.blockers))
    except (StackError, ClusterError, RolloutError, IllegalStepError) as raised:
        state, error = "failed", str(raised)
    seconds = time.monotonic() - started
    return Outcome(stack=stack.name, state=state, seconds=seconds, error=error, blockers=blockers)
