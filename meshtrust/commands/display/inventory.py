"""The inventory of a mesh for other programs: as JSON, and as metrics for Prometheus."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from cryptography import x509

from meshtrust.lint import Finding
from meshtrust.pki.pem import CertificateSummary, fingerprint
from meshtrust.rotation.steps import Phase
from meshtrust.stacks.inspection import Inspection
from meshtrust.stacks.outputs import StackOutputs

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_UNMANAGED = "unmanaged"
_DAY = timedelta(days=1)


def take_inventory(
    inspection: Inspection, findings: Sequence[Finding], deployed: StackOutputs | None
) -> dict[str, Any]:
    """Return an inventory as plain data; times are ISO 8601 in UTC.

    Args:
        inspection: The mesh.
        findings: What of it needs attention.
        deployed: What the stack last deployed, which has the audit trail; None if no stack was named.
    """
    total = len(inspection.mesh.pods)
    signing = _signing(inspection)
    roots = [
        {
            "generation": inspection.name(fingerprint(root)),
            **CertificateSummary.of(root).as_outputs(),
            "daysLeft": _left(root, inspection) // _DAY,
            "signs": fingerprint(root) == signing,
            "trustedByPods": total - sum(inspection.workloads_not_trusting(fingerprint(root)).values()),
        }
        for root in inspection.mesh.roots
    ]
    issuer = inspection.mesh.issuer[:1]
    return {
        "at": inspection.now.isoformat(timespec="seconds"),
        **inspection.as_json(),
        "roots": roots,
        "issuer": {
            **CertificateSummary.of(issuer[0]).as_outputs(),
            "hoursLeft": _left(issuer[0], inspection) // timedelta(hours=1),
        }
        if issuer
        else None,
        "retired": {name: root.fingerprint for name, root in deployed.retired.items()} if deployed else {},
        "findings": [asdict(finding) for finding in findings],
        "transitions": deployed.transitions if deployed else [],
    }


class MeshCollector:
    """A mesh as Prometheus has it: each metric with the context and the namespace of the control plane as labels.

    None of them is called ``namespace`` or ``pod``: those are what was scraped, and a textfile is scraped elsewhere.
    """

    def __init__(self, inspection: Inspection, findings: Sequence[Finding], deployed: StackOutputs | None) -> None:
        self._inspection = inspection
        self._findings = findings
        self._deployed = deployed

    def collect(self) -> Iterator["Metric"]:
        """Yield the metrics."""
        inspection, mesh = self._inspection, self._inspection.mesh
        yield self._gauge("export_timestamp_seconds", "When this was read.", [({}, inspection.now.timestamp())])
        yield self._gauge(
            "phase",
            "1 for the phase of a rotation that the stack is in.",
            [({"phase": phase}, phase == inspection.phase) for phase in (*get_args(Phase), _UNMANAGED)],
        )
        steps = self._deployed.transitions if self._deployed else []
        yield self._gauge(
            "phase_since_timestamp_seconds",
            "When the last step was taken.",
            [({}, datetime.fromisoformat(step["at"]).timestamp()) for step in steps[-1:]],
        )
        if report := inspection.rotation:
            yield self._gauge(
                "rotation_converged",
                "1 if the last run left the stack at the goal of its rotation.",
                [({}, report.is_converged)],
            )
            yield self._gauge(
                "rotation_waiting",
                "What the next step to the goal waited for in the last run.",
                [({}, report.waiting_count)],
            )
            yield self._gauge(
                "rotation_since_timestamp_seconds",
                "From when on the goal and the next step have been these.",
                [({}, report.since_time.timestamp())],
            )
        signing = _signing(inspection)
        yield self._gauge(
            "root_not_after_timestamp_seconds",
            "When a root of the bundle ends.",
            [(self._root(root, signing), root.not_valid_after_utc.timestamp()) for root in mesh.roots],
        )
        yield self._gauge(
            "root_untrusting_proxies",
            "Proxies that do not trust a root of the bundle, or whose roots are unknown.",
            [
                (self._root(root, signing), sum(inspection.workloads_not_trusting(fingerprint(root)).values()))
                for root in mesh.roots
            ],
        )
        yield self._gauge("proxies", "Proxies that run.", [({}, len(mesh.pods))])
        yield self._gauge(
            "proxies_by_anchors",
            "Proxies by the roots that they trust; none if that is not known.",
            [({"anchors": ",".join(names)}, count) for names, count in inspection.pods_by_anchors.items()],
        )
        yield self._gauge(
            "issuer_not_after_timestamp_seconds",
            "When the identity issuer in the Secret ends.",
            [({}, issuer.not_valid_after_utc.timestamp()) for issuer in mesh.issuer[:1]],
        )
        states = [inspection.issuer_status(pod) for pod in inspection.served]
        yield self._gauge(
            "identity_replicas",
            "Replicas of the identity service by whether they sign with the issuer in the Secret.",
            [({"issuer": state}, states.count(state)) for state in ("current", "another", "unknown")],
        )
        if inspection.drifted is not None:
            yield self._gauge(
                "bundle_drift",
                "1 where the bundle in the cluster is not the one that the stack deployed.",
                [({}, inspection.drifted)],
            )
        severities = [finding.severity for finding in self._findings]
        yield self._gauge(
            "findings",
            "What needs attention, as `meshtrust verify` has it.",
            [({"severity": severity}, severities.count(severity)) for severity in ("error", "warning")],
        )

    def _root(self, root: x509.Certificate, signing: str) -> dict[str, str]:
        mark = fingerprint(root)
        return {
            "generation": self._inspection.name(mark),
            "fingerprint": mark,
            "signs": "true" if mark == signing else "false",
        }

    def _gauge(self, name: str, about: str, samples: list[tuple[dict[str, str], float]]) -> "Metric":
        # Only an export needs it.
        from prometheus_client.metrics_core import Metric  # noqa: PLC0415

        metric = Metric(f"meshtrust_{name}", about, "gauge")
        where = {"context": self._inspection.context, "linkerd_namespace": self._inspection.mesh.namespace}
        for labels, value in samples:
            metric.add_sample(metric.name, {**where, **labels}, float(value))
        return metric


def _signing(inspection: Inspection) -> str:
    return fingerprint(inspection.issuer_chain[-1]) if inspection.issuer_chain else ""


def _left(certificate: x509.Certificate, inspection: Inspection) -> timedelta:
    return certificate.not_valid_after_utc - inspection.now
