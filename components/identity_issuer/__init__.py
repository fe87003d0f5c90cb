"""The identity issuer, by who signs it: one module per mode, all of them about the same Secret for Linkerd."""

from components.identity_issuer.arguments import IdentityIssuerArgs, IssuerPolicy, IssuerReference
from components.identity_issuer.component import IdentityIssuer

__all__ = ["IdentityIssuer", "IdentityIssuerArgs", "IssuerPolicy", "IssuerReference"]
