"""Runs of the real program without a cluster, an account or the Pulumi CLI."""
