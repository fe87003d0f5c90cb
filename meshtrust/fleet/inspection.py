"""The state of a fleet's credentials: each cluster's, and how the clusters fit together."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from meshtrust.cluster import ClusterError
from meshtrust.deployment import Deployment
from meshtrust.fleet.pledge import Pledge
from meshtrust.fleet.stacks import Fleet
from meshtrust.inspection import Budget, Inspection, inspect, judge
from meshtrust.lint import Finding
from meshtrust.pem import Identity, fingerprint
from meshtrust.stack import MissingStackError, Stack, StackError
from meshtrust.target import Selection, open_target


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """One cluster of a fleet at one moment.

    Attributes:
        stack: Its stack.
        inspection: What it holds; nothing where it cannot be read, or is not deployed.
        error: Why it cannot be read; empty where it can be, or is not deployed.
        findings: What needs attention in it.
        pledge: What its stack has told the fleet.
    """

    stack: str
    inspection: Inspection | None = None
    error: str = ""
    findings: tuple[Finding, ...] = ()
    pledge: Pledge = field(default_factory=Pledge)

    @property
    def phase(self) -> str:
        """Where in a rotation it is, or why that is unknown."""
        if self.inspection:
            return self.inspection.phase
        return "unreadable" if self.error else "not deployed"

    @property
    def signer(self) -> str:
        """The generation that its served issuer is under, or empty."""
        chain = self.inspection.issuer_chain if self.inspection else []
        return self.inspection.name(fingerprint(chain[-1])) if self.inspection and chain else ""

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
        told = {"accepts": sorted(self.pledge.accepts), "released": sorted(self.pledge.released)}
        return {"stack": self.stack, "error": self.error or None, **seen, "told": told, "findings": findings}


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """A fleet at one moment.

    Attributes:
        anchor_stack: Name of the anchor stack.
        roots: The fleet's roots, by generation.
        clusters: The clusters.
        now: The moment.
    """

    anchor_stack: str
    roots: Mapping[str, x509.Certificate]
    clusters: Sequence[ClusterView]
    now: datetime

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

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for machines; times are ISO 8601 in UTC."""
        return {
            "anchorStack": self.anchor_stack,
            "at": self.now.isoformat(timespec="seconds"),
            "anchors": [
                {
                    "name": name,
                    **Identity.of(root).as_outputs(),
                    "daysLeft": (root.not_valid_after_utc - self.now).days,
                    "signsIn": self.signed_by(name),
                    "trustedIn": self.trusted_by(name),
                }
                for name, root in self.roots.items()
            ],
            "clusters": [cluster.as_json() for cluster in self.clusters],
        }


async def inspect_fleet(fleet: Fleet, budget: Budget, parallel: int) -> FleetView:
    """Read a fleet's credentials and judge them; a cluster that cannot be read is told of, and stops nothing.

    Args:
        fleet: The fleet.
        budget: How much life must be left.
        parallel: Clusters at a time.

    Raises:
        StackError: The anchor stack cannot be read, or has not been deployed.
    """
    limit = asyncio.Semaphore(parallel)

    async def look(stack: Stack) -> ClusterView:
        async with limit:
            return await _look(stack, budget)

    deployed = await _read_anchor(fleet.anchor)
    views = await asyncio.gather(*map(look, fleet.clusters))
    linked = [replace(view, findings=(*judge_links(view, views), *view.findings)) for view in views]
    return FleetView(
        anchor_stack=fleet.anchor.name, roots=deployed.certificates, clusters=linked, now=datetime.now(UTC)
    )


async def _read_anchor(stack: Stack) -> Deployment:
    deployed = Deployment(await asyncio.to_thread(stack.outputs))
    if not deployed.anchors:
        msg = f'The anchor stack "{stack.name}" has not been deployed yet. Run: meshtrust fleet up'
        raise StackError(msg)
    return deployed


async def _look(stack: Stack, budget: Budget) -> ClusterView:
    try:
        target = await open_target(Selection(stack=stack.name, directory=stack.directory))
        if target.deployed is None or target.deployed.trust is None:
            return ClusterView(stack=stack.name)
        inspection = await inspect(target)
    except MissingStackError:
        return ClusterView(stack=stack.name)
    except (StackError, ClusterError) as error:
        return ClusterView(stack=stack.name, error=str(error))
    findings = (*judge_pledge(inspection, target.deployed.pledge), *judge(inspection, budget))
    return ClusterView(stack=stack.name, inspection=inspection, findings=findings, pledge=target.deployed.pledge)


def judge_pledge(inspection: Inspection, pledge: Pledge) -> Iterator[Finding]:
    """Find what a cluster has told its fleet and is so no longer, as after a change by hand: others rely on it."""
    fix = "Put it right before any cluster takes a step: see docs/fleet.md, What a pledge rests on"
    for name, root in inspection.deployed.items():
        known = fingerprint(root)
        lacking = sum(inspection.lacking(known).values())
        if name in pledge.accepts and lacking:
            yield Finding(
                subject=f"{lacking} of {len(inspection.mesh.pods)} proxies",
                wrong=f"do not trust {name}, and the stack has told the fleet that all do",
                fix=fix,
            )
        chain = inspection.issuer_chain
        if name in pledge.released and chain and fingerprint(chain[-1]) == known:
            yield Finding(
                subject="The identity issuer",
                wrong=f"is under {name}, and the stack has told the fleet that nothing is",
                fix=fix,
            )


def judge_links(view: ClusterView, views: Sequence[ClusterView]) -> Iterator[Finding]:
    """Find what a cluster's proxies would refuse of the others: they are linked, or may be at any time."""
    if view.inspection is None:
        return
    signing: dict[str, list[str]] = {}
    for other in views:
        if other.inspection and other.inspection.issuer_chain and other.stack != view.stack:
            signing.setdefault(fingerprint(other.inspection.issuer_chain[-1]), []).append(other.stack)
    own = view.inspection.issuer_chain
    for root, stacks in signing.items():
        lacking = sum(view.inspection.lacking(root).values())
        if lacking and not (own and fingerprint(own[-1]) == root):
            yield Finding(
                subject=f"{lacking} of {len(view.inspection.mesh.pods)} proxies",
                wrong=f"do not trust what signs in {', '.join(stacks)}: connections from there are refused",
                fix="Give its stack the anchors of the others, and restart its workloads: meshtrust fleet rotate",
            )
