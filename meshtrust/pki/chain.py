"""Chains of certificates, from a leaf up to a trust anchor."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from meshtrust.pki.pem import subject_of

# Between root and leaf there are one or two. Proxies take up to six (rustls-webpki, MAX_SUB_CA_COUNT).
_MAXIMUM_INTERMEDIATES = 6


class ChainError(Exception):
    """A certificate that does not chain to any of the trusted roots; the message gives the reason."""


def verify_chain(
    certificates: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime
) -> list[x509.Certificate]:
    """Return the chain from a certificate to one of the roots, both included.

    Args:
        certificates: The certificate, followed by those that were served with it, in any order.
        roots: The trusted roots.
        at: Moment at which all of them have to be valid, with a time zone.

    Raises:
        ChainError: There is no such chain.

    Source: RFC 5280 §6 by `cryptography`'s verifier, without the rules of the public web (alternative names, key
    identifiers), which meshes do not follow: the identity issuer is a CA and may have no name but its subject. Linkerd
    verifies twice, and a chain has to pass both: the identity service by Go's ``crypto/x509`` (linkerd2
    ``pkg/tls/cred.go``), the proxies by rustls-webpki. Where they differ, the stricter holds:

    - The root has to be valid in time, for Go's sake; proxies do not look.
    - A list of extended key usages, in any certificate, has to name server auth itself. Go would take "any" as well.
    - A CA's key usage, if it has one, includes certificate signing; its path length counts every CA below it, also one
      that is named as its own issuer.
    """
    first, *others = certificates
    ca_policy = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_certificate_signing)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_server_auth)
    )
    ee_policy = ExtensionPolicy.permit_all().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_server_auth
    )
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(at)
        .max_chain_depth(_MAXIMUM_INTERMEDIATES)
        .extension_policies(ca_policy=ca_policy, ee_policy=ee_policy)
        .build_client_verifier()
    )
    try:
        return list(verifier.verify(first, others).chain)
    except VerificationError as error:
        name = subject_of(first) or "a certificate without a name"
        # The verifier names its own parts, which mean nothing to a reader.
        reason = str(error).replace("Python extension validator failed: ValueError: ", "")
        reason = reason.partition(" (encountered processing")[0]
        msg = f"{name} chains to none of the {len(roots)} trusted roots: {reason}"
        raise ChainError(msg) from error


def find_chain(
    certificates: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime
) -> list[x509.Certificate]:
    """Return the chain from a certificate to one of the roots, as `verify_chain` does; empty if there is none."""
    if not certificates:
        return []
    try:
        return verify_chain(certificates, roots, at)
    # Without roots, or with an extension that cannot be read.
    except (ChainError, ValueError):
        return []


def _check_certificate_signing(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        msg = "the key usage of a CA does not include certificate signing"
        raise ValueError(msg)


def _check_server_auth(_policy: Policy, _certificate: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
    if usages is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        msg = "the extended key usages of a certificate do not include server auth"
        raise ValueError(msg)
