"""Waits that poll a condition with a deadline, and report what they wait for."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from meshtrust.cluster.api import UnreachableError

_FIRST_SECONDS, _LAST_SECONDS = 0.05, 0.2

Notify = Callable[[str], None]


def pauses(longest: float = _LAST_SECONDS) -> Iterator[float]:
    """Yield the seconds to wait before each next look: few at first, and never more than the longest pause."""
    seconds = _FIRST_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, longest)


def silent(_: str) -> None:
    """Ignore a report."""


async def wait_until_met(
    look: Callable[[], Awaitable[str]], seconds: float, notify: Notify = silent, *, longest_pause: float = _LAST_SECONDS
) -> str:
    """Look until there is nothing to wait for any more, or the time is over.

    An API server that gives no answer does not end the wait: it may be back before the time is over.

    Args:
        look: Returns what is waited for, as the rest of a sentence that begins with "Waiting for", or empty text
            once it is there. It raises if waiting cannot help.
        seconds: How long to wait.
        notify: Gets that sentence, at once and each time that it changes.
        longest_pause: Seconds between two looks at most. The last look is at the end of the time.

    Returns:
        What was still missing when the time was over; empty if it has come.
    """
    deadline, reported, waits = time.monotonic() + seconds, "", ""
    for pause in pauses(longest_pause):
        try:
            waits = await look()
        except UnreachableError as error:
            waits = f"the API server: {error}"
        if not waits or time.monotonic() >= deadline:
            break
        if waits != reported:
            notify(f"Waiting for {waits}")
            reported = waits
        await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
    return waits
