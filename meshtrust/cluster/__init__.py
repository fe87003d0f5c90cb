"""A Kubernetes cluster: its API, Helm releases, readiness, and the operators cert-manager and trust-manager.

May import `meshtrust.pki`.
"""
