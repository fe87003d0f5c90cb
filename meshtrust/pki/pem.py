"""Certificates as PEM: read, normalise, fingerprint."""

import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
# Errors of cryptography for a certificate that it cannot parse.
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class PemError(ValueError):
    """Text that is not a plain list of certificates; the message gives the reason and never quotes key material."""


def read_bundle(text: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM bundle, in their order.

    Args:
        text: One or more CERTIFICATE blocks. Text between them, such as a subject line, is allowed.

    Raises:
        PemError: There is no certificate, one cannot be read, or the text holds something else - above all a
            private key, which must never travel with a bundle.
    """
    certificates = []
    for block in _BLOCK.finditer(text):
        label = block.group(1)
        if "PRIVATE KEY" in label:
            msg = "it holds a private key; a bundle holds certificates only"
            raise PemError(msg)
        if label != "CERTIFICATE":
            msg = f"it holds a {label} block; a bundle holds certificates only"
            raise PemError(msg)
        try:
            certificates.append(_read_in_full(partial(x509.load_pem_x509_certificate, block.group().encode())))
        except _UNREADABLE as error:
            msg = f"certificate {len(certificates) + 1} in it cannot be read ({error})"
            raise PemError(msg) from error
    if not certificates:
        msg = "it holds no certificate"
        raise PemError(msg)
    return certificates


def read_certificate(der: bytes) -> x509.Certificate:
    """Return the certificate of a DER.

    Raises:
        PemError: It is not a certificate, or cannot be read in full.
    """
    try:
        return _read_in_full(partial(x509.load_der_x509_certificate, der))
    except _UNREADABLE as error:
        msg = f"it is not a certificate that can be read ({error})"
        raise PemError(msg) from error


def _read_in_full(load: Callable[[], x509.Certificate]) -> x509.Certificate:
    """Load a certificate and read every part that callers use, because cryptography parses most parts on first use."""
    with warnings.catch_warnings():
        # Oddities that do not matter to Linkerd do not matter here.
        warnings.simplefilter("ignore")
        certificate = load()
        certificate.subject.rfc4514_string()
        certificate.issuer.rfc4514_string()
        certificate.public_key()
        _ = certificate.extensions, certificate.signature_algorithm_oid, certificate.serial_number
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate


def to_pem(certificate: x509.Certificate) -> str:
    """Return one certificate as PEM, without a newline at its end."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip()


def normalise_bundle(*texts: str) -> str:
    """Return the certificates of all texts as one bundle that is the same to the byte for the same certificates.

    Each certificate appears once, in the order given, and nothing follows the last block: Linkerd refuses a bundle with
    even a blank line there (linkerd2 issue 3414), and its charts hash the value before they trim it, so that a
    trailing newline gives control plane and data plane different ``linkerd.io/trust-root-sha256`` annotations.

    Raises:
        PemError: As for `read_bundle`.
    """
    return "\n".join(dict.fromkeys(to_pem(certificate) for text in texts for certificate in read_bundle(text)))


def without_private_keys(text: str) -> str:
    """Return a text for a message, without the PEM private keys that may be in it."""
    return _PRIVATE_KEY.sub("[secret]", text)


def sha256_hex(text: str) -> str:
    """Return the SHA-256 of a text in hex, as Linkerd makes ``linkerd.io/trust-root-sha256`` of a bundle."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's DER in lower-case hex, what ``openssl x509 -fingerprint`` shows."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def subject_of(certificate: x509.Certificate) -> str:
    """Return the name of a certificate's owner: the subject as RFC 4514 text, or the first DNS name, or none.

    The leaf of a Linkerd proxy has no subject, only a DNS name.
    """
    if certificate.subject:
        return certificate.subject.rfc4514_string({x509.NameOID.SERIAL_NUMBER: "serialNumber"})
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(x509.DNSName)), "")


@dataclass(frozen=True, kw_only=True)
class CertificateSummary:
    """The parts of a certificate by which people recognise it.

    Attributes:
        subject: Name of its owner, as `subject_of` returns it.
        fingerprint: SHA-256 of its DER, in hex.
        not_before: Start of its validity, UTC.
        not_after: End of its validity, UTC.
    """

    subject: str
    fingerprint: str
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> "CertificateSummary":
        """Return the summary of a certificate."""
        return cls(
            subject=subject_of(certificate),
            fingerprint=fingerprint(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )

    def as_outputs(self) -> dict[str, str]:
        """Return the summary as plain texts, its times as ISO 8601 in UTC."""
        return {
            "subject": self.subject,
            "fingerprint": self.fingerprint,
            "notBefore": self.not_before.isoformat(),
            "notAfter": self.not_after.isoformat(),
        }
