"""The error of a program that is not to be had."""

from rehearsal.errors import RehearsalError


class BuildError(RehearsalError):
    """A program cannot be built or found; the message names the fix."""
