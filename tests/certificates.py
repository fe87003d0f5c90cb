"""Certificates for tests, made on the spot: no key lies in the repository."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: SigningKey

    @classmethod
    def of(cls, pem: str, key_pem: str) -> "Pair":
        key = serialization.load_pem_private_key(key_pem.encode(), None)
        assert isinstance(key, SigningKey)
        return cls(x509.load_pem_x509_certificate(pem.encode()), key)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()

    @property
    def pkcs8_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()


def make_request(
    key: SigningKey,
    common_name: str = "intermediate.linkerd.cluster.local",
    organization: str = "east",
    organizational_unit: str = "generation 2026",
    *,
    country: str = "",
    dns_names: Sequence[str] = (),
    **named: str,
) -> str:
    """Make a request for a certificate, as PEM; names may be given as Pulumi's tls provider spells them."""
    names = {
        NameOID.COMMON_NAME: named.get("commonName", common_name),
        NameOID.ORGANIZATION_NAME: organization,
        NameOID.ORGANIZATIONAL_UNIT_NAME: named.get("organizationalUnit", organizational_unit),
    }
    if country:
        names[NameOID.COUNTRY_NAME] = country
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names.items()])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if dns_names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names])
        builder = builder.add_extension(alternatives, critical=False)
    request = builder.sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def make_certificate(
    common_name: str = "root.linkerd.cluster.local",
    *,
    generation: str = "",
    issuer: Pair | None = None,
    key: SigningKey | None = None,
    ca: bool = True,
    path_length: int | None = None,
    key_cert_sign: bool = True,
    digital_signature: bool = True,
    extended_usages: Sequence[x509.ObjectIdentifier] = (),
    names: Sequence[str] = (),
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
    days: float = 10,
    hours: int = 0,
    age: float = 1 / 24,
    not_after: datetime | None = None,
    public_key: Any = None,
    key_identifier: bytes = b"",
) -> Pair:
    """Make a certificate, so many days old, with so many to live, or with a fixed end.

    It is a root, which may be named after a generation as the program does it, or one under an issuer; or one for a
    public key whose key is elsewhere.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if generation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"generation {generation}"))
    subject = x509.Name(attributes)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public_key or key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=age))
        .not_valid_after(not_after or now + timedelta(days=days, hours=hours))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=digital_signature,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=key_cert_sign,
                crl_sign=key_cert_sign,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if extended_usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended_usages), critical=False)
    if key_identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(key_identifier), critical=False)
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    signer = issuer.key if issuer else key
    hashed = None if isinstance(signer, ed25519.Ed25519PrivateKey) else algorithm or hashes.SHA256()
    return Pair(builder.sign(signer, hashed), key)


def make_v1_root(common_name: str = "root.linkerd.cluster.local") -> Pair:
    """Make a root of X.509 version 1, which `cryptography` makes none of."""
    key = ec.generate_private_key(ec.SECP256R1())
    with warnings.catch_warnings():
        # pyOpenSSL would have certificates made by `cryptography`.
        warnings.simplefilter("ignore", DeprecationWarning)
        made, pair = crypto.X509(), crypto.PKey.from_cryptography_key(key)
        made.set_version(0)
        made.set_serial_number(x509.random_serial_number())
        made.get_subject().CN = common_name
        made.set_issuer(made.get_subject())
        made.gmtime_adj_notBefore(-3600)
        made.gmtime_adj_notAfter(10 * 365 * 86400)
        made.set_pubkey(pair)
        made.sign(pair, "sha256")
    return Pair(made.to_cryptography(), key)
