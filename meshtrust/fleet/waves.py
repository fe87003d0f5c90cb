"""Work on many clusters: side by side up to a limit, in waves that grow, and no further after a failure."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from meshtrust.stacks.progress import WORK_ERRORS, Outcome, Progress, StackProgress, make_outcome
from meshtrust.stacks.stack import Stack

Work = Callable[[Stack, StackProgress], Awaitable[None]]


class FleetError(Exception):
    """Work on a fleet that did not end well for every cluster; the message names those.

    Attributes:
        outcomes: The outcome of each stack.
        exit_code: Exit code of a command: 4 if all that went wrong has to wait, else 1.
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


async def run_waves(title: str, stacks: Sequence[Stack], work: Work, *, parallel: int, progress: Progress) -> None:
    """Work on stacks wave by wave; after a failure, those that have begun come to their end and no other begins.

    Args:
        title: The work in words.
        stacks: The stacks, in the order in which they are worked on.
        work: The work on one stack.
        parallel: How many stacks at a time.
        progress: Where the work is reported.

    Raises:
        FleetError: It did not end well for one of them.
    """
    await _run(title, split_waves(stacks), work, parallel=parallel, progress=progress)


async def run_all(title: str, stacks: Sequence[Stack], work: Work, *, parallel: int, progress: Progress) -> None:
    """Work on stacks in one wave; otherwise as `run_waves`."""
    await _run(title, [stacks] if stacks else [], work, parallel=parallel, progress=progress)


async def _run(title: str, waves: Sequence[Sequence[Stack]], work: Work, *, parallel: int, progress: Progress) -> None:
    stacks = [stack for wave in waves for stack in wave]
    if not stacks:
        return
    progress.phase(title, [stack.name for stack in stacks])
    limit, outcomes = asyncio.Semaphore(parallel), dict[str, Outcome]()

    async def run_one(stack: Stack) -> None:
        async with limit:
            if any(outcome.went_wrong for outcome in outcomes.values()):
                return
            progress.began(stack.name)
            outcomes[stack.name] = await _outcome(stack, work, progress)
            progress.ended(outcomes[stack.name])

    for wave in waves:
        if not any(outcome.went_wrong for outcome in outcomes.values()):
            await asyncio.gather(*map(run_one, wave))
    if any(outcome.went_wrong for outcome in outcomes.values()):
        for stack in stacks:
            if stack.name not in outcomes:
                outcomes[stack.name] = Outcome(stack=stack.name, state="not begun")
                progress.ended(outcomes[stack.name])
        raise FleetError(title, [outcomes[stack.name] for stack in stacks])


async def _outcome(stack: Stack, work: Work, progress: Progress) -> Outcome:
    started = time.monotonic()
    try:
        await work(stack, progress.of(stack.name))
    except WORK_ERRORS as error:
        return make_outcome(stack.name, started, error)
    return make_outcome(stack.name, started)
