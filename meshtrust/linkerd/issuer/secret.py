"""The Secret that Linkerd's identity service signs with, judged as it was written, whoever wrote it."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from meshtrust.cluster.api import ClusterError
from meshtrust.lint.facts import certificate_facts
from meshtrust.lint.rule import Finding
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from meshtrust.lint.rules.secrets import SECRETS, CredentialSecret
from meshtrust.names import IDENTITY_ISSUER, KUBERNETES_TLS
from meshtrust.pki.chain import ChainError, verify_chain
from meshtrust.pki.pem import PemError, fingerprint, read_bundle
from meshtrust.pki.private_key import holds_private_key

TYPE = KUBERNETES_TLS


def how_to_write(namespace: str, kubectl: str) -> str:
    """Return the command that writes the Secret from files."""
    return (
        f"{kubectl} -n {namespace} create secret generic {IDENTITY_ISSUER} --type={TYPE} "
        "--from-file=tls.crt --from-file=tls.key --from-file=ca.crt"
    )


def check_writable(secret: Mapping[str, Any] | None) -> None:
    """Make sure that cert-manager, or the engine, can write the Secret, if it is there.

    The type of a Secret never changes, and nothing of one that is immutable.

    Args:
        secret: The Secret, as the API server has it; None if there is none.

    Raises:
        ClusterError: It is of another type than that of a certificate, or immutable.
    """
    if secret is None:
        return
    namespace = secret["metadata"]["namespace"]
    name = f"{namespace}/{IDENTITY_ISSUER}"
    if secret.get("type") != TYPE:
        msg = (
            f'Secret {name} is of type "{secret.get("type")}", as `linkerd install` makes it, and can never be of type '
            f"{TYPE}, as it has to be. How a stack takes such an installation over: docs/runbook.md, Linkerd installed "
            "by the CLI."
        )
        raise ClusterError(msg)
    if secret.get("immutable"):
        msg = (
            f"Secret {name} is immutable, so that nobody can write the next issuer into it. Delete it right before the "
            f"run: kubectl delete secret {IDENTITY_ISSUER} -n {namespace}. Until the run has written another, the "
            "identity service goes on with the issuer that it has, if its pods are not restarted."
        )
        raise ClusterError(msg)


def judge_issuer_secret(
    secret: Mapping[str, Any],
    roots: Mapping[str, x509.Certificate],
    signer: str,
    now: datetime,
    scheme: str = KUBERNETES_TLS,
) -> Iterator[Finding]:
    """Find what is wrong with the content of a Secret, by the linter's rules.

    Args:
        secret: The Secret, as the API server has it.
        roots: The trusted roots by generation.
        signer: The generation that the configuration says has signed; empty if none says so.
        now: The time.
        scheme: `identity.issuer.scheme` of the chart, which decides what the identity service reads.
    """
    trusted = tuple(map(certificate_facts, roots.values()))
    held = CredentialSecret(
        object_name=IDENTITY_ISSUER,
        namespace=str(secret["metadata"].get("namespace") or ""),
        role="issuer",
        manifest=secret,
        scheme=scheme,
        roots=trusted,
    )
    if scheme == KUBERNETES_TLS:
        if secret.get("type") != TYPE:
            wrong = f'is of type "{secret.get("type")}", which cert-manager could never take over'
            yield Finding(subject=held.name, wrong=wrong, fix=f"Delete it and write it again with type {TYPE}")
        root = held.content("ca.crt")
        if root is not None and not held.certificates("ca.crt"):
            wrong = "holds no certificate in ca.crt"
            yield Finding(subject=held.name, wrong=wrong, fix="Write the root there that the issuer chains to")
        if holds_private_key(root):
            wrong = "holds a private key in ca.crt"
            fix = "Remove it there, and if it is the root's rotate to another root"
            yield Finding(subject=held.name, wrong=wrong, fix=fix)
    chain = held.content(held.certificate_key) or ""
    credentials = Credentials(
        name=held.name, role="issuer", chain=chain, key=held.content(held.private_key), roots=trusted, at=now
    )
    found = [*SECRETS.check(held), *CREDENTIALS.check(credentials)]
    yield from (finding for finding in found if finding.severity != "note")
    if signer:
        yield from _judge_signer(held.name, chain, roots, signer, now)


# Rules about what `linkerd check` reads, and no part of the mesh.
_OF_THE_CHECK_ALONE = ("MT404", "MT405", "MT406")


def is_refused(finding: Finding) -> bool:
    """Whether the identity service may refuse an issuer for a finding, so that it would not start with it."""
    rule = finding.rule.id if finding.rule else ""
    about_its_form = finding.rule is None
    return finding.severity == "error" and not about_its_form and rule not in _OF_THE_CHECK_ALONE


def judge_issuer_life(secret: Mapping[str, Any], least: timedelta, now: datetime, fix: str) -> Iterator[Finding]:
    """Warn of an issuer that has less life left than it needs until someone renews it.

    Args:
        secret: The Secret, as the API server has it.
        least: How much life it needs.
        now: The time.
        fix: What to do about it.
    """
    held = CredentialSecret(
        object_name=IDENTITY_ISSUER,
        namespace=str(secret["metadata"].get("namespace") or ""),
        role="issuer",
        manifest=secret,
    )
    for issuer in held.certificates("tls.crt")[:1]:
        if timedelta() < issuer.not_after - now < least:
            wrong = f"holds an issuer that ends on {issuer.not_after:%Y-%m-%d %H:%M} UTC"
            yield Finding(subject=held.name, wrong=wrong, fix=fix, severity="warning")


def _judge_signer(
    subject: str, chain: str, roots: Mapping[str, x509.Certificate], signer: str, now: datetime
) -> Iterator[Finding]:
    """Say of an issuer that the mesh accepts whether it is the configured generation that has signed it."""
    try:
        root = verify_chain(read_bundle(chain), list(roots.values()), now)[-1]
    except (PemError, ChainError, ValueError):
        return
    if fingerprint(root) != fingerprint(roots[signer]):
        name = next(name for name, known in roots.items() if fingerprint(known) == fingerprint(root))
        yield Finding(
            subject=subject,
            wrong=f'holds an issuer that is signed under generation "{name}", and meshtrust:signer is "{signer}"',
            fix=f'Write one that is signed under "{signer}", or set meshtrust:signer to "{name}"',
        )
