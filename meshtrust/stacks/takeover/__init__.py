"""Takeover of what is on a cluster before a stack has deployed it: a Linkerd of other means, a killed run's release."""
