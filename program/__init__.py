"""The Pulumi program: what a stack declares, what its configuration says, and what may refuse a run of it."""
