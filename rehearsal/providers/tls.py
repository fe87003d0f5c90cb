"""pulumi-tls's PrivateKey, SelfSignedCert, CertRequest and LocallySignedCert, as version 5.6.2 has them.

The rules are those of the Terraform provider behind it (hashicorp/terraform-provider-tls, internal/provider):
serial numbers are random below 2^128 and are the certificates' ids; every certificate carries basic constraints;
a CA always gets its subject key id (the SHA-1 of the public key); a certificate signed by another names that one's
key id; a `maxPathLength` of 0 is lost, because Go's x509 takes a zero without `MaxPathLenZero` for unset.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import secrets
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rehearsal.providers.errors import ProviderError
from rehearsal.providers.generated import GeneratedProvider, Kind
from rehearsal.providers.values import Properties

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_CURVES: dict[str, Callable[[], ec.EllipticCurve]] = {
    "P224": ec.SECP224R1,
    "P256": ec.SECP256R1,
    "P384": ec.SECP384R1,
    "P521": ec.SECP521R1,
}
_KEY_USAGES = {
    "digital_signature": "digital_signature",
    "content_commitment": "content_commitment",
    "key_encipherment": "key_encipherment",
    "data_encipherment": "data_encipherment",
    "key_agreement": "key_agreement",
    "cert_signing": "key_cert_sign",
    "crl_signing": "crl_sign",
    "encipher_only": "encipher_only",
    "decipher_only": "decipher_only",
}
_MICROSOFT = "1.3.6.1.4.1.311"
_EXTENDED_KEY_USAGES = {
    "any_extended": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec_end_system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec_tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec_user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft_server_gated_crypto": x509.ObjectIdentifier(f"{_MICROSOFT}.10.3.3"),
    "netscape_server_gated_crypto": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
    "microsoft_commercial_code_signing": x509.ObjectIdentifier(f"{_MICROSOFT}.2.1.22"),
    "microsoft_kernel_code_signing": x509.ObjectIdentifier(f"{_MICROSOFT}.61.1.1"),
}
_SUBJECT = {
    "country": NameOID.COUNTRY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "streetAddresses": NameOID.STREET_ADDRESS,
    "postalCode": NameOID.POSTAL_CODE,
    "commonName": NameOID.COMMON_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
_REQUEST_INPUTS = ("dnsNames", "ipAddresses", "uris", "subject")
_CERTIFICATE_DEFAULTS = {
    "earlyRenewalHours": 0,
    "isCaCertificate": False,
    "setSubjectKeyId": False,
    "readyForRenewal": False,
}
_CERTIFICATE_COMPUTED = ("certPem", "validityStartTime", "validityEndTime", "readyForRenewal")

_Builder = TypeVar("_Builder", x509.CertificateBuilder, x509.CertificateSigningRequestBuilder)


def _generate_key(inputs: dict[str, Any]) -> tuple[str, Properties]:
    key: PrivateKey
    if inputs["algorithm"] == "RSA":
        key = rsa.generate_private_key(65537, inputs["rsaBits"])
    elif inputs["algorithm"] == "ECDSA":
        key = ec.generate_private_key(_CURVES[inputs["ecdsaCurve"]]())
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    pkcs8 = _private_pem(key, serialization.PrivateFormat.PKCS8)
    is_ed25519 = isinstance(key, ed25519.Ed25519PrivateKey)
    traditional = pkcs8 if is_ed25519 else _private_pem(key, serialization.PrivateFormat.TraditionalOpenSSL)
    identity, public = _public_outputs(key)
    openssh = _private_pem(key, serialization.PrivateFormat.OpenSSH) if public["publicKeyOpenssh"] else ""
    return identity, {
        "privateKeyPem": traditional,
        "privateKeyPemPkcs8": pkcs8,
        "privateKeyOpenssh": openssh,
        **public,
    }


def _private_pem(key: PrivateKey, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _public_outputs(key: PrivateKey) -> tuple[str, Properties]:
    public = key.public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    der = public.public_bytes(serialization.Encoding.DER, info)
    openssh = md5 = sha256 = ""
    try:
        line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except (UnsupportedAlgorithm, ValueError):
        pass  # OpenSSH knows no P-224; the real provider leaves these outputs empty.
    else:
        fingerprint = serialization.ssh_key_fingerprint(public, hashes.SHA256())
        openssh = line.decode() + "\n"
        md5 = serialization.ssh_key_fingerprint(public, hashes.MD5()).hex(":")  # noqa: S303 - OpenSSH's old form
        sha256 = "SHA256:" + base64.b64encode(fingerprint).decode().rstrip("=")
    return hashlib.sha1(der).hexdigest(), {  # noqa: S324 - an identifier
        "publicKeyPem": public.public_bytes(serialization.Encoding.PEM, info).decode(),
        "publicKeyOpenssh": openssh,
        "publicKeyFingerprintMd5": md5,
        "publicKeyFingerprintSha256": sha256,
    }


def _load_key(pem: str, property_name: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProviderError(f"Failed to parse private key PEM: {property_name}: {error}") from error
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise ProviderError(f"Failed to parse private key PEM: {property_name}: unsupported key type")


def _algorithm(key: PrivateKey) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePrivateKey) else "ED25519"


def _signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash that Go's x509 picks for a signing key."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256:
        return hashes.SHA384() if key.key_size == 384 else hashes.SHA512()
    return hashes.SHA256()


def _subject(given: dict[str, Any] | None) -> x509.Name:
    attributes = []
    for name, oid in _SUBJECT.items():
        value = (given or {}).get(name)
        attributes += [
            x509.NameAttribute(oid, item)
            for item in (value if isinstance(value, list) else [value])
            if item is not None
        ]
    return x509.Name(attributes)


def _alternative_names(inputs: dict[str, Any]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in inputs.get("dnsNames") or []]
    for text in inputs.get("ipAddresses") or []:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError as error:
            raise ProviderError(f'Invalid IP address: Failed to parse "{text}"') from error
    names += [x509.UniformResourceIdentifier(uri) for uri in inputs.get("uris") or []]
    return names


def _add_names(builder: _Builder, names: Iterable[x509.GeneralName], *, subject_is_empty: bool) -> _Builder:
    listed = list(names)
    return builder.add_extension(x509.SubjectAlternativeName(listed), critical=subject_is_empty) if listed else builder


def _request(inputs: dict[str, Any]) -> tuple[str, Properties]:
    key = _load_key(inputs["privateKeyPem"], "privateKeyPem")
    subject = _subject(inputs.get("subject"))
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = _add_names(builder, _alternative_names(inputs), subject_is_empty=False)
    der = builder.sign(key, _signature_hash(key)).public_bytes(serialization.Encoding.PEM)
    return hashlib.sha1(der).hexdigest(), {  # noqa: S324 - an identifier
        "certRequestPem": der.decode(),
        "keyAlgorithm": _algorithm(key),
    }


def _self_signed(inputs: dict[str, Any]) -> tuple[str, Properties]:
    key = _load_key(inputs["privateKeyPem"], "privateKeyPem")
    subject = _subject(inputs.get("subject"))
    identity, outputs = _certificate(
        inputs, subject, _alternative_names(inputs), key.public_key(), issuer=None, signer=key
    )
    return identity, {**outputs, "keyAlgorithm": _algorithm(key)}


def _locally_signed(inputs: dict[str, Any]) -> tuple[str, Properties]:
    try:
        request = x509.load_pem_x509_csr(inputs["certRequestPem"].encode())
    except ValueError as error:
        raise ProviderError(f"Failed to parse certificate request PEM: {error}") from error
    key = _load_key(inputs["caPrivateKeyPem"], "caPrivateKeyPem")
    try:
        issuer = x509.load_pem_x509_certificate(inputs["caCertPem"].encode())
    except ValueError as error:
        raise ProviderError(f"Failed to parse CA certificate PEM: {error}") from error
    if issuer.public_key() != key.public_key():
        raise ProviderError("Failed to create certificate: provided PrivateKey doesn't match parent's PublicKey")
    try:
        names = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    identity, outputs = _certificate(inputs, request.subject, names, request.public_key(), issuer=issuer, signer=key)
    return identity, {**outputs, "caKeyAlgorithm": _algorithm(key)}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _certificate(
    inputs: dict[str, Any],
    subject: x509.Name,
    names: list[x509.GeneralName],
    public_key: Any,
    *,
    issuer: x509.Certificate | None,
    signer: PrivateKey,
) -> tuple[str, Properties]:
    start = _now()
    end = start + datetime.timedelta(hours=inputs["validityPeriodHours"])
    is_ca = inputs["isCaCertificate"]
    if is_ca and not list(subject):
        raise ProviderError(
            "Invalid Certificate Subject: Must contain at least one Distinguished Name when creating "
            "Certificate Authority (CA)"
        )
    serial = secrets.randbelow(2**128 - 1) + 1
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    builder = _add_usages(builder, inputs["allowedUses"])
    path_length = inputs.get("maxPathLength")
    builder = builder.add_extension(
        x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca and (path_length or 0) > 0 else None),
        critical=True,
    )
    key_id = _key_id(public_key) if is_ca or inputs["setSubjectKeyId"] else None
    if key_id:
        builder = builder.add_extension(key_id, critical=False)
    authority = _authority_key_id(inputs, subject, key_id, issuer)
    if authority:
        builder = builder.add_extension(authority, critical=False)
    builder = _add_names(builder, names, subject_is_empty=not list(subject))
    certificate = builder.sign(signer, _signature_hash(signer))
    return str(serial), {
        "certPem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "validityStartTime": start.isoformat().replace("+00:00", "Z"),
        "validityEndTime": end.isoformat().replace("+00:00", "Z"),
        "readyForRenewal": False,
    }


def _add_usages(builder: x509.CertificateBuilder, uses: list[str]) -> x509.CertificateBuilder:
    if any(use in _KEY_USAGES for use in uses):
        flags = {flag: name in uses for name, flag in _KEY_USAGES.items()}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    extended = [_EXTENDED_KEY_USAGES[use] for use in uses if use in _EXTENDED_KEY_USAGES]
    return builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False) if extended else builder


def _key_id(public_key: Any) -> x509.SubjectKeyIdentifier:
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        # The real provider hashes the key as a DER octet string, not the bare bytes.
        return x509.SubjectKeyIdentifier(hashlib.sha1(b"\x04\x20" + public_key.public_bytes_raw()).digest())  # noqa: S324
    return x509.SubjectKeyIdentifier.from_public_key(public_key)


def _authority_key_id(
    inputs: dict[str, Any],
    subject: x509.Name,
    own: x509.SubjectKeyIdentifier | None,
    issuer: x509.Certificate | None,
) -> x509.AuthorityKeyIdentifier | None:
    if issuer is None:
        if not inputs.get("setAuthorityKeyId"):
            return None
        if own is None:
            raise ProviderError("Invalid Certificate Authority: Could not determine Authority Key Identifier")
        return x509.AuthorityKeyIdentifier(own.digest, None, None)
    if issuer.subject == subject:
        return None
    try:
        digest = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None
    return x509.AuthorityKeyIdentifier(digest, None, None)


def _ready_for_renewal(outputs: dict[str, Any]) -> str:
    end = datetime.datetime.fromisoformat(outputs["validityEndTime"])
    early = datetime.timedelta(hours=outputs.get("earlyRenewalHours") or 0)
    return "readyForRenewal" if end - early <= datetime.datetime.now(datetime.UTC) else ""


def _no_match(name: str, allowed: Iterable[str], given: str) -> tuple[str, str]:
    listed = " ".join(f'"{item}"' for item in allowed)
    reason = f'Invalid Attribute Value Match. Attribute {name} value must be one of: [{listed}], got: "{given}".'
    return name, reason


def _check_key(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    failures = []
    algorithm, curve = inputs.get("algorithm"), inputs.get("ecdsaCurve")
    if algorithm not in (None, "RSA", "ECDSA", "ED25519"):
        failures.append(_no_match("algorithm", ("RSA", "ECDSA", "ED25519"), algorithm))
    if curve is not None and curve not in _CURVES:
        failures.append(_no_match("ecdsaCurve", _CURVES, curve))
    return failures


def _check_certificate(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    known = {**_KEY_USAGES, **_EXTENDED_KEY_USAGES}
    failures = [
        _no_match("allowedUses", sorted(known), use) for use in inputs.get("allowedUses") or [] if use not in known
    ]
    for name, least in (("validityPeriodHours", 0), ("earlyRenewalHours", 0), ("maxPathLength", -1)):
        if inputs.get(name, 0) < least:
            failures.append((name, f"Attribute {name} value must be at least {least}, got: {inputs[name]}."))
    return failures


def provider() -> GeneratedProvider:
    """The tls provider."""
    in_place = frozenset({"earlyRenewalHours"})
    kept = frozenset({"maxPathLength"})
    return GeneratedProvider(
        {
            "tls:index/privateKey:PrivateKey": Kind(
                _generate_key,
                computed=(
                    "privateKeyPem",
                    "privateKeyPemPkcs8",
                    "privateKeyOpenssh",
                    "publicKeyPem",
                    "publicKeyOpenssh",
                    "publicKeyFingerprintMd5",
                    "publicKeyFingerprintSha256",
                ),
                required=("algorithm",),
                defaults={"rsaBits": 2048, "ecdsaCurve": "P224"},
                secret=("privateKeyPem", "privateKeyPemPkcs8", "privateKeyOpenssh"),
                validate=_check_key,
            ),
            "tls:index/certRequest:CertRequest": Kind(
                _request,
                computed=("certRequestPem", "keyAlgorithm"),
                required=("privateKeyPem",),
                optional=_REQUEST_INPUTS,
                secret=("privateKeyPem",),
            ),
            "tls:index/selfSignedCert:SelfSignedCert": Kind(
                _self_signed,
                computed=(*_CERTIFICATE_COMPUTED, "keyAlgorithm"),
                required=("privateKeyPem", "allowedUses", "validityPeriodHours"),
                optional=(*_REQUEST_INPUTS, "maxPathLength"),
                defaults={**_CERTIFICATE_DEFAULTS, "setAuthorityKeyId": False},
                secret=("privateKeyPem",),
                in_place=in_place,
                kept=kept,
                validate=_check_certificate,
                outdated=_ready_for_renewal,
            ),
            "tls:index/locallySignedCert:LocallySignedCert": Kind(
                _locally_signed,
                computed=(*_CERTIFICATE_COMPUTED, "caKeyAlgorithm"),
                required=("caCertPem", "caPrivateKeyPem", "certRequestPem", "allowedUses", "validityPeriodHours"),
                optional=("maxPathLength",),
                defaults=_CERTIFICATE_DEFAULTS,
                secret=("caPrivateKeyPem",),
                in_place=in_place,
                kept=kept,
                validate=_check_certificate,
                outdated=_ready_for_renewal,
            ),
        }
    )
