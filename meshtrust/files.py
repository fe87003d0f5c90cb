"""Files that are read and written as UTF-8, whatever the locale is, and replaced as a whole; and YAML."""

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

# Pulumi, kubectl and YAML know no other encoding.
ENCODING = "utf-8"
# libyaml is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
    """
    return path.read_text(encoding=ENCODING)


def parse_yaml(text: str) -> Any:
    """Return what a text is in YAML.

    Raises:
        ValueError: It is none, or a value in it is none, such as a date. The message quotes nothing of the text, which
            may have a secret in the wrong place.
    """
    try:
        return yaml.load(text, Loader=_LOADER)  # noqa: S506 both are safe
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        msg = f"it is not YAML from line {mark.line + 1} on" if mark else "it is not YAML"
        raise ValueError(msg) from error
    # PyYAML makes objects of keys and nested values without a check of its own.
    except (TypeError, RecursionError) as error:
        msg = "it has a value that YAML may have and this program does not take"
        raise ValueError(msg) from error


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
