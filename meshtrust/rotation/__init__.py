"""The rules of a rotation: its steps, the gates before each, overrides, pledges of a fleet, and the roots that exist.

Reads a cluster but changes nothing. May import `meshtrust.linkerd`, `meshtrust.lint`, `meshtrust.cluster` and
`meshtrust.pki`.
"""
