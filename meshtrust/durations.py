"""Go durations, the notation of cert-manager's and Linkerd's own settings (``48h``, ``1h30m``)."""

import re
from datetime import timedelta

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")


def parse_duration(text: str) -> timedelta:
    """Return the length of time that a Go duration names.

    Args:
        text: Numbers with the units h, m, s and ms, such as ``48h`` or ``1h30m``. Days are no unit of Go.

    Raises:
        ValueError: The text is empty, has another unit, or is not a duration.

    Source: Go's ``time.ParseDuration``, which reads ``spec.duration`` of a cert-manager Certificate.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        msg = f'"{text}" is not a Go duration'
        raise ValueError(msg)
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def format_duration(length: timedelta) -> str:
    """Return the Go duration of a length of time, in whole hours, minutes and seconds (``48h``, ``1h30m``)."""
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count]
    return "".join(parts) or "0s"
