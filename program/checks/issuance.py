"""The check of the identity issuer: whoever is to sign it is there, and can."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
from cryptography import x509

from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import SECRETS, Api, ClusterError
from meshtrust.linkerd.evidence import leaf_lifetime
from meshtrust.linkerd.issuer import secret as issuer_secret
from meshtrust.linkerd.issuer.secret import judge_issuer_life, judge_issuer_secret
from meshtrust.lint import VAULT_ISSUERS, Finding, VaultIssuer
from meshtrust.names import CERT_MANAGER_GROUP, IDENTITY_ISSUER
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, SIGNING_MODES
from meshtrust.pki.pem import read_bundle
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings

# From here on `linkerd check` warns too (linkerd2 pkg/healthcheck, expiringSoonThreshold).
_EXPIRING_SOON = timedelta(days=60)


async def check(api: Api, settings: Settings, last: StackOutputs, written: Mapping[str, Any] | None = None) -> bool:
    """Check that whoever is to sign the identity issuer is there.

    Args:
        api: The client of the cluster.
        settings: The settings that the run deploys.
        last: The outputs of the last deployment.
        written: The issuer's Secret as the run writes it again before Linkerd; None if it leaves it as it is.

    Returns:
        Whether Linkerd has to wait for the Secret: not if this run changes nothing about it, so that a mesh whose
        issuer has gone bad can still be deployed to, and be put right.

    Raises:
        ClusterError: The signer is missing, or cannot be used.
    """
    policy, namespace = settings.issuer, settings.linkerd.namespace
    last_mode = str(last.issuer.get("mode") or "")
    changed = _is_changed(settings, last)
    roots = known_roots(settings, last)
    if policy.mode not in SIGNING_MODES and settings.anchor.signer not in roots:
        msg = (
            f'meshtrust:signer is "{settings.anchor.signer}", whose root this run would make, so that in mode '
            f"{policy.mode} nobody can have signed under it. Bring its root along in meshtrust:anchorCertificates."
        )
        raise ClusterError(msg)
    secret = written or await api.find(SECRETS, IDENTITY_ISSUER, namespace=namespace)
    if policy.mode != "external-secret":
        issuer_secret.check_writable(secret)
    if last_mode in CERT_MANAGER_MODES and policy.mode not in CERT_MANAGER_MODES:
        cert_manager.check_secret_stays(secret)
    if policy.mode == "external-issuer" and policy.reference:
        await _check_issuer(api, namespace, policy.as_outputs()["reference"], changed=changed)
    if policy.mode == "external-secret":
        _check_written(settings, secret, roots, changed=changed)
        return False
    if policy.mode == "pulumi" and secret is not None and not changed:
        fix = "Have another one signed: pulumi config set --path issuer.serial <another name>, then pulumi up"
        _warn(judge_issuer_life(secret, _EXPIRING_SOON, datetime.now(UTC), fix))
    return changed


def known_roots(settings: Settings, last: StackOutputs) -> dict[str, x509.Certificate]:
    """Return the roots of the generations that a run deploys, as far as they exist before it, by generation."""
    external = {name: read_bundle(pem)[0] for name, pem in settings.anchor.certificates.items()}
    known = {**last.certificates, **external}
    return {name: known[name] for name in settings.anchor.generations if name in known}


def report(found: Iterable[Finding], message: str, *, refuses: bool = True) -> None:
    """Warn of what was found in the issuer's Secret.

    Args:
        found: The findings.
        message: The sentence that goes before the errors.
        refuses: Whether errors raise.

    Raises:
        ClusterError: There are errors among them.
    """
    found = list(found)
    errors = "\n".join(f"  - {finding}" for finding in found if finding.severity == "error")
    if errors and refuses:
        msg = f"{message}:\n{errors}"
        raise ClusterError(msg)
    _warn(found)


def _is_changed(settings: Settings, last: StackOutputs) -> bool:
    """Return whether a run has another identity issuer issued than the last deployment."""
    signs_as_before = last.trust is not None and last.trust.signer == settings.anchor.signer
    return last.issuer != settings.issuer.as_outputs() or not signs_as_before


async def _check_issuer(api: Api, namespace: str, reference: Mapping[str, str], *, changed: bool) -> None:
    """Check an issuer that signs elsewhere; one that has signed before is warned of, since what it signed still serves.

    Raises:
        ClusterError: It is missing, not ready, or cannot sign a CA.
    """
    try:
        issuer = await cert_manager.check_issuer(api, namespace, reference)
    except cert_manager.CertManagerError as error:
        if changed:
            raise
        pulumi.log.warn(f"The identity issuer cannot be renewed: {error}")
        return
    vault = (issuer.get("spec") or {}).get("vault")
    if vault and reference["group"] == CERT_MANAGER_GROUP:
        title = f"meshtrust:issuer.refs names {reference['kind']} {reference['name']}, which"
        found = [one for one in VAULT_ISSUERS.check(VaultIssuer(title=title, vault=vault)) if one.severity != "note"]
        report(found, "The identity issuer cannot be signed", refuses=changed)


def _check_written(
    settings: Settings, secret: Mapping[str, Any] | None, roots: Mapping[str, x509.Certificate], *, changed: bool
) -> None:
    namespace, signer, now = settings.linkerd.namespace, settings.anchor.signer, datetime.now(UTC)
    if secret is None:
        kubectl = settings.cluster.access.kubectl
        msg = (
            'meshtrust:issuer.mode is "external-secret", and nobody has written Secret '
            f"{namespace}/{IDENTITY_ISSUER} yet. Write tls.crt (an ECDSA P-256 CA certificate signed under "
            f'generation "{signer}", followed by its intermediates), tls.key (its key) and ca.crt (the root):\n'
            f"  {kubectl} create namespace {namespace}\n"
            f"  {issuer_secret.how_to_write(namespace, kubectl)}"
        )
        raise ClusterError(msg)
    found = judge_issuer_secret(secret, roots, signer, now)
    report(found, "The identity issuer that was written cannot sign for the mesh", refuses=changed)
    fix = "Have it renewed by whoever writes it: a proxy's certificate, which is meant to live longer, ends with it"
    _warn(judge_issuer_life(secret, leaf_lifetime(settings.linkerd.values), now, fix))


def _warn(findings: Iterable[Finding]) -> None:
    for finding in findings:
        pulumi.log.warn(str(finding))
