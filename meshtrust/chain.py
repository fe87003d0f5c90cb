"""Chains of certificates, from a leaf up to a trust anchor."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from meshtrust.pem import subject_of

# Between root and leaf there are one or two; a few more are let through, as proxies let them.
_MAXIMUM_INTERMEDIATES = 4


class ChainError(Exception):
    """A certificate that does not chain to any of the trusted roots; the message says why."""


def verify_chain(
    certificates: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime
) -> list[x509.Certificate]:
    """Return the chain from a certificate to one of the roots, both included.

    Args:
        certificates: The certificate, followed by what it was served with, in any order.
        roots: The trusted roots.
        at: The moment at which all of them have to be valid, with a time zone.

    Raises:
        ChainError: There is no such chain.

    Source: RFC 5280 §6 by `cryptography`'s verifier, without the rules of the public web (alternative names, key
    identifiers), which meshes do not follow: the identity issuer is a CA and may have no name but its subject.
    """
    first, *others = certificates
    ca_policy = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(at)
        .max_chain_depth(_MAXIMUM_INTERMEDIATES)
        .extension_policies(ca_policy=ca_policy, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        return list(verifier.verify(first, others).chain)
    except VerificationError as error:
        name = subject_of(first) or "a certificate without a name"
        msg = f"{name} chains to none of the {len(roots)} trusted roots: {error}"
        raise ChainError(msg) from error
