"""The wait until stacks have reached the goals of their rotations, by the reports in their outputs."""

import asyncio
from collections.abc import Sequence

from meshtrust.cluster.backoff import Notify, wait_until_met
from meshtrust.rotation.report import RotationReport
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import BlockedError
from meshtrust.stacks.stack import Stack, StackError

# Runs take minutes, and each look runs the CLI once for each stack.
_LONGEST_PAUSE_SECONDS = 10.0
# The most stacks that a message names.
_NAMED = 5


async def wait_until_converged(stacks: Sequence[Stack], seconds: float, notify: Notify, *, parallel: int = 1) -> None:
    """Wait until the last run of each stack reports that the goal in the stack's file is reached.

    Asks the backend alone, and no cluster.

    Args:
        stacks: The stacks.
        seconds: How long to wait.
        notify: Gets what is waited for, at once and each time that it changes.
        parallel: How many stacks to read at a time.

    Raises:
        BlockedError: The time is over; the message says what is waited for.
        StackError: A stack cannot be read in the first look, or its last run was of a version without reports.
    """
    limit = asyncio.Semaphore(parallel)
    were_read: set[str] = set()

    async def look_at(stack: Stack) -> str:
        async with limit:
            try:
                deployed = StackOutputs(await asyncio.to_thread(stack.outputs))
            except StackError as error:
                if stack.name not in were_read:
                    raise
                return f"an answer of the backend: {error}"
        were_read.add(stack.name)
        return _find_wait(stack, deployed)

    async def look() -> str:
        waits = [
            f"{stack.name}: {wait}"
            for stack, wait in zip(stacks, await asyncio.gather(*map(look_at, stacks)), strict=True)
            if wait
        ]
        more = f"; and {len(waits) - _NAMED} more stacks" if len(waits) > _NAMED else ""
        return "; ".join(waits[:_NAMED]) + more

    if waits := await wait_until_met(look, seconds, notify, longest_pause=_LONGEST_PAUSE_SECONDS):
        msg = f"The goal is not reached after {seconds:.0f} s. This waits for {waits}"
        raise BlockedError(msg, [])


def _find_wait(stack: Stack, deployed: StackOutputs) -> str:
    """Return what a stack waits for on the way to the goal in its file; empty if it has reached it.

    Raises:
        StackError: Its last run was of a version without reports, or its file cannot be read.
    """
    if not deployed.anchors:
        # The first run of a cluster in a fleet only requests its intermediate.
        return "its first deployment"
    report = deployed.rotation
    if report is None:
        msg = (
            f'The outputs of stack "{stack.name}" have no report of a rotation that this version can read, so that it '
            f"is not known whether its goal is reached. Deploy it with this version: pulumi up --stack {stack.name}"
        )
        raise StackError(msg)
    if not _is_goal_of(report, stack):
        return f"a run with the goal in {stack.file.name} (the goal of the last run was {report.goal_text})"
    if report.is_converged:
        return ""
    named = f": {'; '.join(report.waiting_lines)}" if report.waiting_lines else ""
    return ", ".join(report.state_texts) + named


def _is_goal_of(report: RotationReport, stack: Stack) -> bool:
    """Whether the last run had the goal in a stack's file; an anchor stack has no signer."""
    configured, goal = stack.configured, report.goal
    return set(configured.anchors) == set(goal.anchors) and goal.signer in ("", configured.signer)
