"""cert-manager and its Certificates on a cluster: what is not issued or renewed, why, and the time that is left."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from meshtrust.cluster import vault
from meshtrust.cluster.api import DEPLOYMENTS, SECRETS, Api, ForbiddenError, NotFoundError
from meshtrust.cluster.cert_manager import (
    CERTIFICATES,
    CLUSTER_ISSUERS,
    ISSUERS,
    condition_of,
    failure_of,
    request_says,
)
from meshtrust.cluster.readiness import explain, is_ready
from meshtrust.lint import Finding
from meshtrust.lint.rules import secrets as secret_rules
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from meshtrust.lint.rules.secrets import CredentialSecret
from meshtrust.names import CERT_MANAGER_GROUP
from meshtrust.pki.durations import format_left

# cert-manager issues and renews within seconds; an external issuer takes longer.
_SLOW = timedelta(minutes=3)
# Rules that an Issuer's CA breaks whatever it signs: its Secret lacks something, or certificate and key do not fit.
_OF_ANY_CA = ("MT203", "MT207", "MT209", "MT212", "MT216", "MT401", "MT407")
# cert-manager's chart, templates: names and components of its Deployments, and what is lost without each.
_INSTALLATION = {
    "controller": "no certificate is issued or renewed",
    "webhook": "Certificates and Issuers can neither be made nor changed",
    "cainjector": "no webhook gets the CA that it is to trust",
}
_INSTALLED = (
    "app.kubernetes.io/component in (controller,webhook,cainjector),"
    "app.kubernetes.io/name in (cert-manager,webhook,cainjector)"
)


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Commands that a finding names as its fix.

    Attributes:
        heal: The one that heals a control plane.
        deploy: The one that deploys its stack; empty if no stack does.
    """

    heal: str
    deploy: str = ""


async def judge_certificates(api: Api, namespace: str, now: datetime, commands: Commands) -> list[Finding]:
    """Return findings about the Certificates and Issuers of a namespace, in cert-manager's words.

    Args:
        api: Client of the cluster.
        namespace: The namespace.
        now: The time.
        commands: The commands that fix what is found.

    Raises:
        ForbiddenError: These credentials may not read them.
        ClusterError: They cannot be read.
    """
    try:
        certificates = [item async for item in api.list(CERTIFICATES, namespace=namespace)]
        issuers = {item["metadata"]["name"]: item async for item in api.list(ISSUERS, namespace=namespace)}
    except NotFoundError:
        return []
    found = []
    for certificate in certificates:
        signer = await _issuer_of(api, certificate, issuers)
        found += [finding async for finding in _judge(api, certificate, signer, now, commands)]
    for issuer in issuers.values():
        found += list(_judge_issuer(issuer))
        found += [finding async for finding in _judge_ca(api, issuer, now, commands)]
    return found


async def judge_installation(api: Api) -> list[Finding]:
    """Return what is wrong with the Deployments of cert-manager, wherever it is installed.

    Raises:
        ForbiddenError: These credentials may not read them.
        ClusterError: They cannot be read.
    """
    found = []
    what = "list of cert-manager's Deployments"
    async for item in api.list(DEPLOYMENTS, labels=_INSTALLED, what=what):
        deployment = {"kind": "Deployment", **item}
        if is_ready(deployment):
            continue
        metadata = deployment["metadata"]
        without = _INSTALLATION[metadata["labels"]["app.kubernetes.io/component"]]
        listed = "; ".join(await explain(api, deployment)) or "the cluster does not say why"
        kubectl = f"kubectl -n {metadata['namespace']}"
        is_scaled_down = deployment["spec"].get("replicas") == 0
        fix = (
            f"Scale it up: {kubectl} scale deployment {metadata['name']} --replicas 1"
            if is_scaled_down
            else f"Put right what it says; more is in: {kubectl} describe pods"
        )
        name = f"Deployment {metadata['namespace']}/{metadata['name']}"
        found.append(Finding(subject=name, wrong=f"has no pod that is ready, so that {without}: {listed}", fix=fix))
    return found


async def _judge(
    api: Api,
    certificate: Mapping[str, Any],
    signer: tuple[Mapping[str, Any], str],
    now: datetime,
    commands: Commands,
) -> AsyncIterator[Finding]:
    issuer, named = signer
    metadata, status = certificate["metadata"], certificate.get("status") or {}
    ready, issuing = condition_of(certificate, "Ready"), condition_of(certificate, "Issuing")
    secret = f"Secret {metadata['namespace']}/{certificate['spec'].get('secretName')}"
    subject = f"Certificate {metadata['namespace']}/{metadata['name']}"
    left = _left(status, secret, now)
    describe = f"kubectl -n {metadata['namespace']} describe certificate {metadata['name']}"
    fix = f"Put right what it says, and have it tried again: {commands.heal}"
    if commands.deploy:
        fix = f"Deploy what of this stack was changed on the cluster ({commands.deploy}), or p{fix[1:]}"
    since = _passed(issuing.get("lastTransitionTime"), now)
    if failure_of(certificate):
        attempts = status.get("failedIssuanceAttempts") or 1
        times = "once" if attempts == 1 else f"{attempts} times"
        reason = vault.explain(issuer, f"{issuing.get('reason')}: {issuing.get('message')} ({times})")
        wrong = f"is not issued by {named}: {reason}. {left}"
        yield Finding(subject=subject, wrong=wrong, fix=fix)
    elif issuing.get("status") == "True":
        if since > _SLOW:
            message = await request_says(api, certificate) or issuing.get("message") or "cert-manager gives no reason"
            reason = vault.explain(issuer, message)
            wrong = f"has been about to be issued by {named} for {format_left(since)}: {reason}. {left}"
            yield Finding(subject=subject, wrong=wrong, fix=f"See what {named} waits for: {describe}")
    elif ready.get("status") != "True":
        reason = ready.get("message") or "cert-manager has not looked at it: is it running?"
        # One that was just made is looked at within seconds.
        if _passed(ready.get("lastTransitionTime") or metadata.get("creationTimestamp"), now) > _SLOW:
            yield Finding(subject=subject, wrong=f"is not ready: {reason}. {left}", fix=f"See more: {describe}")
    elif (overdue := _passed(status.get("renewalTime"), now)) > _SLOW:
        wrong = f"was to be renewed {format_left(overdue)} ago, and cert-manager has not begun. {left}"
        yield Finding(
            subject=subject, wrong=wrong, fix="See whether cert-manager runs: kubectl get pods -A | grep cert-manager"
        )


