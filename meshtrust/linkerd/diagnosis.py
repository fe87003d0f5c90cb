"""Causes that keep a control plane from its work, in the cluster's own words: workloads, webhooks, certificates."""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography import x509

from meshtrust.cluster.api import CONFIGMAPS, NAMESPACES, SECRETS, Api, ForbiddenError, NotFoundError
from meshtrust.cluster.readiness import SCALED_DOWN, explain, is_ready, read_deployments
from meshtrust.cluster.trust_manager import BUNDLES
from meshtrust.files import parse_yaml
from meshtrust.linkerd.certificates import Commands, judge_certificates, judge_installation
from meshtrust.linkerd.issuer.secret import is_refused, judge_issuer_secret
from meshtrust.linkerd.webhooks.state import WebhookState, read_webhooks
from meshtrust.lint import Finding
from meshtrust.names import (
    COMPONENT_LABEL,
    EXTENSION_LABEL,
    IDENTITY_ISSUER,
    KUBERNETES_TLS,
    LINKERD_CONFIG,
    LINKERD_TLS,
    TRUST_ROOTS,
)

# What a mesh is without while a component of its control plane is down; that of the injector depends on its webhook.
_WITHOUT = {
    "identity": "no proxy gets a certificate",
    "destination": "proxies find no destinations, and policies are not served",
}
# Rules that a look at the mesh applies itself, to the same certificates: the chain, the time that is left, and ca.crt.
_JUDGED_ELSEWHERE = ("MT208", "MT213", "MT404", "MT405", "MT406")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A mesh to diagnose, with what it is compared with.

    Attributes:
        namespace: Namespace of the control plane.
        roots: The trusted roots, by generation or fingerprint.
        signer: The generation that a stack says signs; empty if no stack was deployed.
        authorities: The authorities that a stack has had the webhooks' certificates signed under; None if it has not.
        commands: How a command is given that acts on this mesh: the options that select it.
    """

    namespace: str
    roots: Mapping[str, x509.Certificate]
    signer: str = ""
    authorities: Sequence[x509.Certificate] | None = None
    commands: str = ""

    @property
    def heal(self) -> str:
        """The command that heals it."""
        return f"meshtrust heal{self.commands}"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Result of a diagnosis.

    Attributes:
        findings: What is wrong, each with its cause and what to do.
        refused: What the identity service would not start for, or take over: findings about the Secret.
        down: Why no pod of a component is ready, by component.
        issuer: The Secret of the identity issuer; None if there is none, or it may not be read.
        webhooks: What there is of each webhook.
        values: What Linkerd was installed with, as its charts keep it.
    """

    findings: tuple[Finding, ...] = ()
    refused: tuple[Finding, ...] = ()
    down: Mapping[str, str] = field(default_factory=dict)
    issuer: Mapping[str, Any] | None = field(default=None, repr=False)
    webhooks: tuple[WebhookState, ...] = field(default=(), repr=False)
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def is_scaled_down(self, component: str) -> bool:
        """Whether a component is down because it is scaled to 0."""
        return SCALED_DOWN in self.down.get(component, "")

    @property
    def replicas(self) -> int:
        """Number of pods of each component, by the chart's value (linkerd-control-plane, controllerReplicas)."""
        replicas = self.values.get("controllerReplicas")
        return replicas if isinstance(replicas, int) and replicas > 0 else 1


