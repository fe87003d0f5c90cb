"""Certificates signed by a CA whose key is at hand, as cert-manager's CA issuer signs them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshtrust.pki.durations import parse_duration
from meshtrust.pki.pem import read_bundle, to_pem
from meshtrust.pki.private_key import key_to_pem, read_private_key

# Names of usages in a Certificate's spec (cert-manager ``pkg/apis/certmanager/v1/types.go``), as far as specs of this
# program have them.
_EXTENDED = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}
_SIGNING = ("cert sign", "crl sign")


def sign_certificate(spec: Mapping[str, Any], chain: str, key: str, now: datetime) -> dict[str, str]:
    """Return the content of the Secret that cert-manager would write for a Certificate, with a new ECDSA P-256 key.

    Args:
        spec: The Certificate's spec.
        chain: The CA's certificate, followed by those above it, as PEM; the last is the root.
        key: The CA's key as PEM.
        now: The time from which it is valid; it ends with the CA at the latest.

    Raises:
        PemError: Chain or key cannot be read.

    Source: cert-manager ``pkg/controller/certificaterequests/ca/ca.go``, ``pkg/util/pki/parse_certificate_chain.go``:
    the root is not in ``tls.crt``, and alone in ``ca.crt``.
    """
    above = read_bundle(chain)
    authority, signing_key = above[0], read_private_key(key)
    own_key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in spec["dnsNames"]])
    end = min(now + parse_duration(spec["duration"]), authority.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, spec["commonName"])])
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=authority.subject, public_key=own_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=spec["isCA"], path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()), critical=False)
        .add_extension(names, critical=False)
    )
    if (authority_key := _key_identifier(authority)) is not None:
        builder = builder.add_extension(authority_key, critical=False)
    signs = set(spec["usages"])
    if signs.intersection(_SIGNING):
        builder = builder.add_extension(
            _key_usage(signs_certificates="cert sign" in signs, signs_lists="crl sign" in signs), critical=True
        )
    extended = [identifier for name, identifier in _EXTENDED.items() if name in signs]
    signed = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False).sign(signing_key, hashes.SHA256())
    *below_root, root = above
    return {
        "tls.crt": "\n".join(map(to_pem, [signed, *below_root])),
        "tls.key": _as_encoded(own_key, spec["privateKey"].get("encoding", "PKCS1")),
        "ca.crt": to_pem(root),
    }


def _key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier | None:
    """Return what a certificate calls its CA's key: as the CA's own certificate does, or not at all.

    How an identifier is made from a key is everyone's own choice, and OpenSSL finds no issuer under another identifier
    (RFC 5280, section 4.2.1.1; Go ``crypto/x509``, CreateCertificate).
    """
    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _key_usage(*, signs_certificates: bool, signs_lists: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=signs_certificates,
        crl_sign=signs_lists,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _as_encoded(key: ec.EllipticCurvePrivateKey, encoding: str) -> str:
    if encoding == "PKCS1":
        return key_to_pem(key)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
