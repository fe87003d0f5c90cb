"""Log files of what the engine writes: one for each stack, in a directory that only this user can read."""

import shutil
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp

from meshtrust.files import ENCODING
from meshtrust.stacks.stack import StackError


class EngineLogs:
    """Keeps the engine's output of each stack in a file.

    A temporary directory is removed by `close`, unless a message has named one of its files.

    Args:
        directory: Where to keep the files; None for a temporary directory, made when the engine first writes.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._stays = directory is not None

    def prepare(self) -> None:
        """Make the directory, if one was named, and check that files can be written there.

        Raises:
            StackError: They cannot.
        """
        if self._directory is None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with TemporaryFile(dir=self._directory):
                pass
        except OSError as error:
            msg = (
                f'--log-directory is "{self._directory}", where no log can be written: {error.strerror}. Name a '
                "directory that can be written to, or none for a temporary one."
            )
            raise StackError(msg) from error

    def keep(self, stack: str) -> Path | None:
        """Return the path of a stack's file, for a message that names it, and keep it; None if nothing was written."""
        path = self._path(self._directory, stack) if self._directory else None
        if path is None or not path.exists():
            return None
        self._stays = True
        return path

    def keep_all(self) -> Path | None:
        """Return the directory, for a message that names it, and keep it; None if nothing was written."""
        if self._directory is None or not self._directory.exists():
            return None
        self._stays = True
        return self._directory

    def write(self, stack: str, line: str) -> None:
        """Add a line to a stack's file.

        Raises:
            OSError: The file cannot be written.
        """
        if self._directory is None:
            self._directory = Path(mkdtemp(prefix="meshtrust-"))
        with self._path(self._directory, stack).open("a", encoding=ENCODING) as file:
            file.write(f"{line}\n")

    def close(self) -> None:
        """Remove a temporary directory that no message has named."""
        if self._directory and not self._stays:
            shutil.rmtree(self._directory, ignore_errors=True)

    @staticmethod
    def _path(directory: Path, stack: str) -> Path:
        # A stack's name may have its organization and project before it.
        return directory / f"{stack.replace('/', '.')}.log"
