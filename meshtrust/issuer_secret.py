"""The Secret that Linkerd's identity service signs with, judged as it was written, whoever wrote it."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import SignatureAlgorithmOID

from meshtrust.chain import ChainError, verify_chain
from meshtrust.lint import Finding
from meshtrust.pem import PemError, fingerprint, read_bundle, subject_of
from meshtrust.private_key import read_private_key

NAME = "linkerd-identity-issuer"
TYPE = "kubernetes.io/tls"


def how_to_write(namespace: str, context: str) -> str:
    """Return the command that writes the Secret from files."""
    return (
        f"kubectl --context {context} -n {namespace} create secret generic {NAME} --type={TYPE} "
        "--from-file=tls.crt --from-file=tls.key --from-file=ca.crt"
    )


def judge_issuer_secret(
    secret: Mapping[str, Any], roots: Mapping[str, x509.Certificate], signer: str, now: datetime
) -> Iterator[Finding]:
    """Say what keeps Linkerd from signing with what a Secret holds; nothing where all is well.

    Args:
        secret: The Secret, as the API server has it.
        roots: The trusted roots by generation.
        signer: The generation that the configuration says has signed.
        now: The time.

    Source: linkerd2 ``controller/cmd/identity/main.go`` (the files), ``pkg/tls`` (key and chain, the CA flag),
    ``pkg/issuercerts`` (the algorithms, and ``ca.crt``, where ``linkerd check`` looks for the trust anchor).
    """
    subject = f"Secret {secret['metadata'].get('namespace', '')}/{NAME}"
    if secret.get("type") != TYPE:
        wrong = f'is of type "{secret.get("type")}", and Linkerd is told to read a {TYPE} one'
        yield Finding(subject=subject, wrong=wrong, fix="Delete it and write it anew with that type")
        return
    try:
        issuer = _certificates(secret, "tls.crt")
        named_roots = _certificates(secret, "ca.crt")
        key = read_private_key(_text(secret, "tls.key"))
    except PemError as error:
        yield Finding(subject=subject, wrong=f"cannot be used: {error}", fix="Write what belongs there, as PEM")
        return
    if key.public_key() != issuer[0].public_key():
        wrong = "has a key in tls.key that is not the one of the first certificate in tls.crt"
        yield Finding(subject=subject, wrong=wrong, fix="Write the certificate and its own key")
    for wrong, fix in _judge_certificate(issuer[0]):
        yield Finding(subject=subject, wrong=f"has {subject_of(issuer[0])} in tls.crt, which {wrong}", fix=fix)
    yield from _judge_chain(subject, issuer, roots, signer, now)
    if not {fingerprint(root) for root in named_roots} & {fingerprint(root) for root in roots.values()}:
        wrong = "has no trusted root in ca.crt, where `linkerd check` looks for the trust anchor"
        yield Finding(subject=subject, wrong=wrong, fix="Write the root there that the issuer chains to")


def judge_issuer_life(secret: Mapping[str, Any], least: timedelta, now: datetime, fix: str) -> Iterator[Finding]:
    """Warn of an issuer that has less life left than it needs until someone renews it.

    Args:
        secret: The Secret, as the API server has it.
        least: How much life it needs.
        now: The time.
        fix: What to do about it.
    """
    try:
        issuer = _certificates(secret, "tls.crt")[0]
    except PemError:
        return
    left = issuer.not_valid_after_utc - now
    if timedelta() < left < least:
        yield Finding(
            subject=f"Secret {secret['metadata'].get('namespace', '')}/{NAME}",
            wrong=f"holds an issuer that ends on {issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            fix=fix,
            severity="warning",
        )


def _judge_certificate(issuer: x509.Certificate) -> Iterator[tuple[str, str]]:
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        yield "has no ECDSA P-256 key, and Linkerd takes only that", "Issue it with such a key"
    if issuer.signature_algorithm_oid not in (
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
    ):
        yield "is not signed with SHA-256, and Linkerd takes only that", "Sign it with SHA-256"
    try:
        is_ca = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        yield (
            "is no CA, so that the identity service ends with it",
            "Have it signed as a CA: in Vault by root/sign-intermediate, where sign/<role> ignores the wish",
        )


def _judge_chain(
    subject: str,
    issuer: Sequence[x509.Certificate],
    roots: Mapping[str, x509.Certificate],
    signer: str,
    now: datetime,
) -> Iterator[Finding]:
    try:
        root = verify_chain(issuer, list(roots.values()), now)[-1]
    except (ChainError, ValueError) as error:
        yield Finding(
            subject=subject,
            wrong=f"holds an issuer that the mesh would refuse: {error}",
            fix=f'Write one that is signed under generation "{signer}", followed by its intermediates',
        )
        return
    if fingerprint(root) != fingerprint(roots[signer]):
        name = next(name for name, known in roots.items() if fingerprint(known) == fingerprint(root))
        yield Finding(
            subject=subject,
            wrong=f'holds an issuer that is signed under generation "{name}", and meshtrust:signer is "{signer}"',
            fix=f'Write one that is signed under "{signer}", or set meshtrust:signer to "{name}"',
        )


def _certificates(secret: Mapping[str, Any], key: str) -> list[x509.Certificate]:
    try:
        return read_bundle(_text(secret, key))
    except PemError as error:
        msg = str(error) if str(error).startswith(key) else f"{key}: {error}"
        raise PemError(msg) from error


def _text(secret: Mapping[str, Any], key: str) -> str:
    value = (secret.get("data") or {}).get(key)
    if value is None:
        msg = f"{key} is not there"
        raise PemError(msg)
    try:
        return base64.b64decode(value).decode()
    except (binascii.Error, UnicodeDecodeError):
        msg = f"{key} is not text"
        raise PemError(msg) from None
