"""Work on one stack by a command: its progress is shown, and an error names what blocks it and the engine's log."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from meshtrust.commands.display.renderers import details, open_progress
from meshtrust.commands.options import console
from meshtrust.stacks.convergence import wait_until_converged
from meshtrust.stacks.progress import WORK_ERRORS, StackProgress, make_outcome
from meshtrust.stacks.stack import Stack


def run_work(
    stack: str,
    work: Callable[[StackProgress], Coroutine[Any, Any, bool]],
    *,
    as_json: bool,
    verbose: bool = False,
    log_directory: Path | None = None,
) -> None:
    """Run work on one stack, and show its progress and its end.

    Args:
        stack: Name of the stack; empty for an installation without one.
        work: The work; it returns whether nothing is left to do.
        as_json: Whether the progress is for a machine.
        verbose: Whether to show what the engine writes, too.
        log_directory: Where to keep what the engine writes; None for a temporary directory.

    Raises:
        Exception: As the work does, with notes: what blocks it, the engine's errors, and the path of the engine's log.
    """
    with open_progress(console(), as_json=as_json, verbose=verbose, log_directory=log_directory) as progress:
        started = time.monotonic()
        try:
            finished = asyncio.run(work(progress.of(stack)))
        except WORK_ERRORS as error:
            outcome = progress.keep(make_outcome(stack, started, error))
            progress.end(finished=False, error=str(error))
            for line in details(outcome):
                error.add_note(line)
            raise
        progress.keep(make_outcome(stack, started))
        end = "Done." if finished else "The step is taken. Run the same command for the next."
        progress.end(end, finished=finished)


def wait_for_goals(stacks: Sequence[Stack], seconds: float, *, as_json: bool, parallel: int = 1) -> None:
    """Wait until the last run of each stack reports that its goal is reached, and show what is waited for.

    Args:
        stacks: The stacks.
        seconds: How long to wait.
        as_json: Whether the progress is for a machine.
        parallel: How many stacks to read at a time.

    Raises:
        Exception: As `wait_until_converged` raises.
    """

    async def work(progress: StackProgress) -> bool:
        await wait_until_converged(stacks, seconds, progress.note, parallel=parallel)
        return True

    run_work(stacks[0].name if len(stacks) == 1 else "", work, as_json=as_json)
