"""What can go wrong with a rehearsal cluster."""


class ClusterError(Exception):
    """A cluster cannot be built, started or found; the message says what to do."""
