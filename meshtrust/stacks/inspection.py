"""The state of a mesh's credentials: the deployed roots, the objects in the cluster, and findings about them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from cryptography import x509

from meshtrust.cluster.api import Api, ClusterError
from meshtrust.linkerd.diagnosis import Diagnosis, Subject, diagnose
from meshtrust.linkerd.evidence import Mesh, matches_secret, read_mesh, read_served_issuers
from meshtrust.linkerd.external_peers import Unseen, read_unseen
from meshtrust.linkerd.pods import MeshedPod, Workload
from meshtrust.lint import Finding, lint_trust_anchor
from meshtrust.names import IDENTITY
from meshtrust.pki.chain import find_chain
from meshtrust.pki.durations import format_left
from meshtrust.pki.pem import CertificateSummary, fingerprint
from meshtrust.rotation.report import RotationReport
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.target import Target

_SHORT = 12


@dataclass(frozen=True, kw_only=True)
class MinimumLifetimes:
    """Times that must be left of the certificates; with less it is an error.

    Attributes:
        issuer: Of the identity issuer. One that lives 48 hours and is renewed 25 hours before its end always has more
            than a leaf's 24 hours.
        anchor: Of each trust anchor. A rotation takes two rounds of restarts, and people to agree on them.
    """

    issuer: timedelta = timedelta(hours=24)
    anchor: timedelta = timedelta(days=60)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A mesh at one moment.

    Attributes:
        context: Context of the kubeconfig that leads to its cluster.
        mesh: What the cluster holds.
        served: What each replica of the identity service signs with, as `read_served_issuers` returns it.
        trust: What the stack last deployed; None if no stack was named, or it has not been deployed.
        deployed: The deployed roots, by generation.
        names: Generations by their root's fingerprint, retired ones included.
        retired: Fingerprints of the roots that the stack has retired.
        now: The moment.
        diagnosis: What keeps the control plane from its work.
        rotation: The report of the rotation that the stack's last run has left; None if there is none.
        unseen: Who may trust the roots and cannot be asked from the cluster; None if that could not be read.
    """

    context: str
    mesh: Mesh
    served: Mapping[MeshedPod, datetime | str]
    trust: Trust | None
    deployed: Mapping[str, x509.Certificate]
    names: Mapping[str, str]
    retired: frozenset[str]
    now: datetime
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    rotation: RotationReport | None = None
    unseen: Unseen | None = field(default_factory=Unseen)

    def name(self, root: str) -> str:
        """Return what a person calls a root: its generation, or the beginning of its fingerprint."""
        return self.names.get(root, root[:_SHORT])

    @property
    def phase(self) -> str:
        """Phase of the stack's rotation; ``unmanaged`` without a stack."""
        return self.trust.phase if self.trust else "unmanaged"

    @cached_property
    def issuer_chain(self) -> list[x509.Certificate]:
        """The identity issuer up to its root in the bundle; empty where it does not chain to one."""
        return find_chain(self.mesh.issuer, self.mesh.roots, self.now)

    @cached_property
    def pods_by_anchors(self) -> Counter[tuple[str, ...]]:
        """Number of proxies by the roots that they trust; no root for those whose roots are unknown."""
        return Counter(tuple(sorted(map(self.name, pod.anchors or ()))) for pod in self.mesh.pods)

    def workloads_not_trusting(self, root: str) -> dict[Workload, int]:
        """Return how many proxies of each workload do not trust a root, or whose roots are unknown."""
        return Counter(pod.workload for pod in self.mesh.pods if pod.may_lack(root))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for machines; times are ISO 8601 in UTC."""
        return {
            "context": self.context,
            "namespace": self.mesh.namespace,
            "phase": self.phase,
            "anchors": list(self.trust.anchors) if self.trust else None,
            "signer": self.trust.signer if self.trust else None,
            "rotation": self.rotation.as_outputs() if self.rotation else None,
            "roots": [
                {"name": self.name(fingerprint(root)), **CertificateSummary.of(root).as_outputs()}
                for root in self.mesh.roots
            ],
            "issuer": CertificateSummary.of(self.mesh.issuer[0]).as_outputs() if self.mesh.issuer else None,
            "issuerRoot": self.name(fingerprint(self.issuer_chain[-1])) if self.issuer_chain else None,
            "servedIssuers": {
                str(pod): end
                if isinstance(end, str)
                else {"notAfter": end.isoformat(), "current": self.has_current_issuer(pod)}
                for pod, end in self.served.items()
            },
            "unseen": self.unseen.subjects if self.unseen else None,
            "pods": len(self.mesh.pods),
            "podsByAnchors": [
                {"anchors": list(anchors), "pods": count} for anchors, count in sorted(self.pods_by_anchors.items())
            ],
        }

    def has_current_issuer(self, pod: MeshedPod) -> bool:
        """Whether a replica of the identity service signs with the issuer in the Secret."""
        return self.issuer_status(pod) == "current"

    def issuer_status(self, pod: MeshedPod) -> Literal["current", "another", "unknown"]:
        """Return which issuer a replica of the identity service signs with: the Secret's, or another."""
        end = self.served[pod]
        if isinstance(end, str):
            return "unknown"
        return "current" if matches_secret(self.mesh, end) else "another"

    @property
    def drifted(self) -> bool | None:
        """Drift of the cluster's bundle from the deployed one: whether they differ; None if no deployment is known."""
        if not self.deployed:
            return None
        return set(map(fingerprint, self.mesh.roots)) != set(map(fingerprint, self.deployed.values()))


