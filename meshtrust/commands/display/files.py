"""Files that commands write for their users."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

UNWRITABLE = 3


@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """End the command with an error if a file cannot be written.

    Args:
        what: What the file is to hold, as the subject of the message.
        path: The file.

    Raises:
        Exit: An OSError was raised; the exit code is 3.
    """
    try:
        yield
    except OSError as error:
        typer.echo(f"error: {what} cannot be written to {path}: {error.strerror}", err=True)
        raise typer.Exit(UNWRITABLE) from None
