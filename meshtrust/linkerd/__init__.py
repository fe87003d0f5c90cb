"""Linkerd as a cluster runs it: which pod trusts which root, the issuer in use, the webhooks, and restarts.

May import `meshtrust.lint`, `meshtrust.cluster` and `meshtrust.pki`.
"""
