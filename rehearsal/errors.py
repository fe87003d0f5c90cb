"""The error that ends a rehearsal."""


class RehearsalError(Exception):
    """A rehearsal cannot begin, or something in it was not as it must be; the message says what to do."""
