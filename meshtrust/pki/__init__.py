"""X.509 rules that need no cluster: certificates and keys as PEM, chains, durations, and the modes of an issuer.

May import no other package of meshtrust.
"""
