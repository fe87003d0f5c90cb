"""The error that ends a rehearsal."""


class RehearsalError(Exception):
    """A rehearsal cannot begin, or a check in it failed; the message names the fix."""
