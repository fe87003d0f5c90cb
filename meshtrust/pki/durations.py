"""Go durations, the notation of cert-manager's and Linkerd's own settings (``48h``, ``1h30m``)."""

import re
from datetime import timedelta

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|h|m|s)")
# Go counts nanoseconds in 63 bits: 292 years.
_LONGEST = 2**63 / 1e9


def parse_duration(text: str) -> timedelta:
    """Return the length of time that a Go duration names.

    Args:
        text: Numbers with the units h, m, s, ms, us and ns, such as ``48h`` or ``1h30m``. Go has no unit for days.

    Raises:
        ValueError: The text is empty, has another unit, is not a duration, or is one of more than 292 years.

    Source: Go's ``time.ParseDuration``, which reads ``spec.duration`` of a cert-manager Certificate.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        msg = f'"{text}" is not a Go duration'
        raise ValueError(msg)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        msg = f'"{text}" is longer than a Go duration can be, 292 years'
        raise ValueError(msg)
    return timedelta(seconds=seconds)


def format_duration(length: timedelta) -> str:
    """Return the Go duration of a length of time, in whole hours, minutes and seconds (``48h``, ``1h30m``)."""
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count]
    return "".join(parts) or "0s"


def format_left(left: timedelta) -> str:
    """Return a span of time for people: in days above three days, else in hours, else in minutes."""
    minutes = round(left.total_seconds() / 60)
    if minutes < 120:
        return "1 minute" if minutes == 1 else f"{minutes} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 72 * 60 else f"{minutes / 60 / 24:.0f} days"
