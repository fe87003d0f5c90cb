"""Properties of certificates and keys that rules use, read once, so that every rule gets readable ones only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from meshtrust.lint.requirements import P256
from meshtrust.pki.pem import fingerprint

E = TypeVar("E", bound=x509.ExtensionType)

_SIGNATURES = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ECDSA-SHA256",
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: "ECDSA-SHA384",
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: "ECDSA-SHA512",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "SHA1-RSA",
    SignatureAlgorithmOID.RSA_WITH_SHA256: "SHA256-RSA",
    SignatureAlgorithmOID.RSA_WITH_SHA384: "SHA384-RSA",
    SignatureAlgorithmOID.RSA_WITH_SHA512: "SHA512-RSA",
    SignatureAlgorithmOID.RSASSA_PSS: "RSASSA-PSS",
    SignatureAlgorithmOID.ED25519: "Ed25519",
}
_USAGES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "server auth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "client auth",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "any",
}


@dataclass(frozen=True, kw_only=True)
class KeyFacts:
    """A public key: of a certificate, or the public half of a private key.

    Attributes:
        algorithm: Such as "ECDSA on secp256r1", "RSA of 2048 bits" or "Ed25519".
        public: The key itself, as DER, to compare keys by.
    """

    algorithm: str
    public: bytes

    @property
    def is_p256(self) -> bool:
        """Whether it is the key that Linkerd asks for."""
        return self.algorithm == P256


@dataclass(frozen=True, kw_only=True)
class CertificateFacts:
    """A certificate, with the properties that rules use.

    Attributes:
        certificate: The certificate itself.
        subject: Its subject as RFC 4514 text, for people.
        fingerprint: SHA-256 of its DER, in hex.
        key: Its public key.
        signature: Its signature's algorithm, such as "ECDSA-SHA256".
        ca: Whether it is marked as a CA.
        path_length: How many CAs may follow below it; None if that is not limited.
        signs_certificates: Whether its key usage, if it has one, includes certificate signing.
        extended_usages: Its extended key usages by name or OID; None if it has no such list.
        not_before: Start of its validity, UTC.
        not_after: End of its validity, UTC.
    """

    certificate: x509.Certificate
    subject: str
    fingerprint: str
    key: KeyFacts
    signature: str
    ca: bool
    path_length: int | None
    signs_certificates: bool
    extended_usages: tuple[str, ...] | None
    not_before: datetime
    not_after: datetime

    @cached_property
    def self_signed(self) -> bool:
        """Whether its own key signed it, as a root's does.

        Equal names are not proof, since a root and its issuer may share one. If the signature cannot be verified here,
        the key identifiers decide.
        """
        if self.certificate.issuer != self.certificate.subject:
            return False
        try:
            self.certificate.verify_directly_issued_by(self.certificate)
        except InvalidSignature:
            return False
        except (ValueError, TypeError, UnsupportedAlgorithm):
            own = _extension(self.certificate, x509.SubjectKeyIdentifier)
            above = _extension(self.certificate, x509.AuthorityKeyIdentifier)
            return own is None or above is None or above.key_identifier in (None, own.digest)
        return True

    @property
    def is_v1(self) -> bool:
        """Whether it is of X.509 version 1, which has no CA flag and no other extension."""
        return self.certificate.version is x509.Version.v1

    def issued(self, other: "CertificateFacts") -> bool:
        """Whether its key signed another certificate that names it as its issuer."""
        try:
            other.certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


def certificate_facts(certificate: x509.Certificate) -> CertificateFacts:
    """Return the facts of a certificate that `meshtrust.pki.pem` read."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    oid = certificate.signature_algorithm_oid
    return CertificateFacts(
        certificate=certificate,
        subject=certificate.subject.rfc4514_string() or "a certificate without a subject",
        fingerprint=fingerprint(certificate),
        key=_key_facts(certificate.public_key()),
        signature=_SIGNATURES.get(oid, oid.dotted_string),
        ca=constraints is not None and constraints.ca,
        path_length=constraints.path_length if constraints is not None else None,
        signs_certificates=usage is None or usage.key_cert_sign,
        extended_usages=None if extended is None else tuple(_USAGES.get(oid, oid.dotted_string) for oid in extended),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def read_key(label: str, der: bytes) -> KeyFacts | None:
    """Return the public half of a private key, or None if the key cannot be read.

    Args:
        label: Label of its PEM block, which names its encoding.
        der: Its content.
    """
    try:
        key = serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return _key_facts(key.public_key()) if _FORMS.get(label) == _form(der) else None


# The ASN.1 tag after the version, in each form of a key: RFC 5958, RFC 5915, RFC 8017.
_FORMS = {"PRIVATE KEY": 0x30, "EC PRIVATE KEY": 0x04, "RSA PRIVATE KEY": 0x02}


def _form(der: bytes) -> int:
    """Return the ASN.1 tag after the version in a private key's DER."""
    start = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    return der[start + 2 + der[start + 1]]


def path_to_root(first: CertificateFacts, others: Sequence[CertificateFacts]) -> list[CertificateFacts]:
    """Return a certificate and its issuers, from the nearest up, as far as they are among others."""
    path = [first]
    while not path[-1].self_signed:
        above = next((other for other in others if other not in path and other.issued(path[-1])), None)
        if above is None:
            break
        path.append(above)
    return path


def _key_facts(key: object) -> KeyFacts:
    if isinstance(key, ec.EllipticCurvePublicKey):
        algorithm = f"ECDSA on {key.curve.name}"
    elif isinstance(key, rsa.RSAPublicKey):
        algorithm = f"RSA of {key.key_size} bits"
    else:
        algorithm = type(key).__name__.removesuffix("PublicKey").lstrip("_")
    public = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyFacts(algorithm=algorithm, public=public)


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
