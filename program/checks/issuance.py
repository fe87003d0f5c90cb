"""The identity issuer's part of the guard: what it is signed by before a run, and what was signed before Linkerd."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
from cryptography import x509

from components.cert_manager import CertManager
from components.charts import Resources
from components.identity_issuer import IdentityIssuer
from components.trust_anchor import Signer
from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import Api, ClusterError, read_optional
from meshtrust.cluster.backoff import Tell
from meshtrust.linkerd.evidence import leaf_lifetime
from meshtrust.linkerd.issuer import secret as issuer_secret
from meshtrust.linkerd.issuer.secret import judge_issuer_life, judge_issuer_secret
from meshtrust.lint import Finding
from meshtrust.names import IDENTITY_ISSUER
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, SIGNING_MODES
from meshtrust.pki.pem import read_bundle
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings
from program.refusal import ending, telling

# From here on `linkerd check` warns too (linkerd2 pkg/healthcheck, expiringSoonThreshold).
_EXPIRING_SOON = timedelta(days=60)


@dataclass(frozen=True, kw_only=True)
class Issuance:
    """An identity issuer that is to be served from this run on.

    Attributes:
        api: Client of the cluster.
        settings: What the stack says.
    """

    api: Api
    settings: Settings


def is_changed(settings: Settings, last: StackOutputs) -> bool:
    """Whether a run has another identity issuer issued than the last one."""
    signs_as_before = last.trust is not None and last.trust.signer == settings.anchor.signer
    return last.issuer != settings.issuer.as_outputs() or not signs_as_before


async def check(api: Api, settings: Settings, last: StackOutputs) -> Issuance | None:
    """Make sure, before a run, that what is to sign the identity issuer is there.

    Args:
        api: Client of the cluster.
        settings: What the stack says.
        last: What it last deployed.

    Returns:
        What is to be seen before Linkerd is touched; nothing where this run changes nothing of it, so that a mesh
        whose issuer has gone bad can still be deployed to, and be put right.

    Raises:
        ClusterError: It is not there, or cannot be used.
    """
    policy, namespace = settings.issuer, settings.linkerd.namespace
    last_mode = str(last.issuer.get("mode") or "")
    changed = is_changed(settings, last)
    roots = _known_roots(settings, last)
    if policy.mode not in SIGNING_MODES and settings.anchor.signer not in roots:
        msg = (
            f'meshtrust:signer is "{settings.anchor.signer}", whose root this run would make, so that in mode '
            f"{policy.mode} nobody can have signed under it. Bring its root along in meshtrust:anchorCertificates."
        )
        raise ClusterError(msg)
    secret = await read_optional(
        api,
        f"Secret {namespace}/{IDENTITY_ISSUER}",
        namespace=namespace,
        url=f"secrets/{IDENTITY_ISSUER}",
    )
    if policy.mode in CERT_MANAGER_MODES:
        issuer_secret.check_writable(secret)
    if last_mode in CERT_MANAGER_MODES and policy.mode not in CERT_MANAGER_MODES:
        cert_manager.check_secret_stays(secret)
    if policy.mode == "external-issuer" and policy.reference and changed:
        await cert_manager.check_issuer(api, namespace, policy.as_outputs()["reference"])
    if policy.mode == "external-secret":
        _check_written(settings, secret, roots, changed=changed)
        return None
    if policy.mode == "pulumi" and secret is not None and not changed:
        fix = "Have another one signed: pulumi config set --path issuer.serial <another name>, then pulumi up"
        _tell(judge_issuer_life(secret, _EXPIRING_SOON, datetime.now(UTC), fix))
    return Issuance(api=api, settings=settings) if changed else None


def answering(api: Awaitable[Api] | None, installed: CertManager, namespace: str) -> Resources:
    """Return cert-manager as a thing to depend on that is there once its API answers, webhook included.

    The API server takes a while longer to trust the webhook than its pods take to be ready.

    Args:
        api: Client of the cluster; nothing in an offline preview.
        installed: The installation.
        namespace: Its namespace.

    Raises:
        SystemExit: It does not answer.
    """
    if api is None or pulumi.runtime.is_dry_run():
        return [installed]
    client = api

    async def ask(_: list[pulumi.Resource]) -> list[pulumi.Resource]:
        with ending():
            await cert_manager.wait_answers(await client, namespace, telling(installed))
        return [installed]

    return pulumi.Output.from_input(installed.ready).apply(ask)


def confirm(
    issuance: Issuance | None, bundle: pulumi.Output[str], signer: Signer, issuer: IdentityIssuer
) -> pulumi.Output[str]:
    """Return the bundle once the Secret holds an issuer that is signed as this run has it.

    What waits for the bundle then never meets an issuer that the identity service would refuse: an issuer of elsewhere
    may sign by a root that is not in the bundle, or make no CA of it.

    Args:
        issuance: What is to be seen; nothing where there is nothing.
        bundle: The trusted roots as PEM.
        signer: The generation that signs.
        issuer: What makes the Secret.

    Raises:
        SystemExit: It holds another one, or cert-manager does not issue.
    """
    if issuance is None or pulumi.runtime.is_dry_run():
        return bundle
    seen = issuance

    async def look(resolved: Mapping[str, Any]) -> str:
        with ending(
            "\nLinkerd was left as it is. Put it right and run again; or set meshtrust:issuer back to what it was, and "
            "run again, before the identity service is restarted."
        ):
            await _wait_for(seen, read_bundle(resolved["root"])[0], telling(issuer))
        return str(resolved["bundle"])

    made = {str(position): resource.urn for position, resource in enumerate(issuer.issued)}
    return pulumi.Output.all(bundle=bundle, root=signer.certificate_pem, **made).apply(look)


async def _wait_for(issuance: Issuance, root: x509.Certificate, tell: Tell) -> None:
    namespace = issuance.settings.linkerd.namespace
    if issuance.settings.issuer.mode in CERT_MANAGER_MODES:
        await cert_manager.wait_issued(issuance.api, namespace, IDENTITY_ISSUER, tell)
    secret = await read_optional(
        issuance.api,
        f"Secret {namespace}/{IDENTITY_ISSUER}",
        namespace=namespace,
        url=f"secrets/{IDENTITY_ISSUER}",
    )
    signer = issuance.settings.anchor.signer
    found = list(judge_issuer_secret(secret or _absent(namespace), {signer: root}, signer, datetime.now(UTC)))
    wrong = [finding for finding in found if finding.severity == "error"]
    if wrong:
        msg = f"What was issued cannot sign for the mesh:\n{_listed(wrong)}"
        raise ClusterError(msg)
    _tell(found)


def _check_written(
    settings: Settings, secret: Mapping[str, Any] | None, roots: Mapping[str, x509.Certificate], *, changed: bool
) -> None:
    namespace, signer, now = settings.linkerd.namespace, settings.anchor.signer, datetime.now(UTC)
    if secret is None:
        context = settings.cluster.context
        msg = (
            'meshtrust:issuer.mode is "external-secret", and nobody has written Secret '
            f"{namespace}/{IDENTITY_ISSUER} yet. Write tls.crt (an ECDSA P-256 CA certificate signed under "
            f'generation "{signer}", followed by its intermediates), tls.key (its key) and ca.crt (the root):\n'
            f"  kubectl --context {context} create namespace {namespace}\n"
            f"  {issuer_secret.how_to_write(namespace, context)}"
        )
        raise ClusterError(msg)
    found = list(judge_issuer_secret(secret, roots, signer, now))
    wrong = [finding for finding in found if finding.severity == "error"]
    if wrong and changed:
        msg = f"The identity issuer that was written cannot sign for the mesh:\n{_listed(wrong)}"
        raise ClusterError(msg)
    _tell(found)
    fix = "Have it renewed by whoever writes it: a proxy's certificate, which is meant to live longer, ends with it"
    _tell(judge_issuer_life(secret, leaf_lifetime(settings.linkerd.values), now, fix))


def _known_roots(settings: Settings, last: StackOutputs) -> dict[str, x509.Certificate]:
    brought = {name: read_bundle(pem)[0] for name, pem in settings.anchor.certificates.items()}
    known = {**last.certificates, **brought}
    return {name: known[name] for name in settings.anchor.generations if name in known}


def _absent(namespace: str) -> Mapping[str, Any]:
    return {"metadata": {"namespace": namespace}, "type": issuer_secret.TYPE}


def _listed(findings: list[Finding]) -> str:
    return "\n".join(f"  - {finding}" for finding in findings)


def _tell(findings: Any) -> None:
    for finding in findings:
        pulumi.log.warn(str(finding))
