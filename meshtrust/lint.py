"""The rules of mesh credentials as pure functions: they judge what they are given and read nothing themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from meshtrust.durations import format_duration

E = TypeVar("E", bound=x509.ExtensionType)

# cert-manager, pkg/apis/certmanager/v1: MinimumCertificateDuration and MinimumRenewBefore.
MINIMUM_DURATION = timedelta(hours=1)
MINIMUM_RENEW_BEFORE = timedelta(minutes=5)
# linkerd-control-plane chart, identity.issuer.issuanceLifetime: how long a proxy's certificate lives.
LEAF_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, told so that a person can put it right.

    Attributes:
        subject: What it is about: a configuration key, or a certificate.
        wrong: What is wrong with it, naming the value.
        fix: What to do about it.
        severity: An error stops a run, a warning is shown.
    """

    subject: str
    wrong: str
    fix: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """Return the finding as sentences."""
        return f"{self.subject} {self.wrong}. {self.fix}."


def lint_issuer_window(duration: timedelta, renew_before: timedelta, anchor_validity: timedelta) -> Iterator[Finding]:
    """Judge the lifetime of the identity issuer against cert-manager, the trust anchor and the proxies.

    Args:
        duration: Lifetime of the issuer.
        renew_before: How long before its end cert-manager re-issues it.
        anchor_validity: Lifetime of the trust anchor.

    Source: cert-manager's minimums; linkerd2 ``pkg/tls/ca.go``, where a leaf never outlives its issuer, so that an
    issuer with less than a leaf's lifetime left hands out certificates that are too short.
    """
    shown, shown_renewal = format_duration(duration), format_duration(renew_before)
    if duration < MINIMUM_DURATION:
        yield Finding(
            subject="issuer.duration",
            wrong=f'is "{shown}", below cert-manager\'s minimum of {format_duration(MINIMUM_DURATION)}',
            fix="Set it to 48h, or to anything from 1h up",
        )
    if renew_before < MINIMUM_RENEW_BEFORE:
        yield Finding(
            subject="issuer.renewBefore",
            wrong=f'is "{shown_renewal}", below cert-manager\'s minimum of {format_duration(MINIMUM_RENEW_BEFORE)}',
            fix="Set it to 25h, or to anything from 5m up",
        )
    if renew_before >= duration:
        yield Finding(
            subject="issuer.renewBefore",
            wrong=f'is "{shown_renewal}", not below issuer.duration ("{shown}"), so that every issuer would be due '
            "for renewal the moment it is issued",
            fix="Set it to 25h with a duration of 48h, or to anything below the duration",
        )
    elif renew_before < LEAF_LIFETIME:
        yield Finding(
            subject="issuer.renewBefore",
            wrong=f'is "{shown_renewal}", below the {format_duration(LEAF_LIFETIME)} of a proxy\'s certificate: '
            "an issuer close to its renewal signs certificates that end with it",
            fix="Set it to 25h",
            severity="warning",
        )
    if duration >= anchor_validity:
        yield Finding(
            subject="issuer.duration",
            wrong=f'is "{shown}", and anchor.validityDays is {anchor_validity.days}: the issuer would outlive its '
            "trust anchor and be refused by every proxy from that day on",
            fix="Set a shorter duration, such as 48h, or give the anchor more days",
        )


def lint_trust_anchor(certificate: x509.Certificate) -> Iterator[str]:
    """Say what keeps a certificate from being a trust anchor of Linkerd; nothing where all is well.

    Source: linkerd2 ``pkg/issuercerts/issuercerts.go`` (ECDSA P-256, or RSA of 2048 or 4096 bits; SHA-256 signatures);
    the CA flag and key usage from RFC 5280 §4.2.1.3 and §4.2.1.9.
    """
    yield from _lint_anchor_key(certificate.public_key())
    if certificate.signature_algorithm_oid not in (
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
    ):
        yield "is not signed with SHA-256, and Linkerd takes only that"
    if certificate.issuer != certificate.subject:
        yield "is not self-signed, so that it is no root"
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        yield "is not marked as a CA"
    elif constraints.path_length == 0:
        yield "has a path length of 0, which leaves no room for the identity issuer to sign"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        yield "has a key usage without certificate signing"


def _lint_anchor_key(key: object) -> Iterator[str]:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            yield f"has an ECDSA key on {key.curve.name}, and Linkerd takes only P-256"
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in (2048, 4096):
            yield f"has an RSA key of {key.key_size} bits, and Linkerd takes only 2048 and 4096"
    else:
        yield "has neither an ECDSA nor an RSA key, and Linkerd takes only those"


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
