"""Standard output and standard error that take every text, whatever encoding the environment says."""

import codecs
import io
import sys

_HANDLER = "meshtrust.legible"
# Legible substitutes for the signs that commands draw with; of one character, so that tables keep their columns.
_SUBSTITUTES = {
    "✓": "+",
    "✗": "x",
    "·": "-",
    "→": ">",
    "█": "#",
    "…": "~",
}


def accept_every_text() -> None:
    """Have what an encoding lacks written as something that it has, instead of ending the command.

    A command that ends in the middle of a message may have changed half of what it was to change.
    """
    codecs.register_error(_HANDLER, _substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(sign, "?") for sign in lacking), error.end