async def inspect(target: Target, *, diagnoses: bool = True) -> Inspection:
    """Read a mesh's credentials.

    Args:
        target: The mesh.
        diagnoses: Whether to look at the control plane, too, and at what it depends on.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    mesh = await read_mesh(target.api, target.namespace)
    served = await read_served_issuers(target.api, mesh)
    diagnosis = await diagnose(target.api, subject_of_diagnosis(target, mesh)) if diagnoses else Diagnosis()
    deployed = target.deployed
    retired = {root.fingerprint: f"{name} (retired)" for name, root in deployed.retired.items()} if deployed else {}
    current = {root.fingerprint: name for name, root in deployed.roots.items()} if deployed else {}
    return Inspection(
        context=target.context,
        mesh=mesh,
        served=served,
        trust=deployed.trust if deployed else None,
        deployed=deployed.certificates if deployed else {},
        names=retired | current,
        retired=frozenset(retired) - frozenset(current),
        now=datetime.now(UTC),
        diagnosis=diagnosis,
        rotation=deployed.rotation if deployed else None,
        unseen=await _read_unseen(target.api, mesh),
    )


async def _read_unseen(api: Api, mesh: Mesh) -> Unseen | None:
    try:
        return await read_unseen(api, mesh)
    except ClusterError:
        return None


def subject_of_diagnosis(target: Target, mesh: Mesh) -> Subject:
    """Return what a diagnosis of a mesh goes by: what its stack has deployed, or else what the cluster holds."""
    deployed = target.deployed
    trust = deployed.trust if deployed else None
    commands = f" --stack {target.stack.name}" if target.stack else f" --context {target.context}"
    if deployed is None or trust is None:
        roots = {fingerprint(root)[:_SHORT]: root for root in mesh.roots}
        return Subject(namespace=target.namespace, roots=roots, commands=commands)
    webhooks = deployed.webhooks
    return Subject(
        namespace=target.namespace,
        roots=deployed.certificates,
        signer=trust.signer,
        authorities=list(webhooks.certificates.values()) if webhooks.by_cert_manager else None,
        commands=commands,
    )


def judge(inspection: Inspection, budget: MinimumLifetimes) -> list[Finding]:
    """Return what needs attention, errors first.

    Args:
        inspection: The mesh.
        budget: How much life must be left.
    """
    found = [
        *_judge_bundle(inspection, budget),
        *_judge_issuer(inspection, budget),
        *_judge_served(inspection),
        *inspection.diagnosis.findings,
        *_judge_proxies(inspection),
    ]
    return sorted(found, key=lambda finding: finding.severity != "error")


def _judge_bundle(inspection: Inspection, budget: MinimumLifetimes) -> Iterator[Finding]:
    mesh = inspection.mesh
    subject = mesh.bundle_name
    if not mesh.roots:
        yield Finding(
            subject=subject,
            wrong="is not there, or holds no certificate: the identity service cannot start without it",
            fix="Install Linkerd, or deploy the stack again",
        )
        return
    held = {fingerprint(root) for root in mesh.roots}
    expected = {fingerprint(root): name for name, root in inspection.deployed.items()}
    if inspection.drifted:
        missing = ", ".join(name for root, name in expected.items() if root not in held)
        foreign = ", ".join(inspection.name(root) for root in sorted(held - set(expected)))
        differs = [f"lacks {missing}" if missing else "", f"holds {foreign} besides" if foreign else ""]
        yield Finding(
            subject=subject,
            wrong=f"is not what the stack deployed: it {' and '.join(filter(None, differs))}",
            fix="Find out who changed it, then: pulumi refresh && pulumi up",
        )
    all_ended = all(root.not_valid_after_utc <= inspection.now for root in mesh.roots)
    # Once nothing that is trusted is valid, no step of a rotation can be deployed.
    fix = (
        "The way back is in docs/runbook.md, An expired anchor"
        if all_ended
        else "Rotate to a new one: meshtrust rotate"
    )
    for root in mesh.roots:
        name = f"trust anchor {inspection.name(fingerprint(root))}"
        for finding in lint_trust_anchor(root):
            yield replace(finding, subject=name, fix="Rotate to a root that Linkerd accepts")
        yield from _judge_life(name, root, budget.anchor, inspection.now, fix)


def _judge_issuer(inspection: Inspection, budget: MinimumLifetimes) -> Iterator[Finding]:
    mesh = inspection.mesh
    if not mesh.issuer:
        yield Finding(
            subject=mesh.issuer_source,
            wrong="holds no issuer in tls.crt",
            fix="See what keeps cert-manager from it, or who else writes it",
        )
        return
    fix = (
        f"See what keeps cert-manager from renewing it (kubectl -n {mesh.namespace} describe certificate), or have it "
        "renewed by who else writes it"
    )
    yield from _judge_life("identity issuer", mesh.issuer[0], budget.issuer, inspection.now, fix)
    if mesh.issuer[0].not_valid_after_utc > inspection.now and not inspection.issuer_chain:
        yield Finding(
            subject="identity issuer",
            wrong="chains to no root of the bundle: the identity service refuses it, and every leaf under it",
            fix="Deploy the stack again, or put the bundle right that was changed",
        )
    if mesh.issuer_root is not None and not (
        set(map(fingerprint, mesh.issuer_root)) & set(map(fingerprint, mesh.roots))
    ):
        yield Finding(
            subject=mesh.issuer_source,
            wrong="has no root of the bundle in ca.crt, where `linkerd check` looks for it",
            fix="Give the CA's Secret its whole chain up to the root",
            severity="warning",
        )


def _judge_life(
    subject: str, certificate: x509.Certificate, budget: timedelta, now: datetime, fix: str
) -> Iterator[Finding]:
    left = certificate.not_valid_after_utc - now
    if left <= timedelta():
        yield Finding(subject=subject, wrong=f"ended {format_left(-left)} ago", fix=fix)
    elif left < budget:
        yield Finding(subject=subject, wrong=f"has {format_left(left)} left, below the {format_left(budget)}", fix=fix)


def _judge_served(inspection: Inspection) -> Iterator[Finding]:
    if "identity" in inspection.diagnosis.down:
        # Why it cannot be asked is among the findings of the diagnosis, and no right helps.
        return
    for pod, end in inspection.served.items():
        if isinstance(end, str):
            yield Finding(
                subject=str(pod),
                wrong=f"does not report which issuer it signs with: {end}",
                fix="Give these credentials the right to create pods/portforward"
                if "403" in end
                else f"See what keeps it: kubectl -n {pod.namespace} describe pod {pod.name}",
                severity="warning",
            )
        elif not inspection.has_current_issuer(pod):
            ends = f"signs with an issuer that ends {end:%Y-%m-%d %H:%M} UTC, and the Secret holds another"
            if inspection.diagnosis.refused:
                yield Finding(
                    subject=str(pod),
                    wrong=f"{ends}, which it does not take over, and would not start with",
                    fix="Do not restart it. Put the Secret right first: what is wrong with it is listed here",
                )
            else:
                yield Finding(
                    subject=str(pod),
                    wrong=f"{ends}: it has missed the reload (linkerd2 issue 15109), unless the Secret was renewed "
                    "within the last minutes",
                    fix="Restart it before that: meshtrust heal",
                )
    if not inspection.served:
        yield Finding(
            subject=f"Deployment {inspection.mesh.namespace}/{IDENTITY}",
            wrong="has no replica that runs, so that no proxy gets a certificate",
            fix=f"See what keeps it: kubectl -n {inspection.mesh.namespace} describe pods",
        )


def _judge_proxies(inspection: Inspection) -> Iterator[Finding]:
    signing = fingerprint(inspection.issuer_chain[-1]) if inspection.issuer_chain else ""
    unseen = [pod for pod in inspection.mesh.pods if pod.trust.state == "unseen"]
    if unseen:
        reason = unseen[0].trust.reason
        yield Finding(
            subject=f"{len(unseen)} of {len(inspection.mesh.pods)} proxies",
            wrong=f"do not show which roots they trust: {reason} ({_listed(Counter(pod.workload for pod in unseen))})",
            fix="Give these credentials the right to create pods/portforward"
            if "403" in reason
            else "Restart them, so that they trust what is deployed: kubectl rollout restart, or meshtrust rotate",
            severity="warning",
        )
    for root in map(fingerprint, inspection.mesh.roots):
        lacking = Counter(
            pod.workload for pod in inspection.mesh.pods if pod.trust.state != "unseen" and pod.may_lack(root)
        )
        if not lacking:
            continue
        count, name = sum(lacking.values()), inspection.name(root)
        yield Finding(
            subject=f"{count} of {len(inspection.mesh.pods)} proxies",
            wrong=f"do not trust {name}"
            + (", which signs: their next certificate is refused" if root == signing else "")
            + f" ({_listed(lacking)})",
            fix="Restart them: kubectl rollout restart, or meshtrust rotate",
            severity="error" if root == signing else "warning",
        )
    stale = Counter(pod.workload for pod in inspection.mesh.pods if (pod.anchors or frozenset()) & inspection.retired)
    if stale:
        yield Finding(
            subject=f"{sum(stale.values())} of {len(inspection.mesh.pods)} proxies",
            wrong=f"still trust a retired root ({_listed(stale)})",
            fix="It ends with their next restart; restart them now if that root's key was lost to someone",
            severity="warning",
        )


def _listed(workloads: Mapping[Workload, int], most: int = 5) -> str:
    names = [str(workload) for workload in sorted(workloads, key=str)]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
