"""How often is looked at what may be there at once, or in minutes."""

from collections.abc import Iterator

_FIRST_SECONDS, _LAST_SECONDS = 0.05, 0.2


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each next look: few at first, and never more than a fifth of one."""
    seconds = _FIRST_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, _LAST_SECONDS)
