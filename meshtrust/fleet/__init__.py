"""A fleet: the stack that owns the trust anchor, and the stacks of the clusters that share it."""
