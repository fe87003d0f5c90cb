"""A fleet at one moment: each cluster, how the clusters are linked, and what needs attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from cryptography import x509

from meshtrust.linkerd.links import Link, Links
from meshtrust.lint import Finding
from meshtrust.pki.pem import CertificateSummary, fingerprint
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.report import RotationReport
from meshtrust.stacks.inspection import Inspection

LinkState = Literal["well", "refused", "unchecked"]


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """One cluster of a fleet at one moment.

    Attributes:
        stack: Its stack.
        link_name: What the Links of other clusters call it.
        inspection: What it holds; None if it cannot be read, or is not deployed.
        error: Why it cannot be read; empty where it can be, or is not deployed.
        findings: What needs attention in it.
        pledge: What its stack has pledged to the fleet.
        earlier: Fingerprints of the roots that have signed before in it, and that live certificates may be under still.
        links: Its Links to other clusters.
    """

    stack: str
    link_name: str
    inspection: Inspection | None = None
    error: str = ""
    findings: tuple[Finding, ...] = ()
    pledge: Pledge = field(default_factory=Pledge)
    earlier: frozenset[str] = frozenset()
    links: Links = field(default_factory=Links)

    @property
    def phase(self) -> str:
        """Phase of its rotation, or why that is unknown."""
        if self.inspection:
            return self.inspection.phase
        return "unreadable" if self.error else "not deployed"

    @property
    def rotation(self) -> RotationReport | None:
        """The report of the rotation that its last run has left; None if there is none, or it cannot be read."""
        return self.inspection.rotation if self.inspection else None

    @property
    def signing_root(self) -> str:
        """Fingerprint of the root that its issuer is under, or empty."""
        chain = self.inspection.issuer_chain if self.inspection else []
        return fingerprint(chain[-1]) if chain else ""

    @property
    def signer(self) -> str:
        """The generation that its issuer is under, or empty."""
        return self.inspection.name(self.signing_root) if self.inspection and self.signing_root else ""

    @property
    def live_roots(self) -> frozenset[str]:
        """Fingerprints of the roots that certificates in it may be under."""
        return self.earlier | {self.signing_root} - {""}

    @property
    def unseen(self) -> list[str]:
        """Names of who may trust its roots and cannot be asked from it, without its Links, which `links` has."""
        found = self.inspection.unseen if self.inspection else None
        return replace(found, links=()).subjects if found else []

    @property
    def has_errors(self) -> bool:
        """Whether it cannot be read, or something in it is wrong."""
        return bool(self.error) or any(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for machines."""
        findings = [
            {"severity": entry.severity, "subject": entry.subject, "wrong": entry.wrong, "fix": entry.fix}
            for entry in self.findings
        ]
        seen = self.inspection.as_json() if self.inspection else {"phase": self.phase}
        pledged = {"accepts": sorted(self.pledge.accepts), "released": sorted(self.pledge.released)}
        return {
            "stack": self.stack,
            "error": self.error or None,
            **seen,
            "pledged": pledged,
            "links": self.links.as_json(),
            "findings": findings,
        }


@dataclass(frozen=True, kw_only=True)
class LinkView:
    """One Link between clusters, judged from both of its ends.

    Attributes:
        link: The Link.
        source: Stack of the cluster that holds it.
        target: Stack of the cluster that it leads to; empty if that is not one of the fleet.
        state: Whether both ends accept each other, one refuses the other, or neither is known.
    """

    link: Link
    source: str
    target: str
    state: LinkState

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for machines."""
        return {
            "from": self.source,
            "to": self.target or None,
            "namespace": self.link.namespace,
            "name": self.link.name,
            "targetClusterName": self.link.target,
            "gatewayAddress": self.link.gateway_address or None,
            "gatewayIdentity": self.link.gateway_identity or None,
            "state": self.state,
        }


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """A fleet at one moment.

    Attributes:
        anchor_stack: Name of the anchor stack.
        roots: The fleet's roots, by generation.
        clusters: The clusters.
        links: The Links of all clusters.
        now: The moment.
        rotation: The report of the rotation that the anchor stack's last run has left; None if there is none.
    """

    anchor_stack: str
    roots: Mapping[str, x509.Certificate]
    clusters: Sequence[ClusterView]
    links: Sequence[LinkView] = ()
    now: datetime
    rotation: RotationReport | None = None

    @property
    def rotations(self) -> Mapping[str, RotationReport]:
        """The reports of the stacks that have left one, the anchor stack's first."""
        reports = {self.anchor_stack: self.rotation} | {entry.stack: entry.rotation for entry in self.clusters}
        return {stack: report for stack, report in reports.items() if report}

    def signed_by(self, generation: str) -> list[str]:
        """Return the clusters in which a generation signs."""
        return [cluster.stack for cluster in self.clusters if cluster.signer == generation]

    def trusted_by(self, generation: str) -> list[str]:
        """Return the clusters whose stacks trust a generation."""
        return [
            cluster.stack
            for cluster in self.clusters
            if cluster.inspection and cluster.inspection.trust and generation in cluster.inspection.trust.anchors
        ]

    def links_of(self, stack: str) -> list[LinkView]:
        """Return the Links that a cluster holds."""
        return [link for link in self.links if link.source == stack]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for machines; times are ISO 8601 in UTC."""
        return {
            "anchorStack": self.anchor_stack,
            "at": self.now.isoformat(timespec="seconds"),
            "rotation": self.rotation.as_outputs() if self.rotation else None,
            "anchors": [
                {
                    "name": name,
                    **CertificateSummary.of(root).as_outputs(),
                    "daysLeft": (root.not_valid_after_utc - self.now).days,
                    "signsIn": self.signed_by(name),
                    "trustedIn": self.trusted_by(name),
                }
                for name, root in self.roots.items()
            ],
            "clusters": [cluster.as_json() for cluster in self.clusters],
            "links": [link.as_json() for link in self.links],
        }