async def diagnose(api: Api, subject: Subject) -> Diagnosis:
    """Look at what a control plane consists of and depends on.

    What these credentials may not read is a warning that names it: the rest is checked nevertheless.

    Args:
        api: Client of the cluster.
        subject: What is diagnosed.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    namespace, now = subject.namespace, datetime.now(UTC)
    found: list[Finding] = []
    viz = await allowed(found, "the namespaces", _find_viz(api), "")
    deploy = f"pulumi up --refresh{subject.commands}" if subject.signer else ""
    commands = Commands(heal=subject.heal, deploy=deploy)
    places = list(filter(None, (namespace, viz)))
    certificates = [
        allowed(found, f"cert-manager's objects in namespace {place}", look, [])
        for place in places
        for look in [judge_certificates(api, place, now, commands)]
    ]
    values, deployments, webhooks, issuer, installation, bundle, *issued = await asyncio.gather(
        _read_values(api, namespace),
        allowed(found, f"the Deployments of namespace {namespace}", read_deployments(api, namespace, {}), []),
        allowed(found, "Linkerd's webhooks", read_webhooks(api, namespace, subject.authorities, viz), []),
        allowed([], "", _read_issuer(api, namespace), None),
        allowed(found, "the Deployments of cert-manager", judge_installation(api), []),
        allowed([], "", _judge_bundle(api), []),
        *certificates,
    )
    findings, down = await _judge_deployments(api, deployments, webhooks, subject)
    found += findings
    for state in webhooks:
        found += state.judge(now, subject.heal)
    refused: list[Finding] = []
    if issuer is not None:
        default = LINKERD_TLS if values else KUBERNETES_TLS
        scheme = str(((values.get("identity") or {}).get("issuer") or {}).get("scheme") or default)
        judged = list(judge_issuer_secret(issuer, subject.roots, subject.signer, now, scheme))
        refused = [finding for finding in judged if is_refused(finding)]
        found += [entry for entry in judged if not entry.rule or entry.rule.id not in _JUDGED_ELSEWHERE]
    for each in (*issued, installation, bundle):
        found += each
    return Diagnosis(
        findings=tuple(found),
        refused=tuple(refused),
        down=down,
        issuer=issuer,
        webhooks=tuple(webhooks),
        values=values,
    )


T = TypeVar("T")


async def allowed(found: list[Finding], what: str, look: Awaitable[T], otherwise: T) -> T:
    """Return what is read, or something else if it is not there, or may not be read, which becomes a finding."""
    try:
        return await look
    except NotFoundError:
        return otherwise
    except ForbiddenError as error:
        found.append(
            Finding(
                subject=what,
                wrong=f"cannot be judged: {error.server_message or error}",
                fix="Give these credentials the rights of deploy/rbac/read-only.yaml",
                severity="warning",
            )
        )
        return otherwise


async def _read_values(api: Api, namespace: str) -> Mapping[str, Any]:
    name = LINKERD_CONFIG
    held = await api.find(CONFIGMAPS, name, namespace=namespace)
    try:
        values = parse_yaml(((held or {}).get("data") or {}).get("values") or "")
    except ValueError:
        return {}
    return values if isinstance(values, Mapping) else {}


async def _read_issuer(api: Api, namespace: str) -> Mapping[str, Any] | None:
    return await api.find(SECRETS, IDENTITY_ISSUER, namespace=namespace)


async def _find_viz(api: Api) -> str:
    """Return the namespace of linkerd-viz; empty if it is not installed (linkerd2 ``viz/pkg/healthcheck``)."""
    async for item in api.list(NAMESPACES, labels=f"{EXTENSION_LABEL}=viz"):
        return str(item["metadata"]["name"])
    return ""


async def _judge_deployments(
    api: Api, deployments: Sequence[Mapping[str, Any]], webhooks: Sequence[WebhookState], subject: Subject
) -> tuple[list[Finding], dict[str, str]]:
    """Return what is wrong with the workloads of the control plane, and why a component is down, by component."""
    found, down = [], {}
    # The injector is called for every new pod; the validators run in the pods of another component.
    without = dict(_WITHOUT)
    for state in webhooks:
        if dict(state.webhook.labels).get(COMPONENT_LABEL) == "proxy-injector":
            without["proxy-injector"] = state.consequence
    for deployment in deployments:
        metadata, status = deployment["metadata"], deployment.get("status") or {}
        component = ((deployment["spec"]["template"]["metadata"].get("labels")) or {}).get(COMPONENT_LABEL)
        wanted, ready = deployment["spec"].get("replicas", 1), status.get("readyReplicas", 0)
        if component is None or (ready >= wanted > 0 and is_ready(deployment)):
            continue
        reasons = await explain(api, deployment)
        listed = "; ".join(reasons) or "the cluster does not say why"
        name = f"Deployment {metadata['namespace']}/{metadata['name']}"
        if not ready:
            down[component] = listed
            lost = without.get(component, "what it does for the mesh is not done")
            found.append(
                Finding(
                    subject=name,
                    wrong=f"has no pod that is ready, so that {lost}: {listed}",
                    fix=_cure(component, deployment, reasons, subject),
                )
            )
        else:
            wrong = f"has {ready} of {wanted} pods ready"
            found.append(
                Finding(subject=name, wrong=f"{wrong}: {listed}", fix=_look_at(deployment), severity="warning")
            )
    return found, down


def _cure(component: str, deployment: Mapping[str, Any], reasons: Sequence[str], subject: Subject) -> str:
    metadata = deployment["metadata"]
    if component == "identity":
        return f"Have it healed, as far as it can be: {subject.heal}"
    if deployment["spec"].get("replicas") == 0:
        return f"Scale it up: kubectl -n {metadata['namespace']} scale deployment {metadata['name']} --replicas 1"
    if any("paused" in reason for reason in reasons):
        return f"Let it go on: kubectl -n {metadata['namespace']} rollout resume deployment {metadata['name']}"
    return _look_at(deployment)


def _look_at(deployment: Mapping[str, Any]) -> str:
    metadata = deployment["metadata"]
    return f"Put right what it says; more is in: kubectl -n {metadata['namespace']} describe pods"


async def _judge_bundle(api: Api) -> list[Finding]:
    """Return what keeps trust-manager from publishing the trusted roots, if it is to (trust-manager's API, Bundle)."""
    try:
        found = await api.find(BUNDLES, TRUST_ROOTS)
    except NotFoundError:
        return []
    return list(_unsynced(found or {}))


def _unsynced(bundle: Mapping[str, Any]) -> Iterator[Finding]:
    for condition in (bundle.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Synced" and condition.get("status") != "True":
            yield Finding(
                subject=f"Bundle {TRUST_ROOTS}",
                wrong=f"is not published by trust-manager: {condition.get('reason')}: {condition.get('message')}",
                fix=f"Put right what it says; more is in: kubectl describe bundle {TRUST_ROOTS}",
            )
