"""Runs of the unmodified program on a cluster of real parts, without an account."""
