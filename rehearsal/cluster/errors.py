"""The error of a rehearsal cluster."""

from rehearsal.errors import RehearsalError


class ClusterError(RehearsalError):
    """A cluster cannot be started or found; the message names the fix."""
