"""pulumi-tls's PrivateKey, SelfSignedCert, CertRequest and LocallySignedCert, as version 5.6.2 has them.

The rules are those of the Terraform provider behind it (hashicorp/terraform-provider-tls, internal/provider):
serial numbers are random below 2^128 and are the certificates' ids; every certificate carries basic constraints;
a CA always gets its subject key id (the SHA-1 of the public key); a certificate signed by another names that one's
key id; a `maxPathLength` of 0 is lost, because Go's x509 takes a zero without `MaxPathLenZero` for unset. One thing
is different: the parts of a name are UTF8Strings, where Go writes PrintableStrings if the letters allow that.
"""

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
from rehearsal.providers.values import UNKNOWN, Properties

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
# In the order of pkix.Name.ToRDNSequence in Go 1.26.
_SUBJECT = {
    "country": NameOID.COUNTRY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "streetAddresses": NameOID.STREET_ADDRESS,
    "postalCode": NameOID.POSTAL_CODE,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "commonName": NameOID.COMMON_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
_REQUEST_INPUTS = ("dnsNames", "ipAddresses", "uris", "subject")
_CERTIFICATE_DEFAULTS = {"earlyRenewalHours": 0, "isCaCertificate": False, "setSubjectKeyId": False}
_CERTIFICATE_COMPUTED = ("certPem", "validityStartTime", "validityEndTime")

_ALGORITHMS = ("RSA", "ECDSA", "ED25519")
_NO_IMPORT = (
    "Resource Import Not Implemented: This resource does not support import. Please contact the provider developer for "
    "additional information."
)

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


def _load_key(pem: str, what: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if "-----BEGIN" not in pem:
            reason: object = f"failed to decode PEM block: decoded bytes 0, undecoded {len(pem.encode())}"
        else:
            reason = error
        raise ProviderError(f"Failed to parse {what} PEM: {reason}") from error
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise ProviderError(f"Failed to parse {what} PEM: unsupported key type")


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
    """Return a name as Go writes it: the values of one part are one set."""
    parts = []
    for part, oid in _SUBJECT.items():
        value = (given or {}).get(part)
        listed = value if isinstance(value, list) else [value] if value is not None else []
        if listed:
            parts.append(x509.RelativeDistinguishedName(x509.NameAttribute(oid, item) for item in listed))
    return x509.Name(parts)


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
    key = _load_key(inputs["privateKeyPem"], "private key")
    subject = _subject(inputs.get("subject"))
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = _add_names(builder, _alternative_names(inputs), subject_is_empty=False)
    der = builder.sign(key, _signature_hash(key)).public_bytes(serialization.Encoding.PEM)
    return hashlib.sha1(der).hexdigest(), {  # noqa: S324 - an identifier
        "certRequestPem": der.decode(),
        "keyAlgorithm": _algorithm(key),
    }


def _self_signed(inputs: dict[str, Any]) -> tuple[str, Properties]:
    key = _load_key(inputs["privateKeyPem"], "private key")
    subject = _subject(inputs.get("subject"))
    identity, outputs = _certificate(
        inputs, subject, _alternative_names(inputs), key.public_key(), issuer=None, signer=key
    )
    return identity, {**outputs, "keyAlgorithm": _algorithm(key)}


def _locally_signed(inputs: dict[str, Any]) -> tuple[str, Properties]:
    try:
        request = x509.load_pem_x509_csr(inputs["certRequestPem"].encode())
    except ValueError as error:
        raise ProviderError(
            "Failed to parse certificate request PEM: failed to decode PEM of expected type "
            '"CERTIFICATE REQUEST" from bytes'
        ) from error
    key = _load_key(inputs["caPrivateKeyPem"], "CA private key")
    try:
        issuer = x509.load_pem_x509_certificate(inputs["caCertPem"].encode())
    except ValueError as error:
        raise ProviderError(
            'Failed to parse CA certificate PEM: failed to decode PEM of expected type "CERTIFICATE" from bytes'
        ) from error
    if issuer.public_key() != key.public_key():
        raise ProviderError("Failed to create certificate: x509: provided PrivateKey doesn't match parent's PublicKey")
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
    path_length = inputs.get("maxPathLength") or 0
    if path_length > 0 and not is_ca:
        raise ProviderError("Failed to create certificate: x509: only CAs are allowed to specify MaxPathLen")
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
    builder = builder.add_extension(
        x509.BasicConstraints(ca=is_ca, path_length=path_length if path_length > 0 else None),
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


def _renewal(inputs: dict[str, Any]) -> Properties:
    """Return what is planned for `readyForRenewal` (attribute_plan_modifier_bool/ready_for_renewal.go).

    It takes a validity that is not known yet for none.
    """
    validity, early = inputs["validityPeriodHours"], inputs["earlyRenewalHours"]
    hours = 0 if validity is UNKNOWN else validity
    return {"readyForRenewal": hours == 0 or (early is not UNKNOWN and early >= hours)}


def _due(outputs: dict[str, Any]) -> str:
    """Return the output of a certificate that is due for renewal; empty if it is not due.

    The rule is that of modifyPlanIfCertificateReadyForRenewal and modifyStateIfCertificateReadyForRenewal in
    common_cert.go: without hours of early renewal a certificate is due when it ends.
    """
    end = datetime.datetime.fromisoformat(outputs["validityEndTime"])
    early = datetime.timedelta(hours=outputs["earlyRenewalHours"])
    return "readyForRenewal" if end - early <= _now() else ""


def _no_authority(inputs: dict[str, Any]) -> str:
    """Return the warning about a signer that is not an authority."""
    try:
        signer = x509.load_pem_x509_certificate(inputs["caCertPem"].encode())
        if signer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return ""
    except x509.ExtensionNotFound:
        pass
    except ValueError:
        return ""
    return (
        "[WARNING] Certificate provided as Authority does not appear to be a valid Certificate Authority. "
        "The resulting certificate might fail certificate validation.: Potentially Invalid Certificate Authority"
    )


def _no_match(path: str, attribute: str, allowed: Iterable[str], given: str) -> tuple[str, str]:
    listed = " ".join(f'"{item}"' for item in allowed)
    reason = f'Invalid Attribute Value Match. Attribute {attribute} value must be one of: [{listed}], got: "{given}".'
    return path, reason


def _check_key(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    failures = []
    algorithm, curve = inputs.get("algorithm"), inputs.get("ecdsaCurve")
    if algorithm not in (None, *_ALGORITHMS):
        failures.append(_no_match("algorithm", "algorithm", _ALGORITHMS, algorithm))
    if curve not in (None, *_CURVES):
        failures.append(_no_match("ecdsaCurve", "ecdsa_curve", _CURVES, str(curve)))
    return failures


def _check_certificate(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    known = sorted({**_KEY_USAGES, **_EXTENDED_KEY_USAGES})
    failures = [
        _no_match(f"allowedUses[{index}]", f"allowed_uses[{index}]", known, use)
        for index, use in enumerate(inputs.get("allowedUses") or [])
        if use not in known
    ]
    for name, attribute, least in (
        ("validityPeriodHours", "validity_period_hours", 0),
        ("earlyRenewalHours", "early_renewal_hours", 0),
        ("maxPathLength", "max_path_length", -1),
    ):
        if inputs.get(name, 0) < least:
            reason = f"Attribute {attribute} value must be at least {least}, got: {inputs[name]}."
            failures.append((name, f"Invalid Attribute Value. {reason}"))
    return failures


def provider() -> GeneratedProvider:
    """Return the tls provider."""
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
                recomputed=True,
                validate=_check_key,
                import_error=_NO_IMPORT,
            ),
            "tls:index/certRequest:CertRequest": Kind(
                _request,
                computed=("certRequestPem", "keyAlgorithm"),
                required=("privateKeyPem",),
                optional=_REQUEST_INPUTS,
                secret=("privateKeyPem",),
                import_error=_NO_IMPORT,
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
                planned=_renewal,
                outdated=_due,
                import_error=_NO_IMPORT,
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
                planned=_renewal,
                outdated=_due,
                warning=_no_authority,
                import_error=_NO_IMPORT,
            ),
        }
    )
