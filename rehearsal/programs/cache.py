"""The directory that keeps what was built, and the lock that lets one process build at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from rehearsal.programs.errors import BuildError


def cache_directory() -> Path:
    """Return the cache: MESHTRUST_CACHE, else meshtrust below XDG_CACHE_HOME, else below ``~/.cache``."""
    own = os.environ.get("MESHTRUST_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshtrust"


@contextlib.contextmanager
def locked_cache(console: Console) -> Iterator[Path]:
    """Make the cache, and let one process build in it at a time, whichever checkout it belongs to.

    Args:
        console: Told of another build that is waited for.

    Raises:
        BuildError: This user cannot write there.
    """
    cache = cache_directory()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        handle = (cache / "build.lock").open("w")
    except OSError as error:
        msg = (
            f"The rehearsal's cache {cache} cannot be written: {error.strerror}. Set MESHTRUST_CACHE to a directory "
            "that this user can write, or make this user its owner."
        )
        raise BuildError(msg) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("Waiting for another build of the rehearsal's programs ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield cache
