"""Files that are read and written as UTF-8, whatever the locale is, and replaced as a whole."""

import os
import tempfile
from pathlib import Path

# Pulumi, kubectl and YAML know no other encoding.
ENCODING = "utf-8"


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
    """
    return path.read_text(encoding=ENCODING)


def replace_text(path: Path, text: str, mode: int) -> None:
    """Write a file so that a reader sees the old text or the new one, and never a part; nothing is left of a failure.

    Args:
        path: The file; it need not be there.
        text: Its new text.
        mode: Its permissions.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding=ENCODING) as file:
            file.write(text)
        draft.chmod(mode)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