def _judge_issuer(issuer: Mapping[str, Any]) -> Iterator[Finding]:
    ready, metadata = condition_of(issuer, "Ready"), issuer["metadata"]
    if ready and ready.get("status") != "True":
        reason = vault.explain(issuer, f"{ready.get('reason')}: {ready.get('message')}")
        yield Finding(
            subject=f"Issuer {metadata['namespace']}/{metadata['name']}",
            wrong=f"is not ready: {reason}",
            fix=f"Put right what it says; more is in: kubectl -n {metadata['namespace']} describe issuer "
            f"{metadata['name']}",
        )


async def _judge_ca(api: Api, issuer: Mapping[str, Any], now: datetime, commands: Commands) -> AsyncIterator[Finding]:
    """Yield what is wrong with the Secret that an Issuer signs with: cert-manager calls such an Issuer ready."""
    namespace, name = issuer["metadata"]["namespace"], (issuer["spec"].get("ca") or {}).get("secretName")
    if not name:
        return
    try:
        held = await api.find(SECRETS, name, namespace=namespace)
    except ForbiddenError:
        return
    if held is None:
        return
    secret = CredentialSecret(object_name=name, namespace=namespace, role="ca", manifest=held)
    credentials = Credentials(
        name=secret.name,
        role="ca",
        chain=secret.content("tls.crt") or "",
        key=secret.content("tls.key"),
        roots=None,
        at=now,
    )
    for finding in [*secret_rules.SECRETS.check(secret), *CREDENTIALS.check(credentials)]:
        if finding.rule is not None and finding.rule.id in _OF_ANY_CA:
            fix = f"Deploy the stack again, which writes it: {commands.deploy}" if commands.deploy else finding.fix
            wrong = f"{finding.wrong}: {cannot_sign(issuer['metadata']['name'])}"
            yield Finding(subject=finding.subject, wrong=wrong, fix=fix, rule=finding.rule)


def cannot_sign(issuer: str) -> str:
    """Return what follows for an Issuer from a Secret that is wrong, as a clause."""
    return f"Issuer {issuer} cannot sign with it"


async def _issuer_of(
    api: Api, certificate: Mapping[str, Any], issuers: Mapping[str, Mapping[str, Any]]
) -> tuple[Mapping[str, Any], str]:
    """Return a Certificate's issuer, empty if it is not at hand, and how a sentence names it, with its own trouble."""
    reference, namespace = certificate["spec"]["issuerRef"], certificate["metadata"]["namespace"]
    kind, name = reference.get("kind") or "Issuer", reference["name"]
    if reference.get("group", CERT_MANAGER_GROUP) != CERT_MANAGER_GROUP:
        return {}, f"{kind} {name}"
    if kind == "Issuer":
        found: Mapping[str, Any] | None = issuers.get(name)
    else:
        try:
            found = await api.find(CLUSTER_ISSUERS, name)
        except ForbiddenError:
            return {}, f"{kind} {name}"
    if found is None:
        return {}, f"{kind} {name}, which is not there"
    ready = condition_of(found, "Ready")
    unready = vault.explain(found, str(ready.get("message")))
    reason = "" if ready.get("status") == "True" else f", which is not ready ({unready})"
    secret = (found["spec"].get("ca") or {}).get("secretName")
    place = namespace if kind == "Issuer" else "the namespace of cert-manager"
    signs = f", which signs with Secret {place}/{secret}" if secret and not reason else ""
    return found, f"{kind} {name}{reason}{signs}"


def _left(status: Mapping[str, Any], secret: str, now: datetime) -> str:
    """Return, as a sentence without its end, how long what was issued last lives on."""
    if not status.get("notAfter"):
        return f"{secret} has nothing that was issued"
    left = datetime.fromisoformat(status["notAfter"]) - now
    ends = f"ends in {format_left(left)}" if left > timedelta() else f"ended {format_left(-left)} ago"
    return f"What is in {secret} {ends}"


def _passed(moment: str | None, now: datetime) -> timedelta:
    return now - datetime.fromisoformat(moment) if moment else timedelta()
