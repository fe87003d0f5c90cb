"""Those who trust a mesh's roots and are no pod of it: external workloads, Links, templates, other control planes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtrust.cluster.api import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    REPLICASETS,
    REPLICATION_CONTROLLERS,
    STATEFULSETS,
    Api,
)
from meshtrust.linkerd.evidence import Mesh, read_others
from meshtrust.linkerd.links import Link
from meshtrust.linkerd.pods import Workload, controller_of, proxy_container, read_trust
from meshtrust.names import EXTERNAL_WORKLOAD_GROUP, MULTICLUSTER_GROUP

_EXTERNAL = (EXTERNAL_WORKLOAD_GROUP, "externalworkloads", "ExternalWorkload")
_LINKS = (MULTICLUSTER_GROUP, "links", "Link")
# What makes pods by a template, with its version and name in the API.
_OWNERS = {
    each.kind: each
    for each in (DEPLOYMENTS, STATEFULSETS, DAEMONSETS, CRONJOBS, JOBS, REPLICASETS, REPLICATION_CONTROLLERS)
}
_ROLLOUTS = ("argoproj.io", "rollouts", "Rollout")
# Deployments and Rollouts keep ten ReplicaSets each by default, whose templates have been theirs: these are left out by
# the labels that their controllers give them (Kubernetes, Deployments; Argo Rollouts, ``utils/defaults``).
_BARE = "!pod-template-hash,!rollouts-pod-template-hash"


@dataclass(frozen=True, kw_only=True)
class FleetPeers:
    """The peers of a cluster that its fleet takes care of, whose clusters wait for each other by their pledges.

    Attributes:
        clusters: Names of the clusters in Links.
        gateways: Names of the cluster's gateways to which no cluster outside of the fleet connects. Which clusters
            connect to a gateway is not known where it is, because the Links are in those clusters.
    """

    clusters: frozenset[str]
    gateways: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """Those who trust a mesh's roots, or may, and cannot be asked from its cluster.

    Attributes:
        external: Workloads outside of the cluster that are part of the mesh, as ``namespace/name``.
        links: The Links to other clusters.
        gateways: The workloads by which other clusters may reach this one.
    """

    external: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    gateways: tuple[Workload, ...] = ()

    def outside_of(self, fleet: FleetPeers) -> "Unseen":
        """Return those that a fleet does not take care of: external workloads, and what ties it to other clusters."""
        return Unseen(
            external=self.external,
            links=tuple(link for link in self.links if link.target not in fleet.clusters),
            gateways=tuple(gateway for gateway in self.gateways if str(gateway) not in fleet.gateways),
        )

    @property
    def subjects(self) -> list[str]:
        """Their names, as the gate has them."""
        return [
            *(f"ExternalWorkload {name}" for name in self.external),
            *map(str, self.links),
            *map(str, self.gateways),
        ]


async def read_unseen(api: Api, mesh: Mesh, versions: Mapping[str, str] | None = None) -> Unseen:
    """Read who may trust the roots of a mesh and cannot be asked from its cluster.

    Args:
        api: Client of the cluster.
        mesh: The installation.
        versions: The API groups that the cluster serves, which is asked unless they are given.

    Raises:
        ClusterError: They cannot be listed.
    """
    if versions is None:
        versions = await api.preferred_versions()
    external, links = await asyncio.gather(
        api.list_custom(*_EXTERNAL, versions=versions), api.list_custom(*_LINKS, versions=versions)
    )
    return Unseen(
        external=tuple(
            sorted(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in external or ())
        ),
        links=tuple(sorted(map(Link.of, links or ()), key=str)),
        gateways=tuple(sorted({pod.workload for pod in mesh.pods if pod.is_gateway}, key=str)),
    )


@dataclass(frozen=True, kw_only=True)
class Outsiders:
    """Those who trust a mesh's roots and are no pod of it now.

    Attributes:
        unseen: Those that cannot be asked from the cluster.
        templates: The roots that are written in a workload's template, by workload: what `linkerd inject --manual`
            leaves there. None stands for roots that cannot be understood.
        others: The other installations of Linkerd in the cluster.
    """

    unseen: Unseen
    templates: Mapping[Workload, frozenset[str] | None] = field(default_factory=dict)
    others: tuple[Mesh, ...] = ()


async def read_outsiders(api: Api, mesh: Mesh, *, fleet: FleetPeers | None) -> Outsiders:
    """Read who else in a cluster, or from without it, trusts the roots of a mesh.

    Args:
        api: Client of the cluster.
        mesh: The installation.
        fleet: The peers that its fleet takes care of; None if it is in none.

    Raises:
        ClusterError: Something of it cannot be read.
    """
    versions = await api.preferred_versions()
    unseen, rollouts, templates, others = await asyncio.gather(
        read_unseen(api, mesh, versions),
        api.list_custom(*_ROLLOUTS, versions=versions),
        asyncio.gather(*(_read_templates(api, kind) for kind in _OWNERS)),
        read_others(api, mesh),
    )
    return Outsiders(
        unseen=unseen if fleet is None else unseen.outside_of(fleet),
        templates={
            owner: roots
            for found in (*templates, *(_read_template("Rollout", item) for item in rollouts or ()))
            for owner, roots in found.items()
        },
        others=tuple(others),
    )


async def _read_templates(api: Api, kind: str) -> dict[Workload, frozenset[str] | None]:
    found: dict[Workload, frozenset[str] | None] = {}
    async for item in api.list(_OWNERS[kind], labels=_BARE if kind == "ReplicaSet" else ""):
        owner = controller_of(item["metadata"])
        # What one of these controls has its template from that.
        if not (owner is not None and owner.kind in (*_OWNERS, "Rollout")) and not (kind == "Job" and _is_done(item)):
            found |= _read_template(kind, item)
    return found


def _read_template(kind: str, item: Mapping[str, Any]) -> dict[Workload, frozenset[str] | None]:
    """Return the roots that are written in the template of a workload, by the workload; empty where none are."""
    metadata, spec = item["metadata"], item["spec"]
    # A Rollout may refer to a Deployment for its template.
    template = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec).get("template") or {}
    container = proxy_container(template.get("spec") or {})
    trust, reference = read_trust(container) if container else (None, None)
    if trust is None or reference is not None:
        return {}
    version = "" if kind in _OWNERS else str(item["apiVersion"])
    workload = Workload(kind=kind, namespace=metadata["namespace"], name=metadata["name"], version=version)
    return {workload: trust.roots if trust.state == "trusts" else None}


def _is_done(job: Mapping[str, Any]) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(entry["type"] in ("Complete", "Failed") and entry["status"] == "True" for entry in conditions)
