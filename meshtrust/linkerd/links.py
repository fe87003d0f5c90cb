"""The Links of a cluster: to which others linkerd-multicluster has tied it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshtrust.cluster.api import Api, ClusterError, ForbiddenError
from meshtrust.names import MULTICLUSTER_GROUP


@dataclass(frozen=True, kw_only=True)
class Link:
    """One Link: the services of another cluster are mirrored into the one that holds it.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        target: What it calls the cluster that it leads to.
        target_namespace: Namespace of Linkerd's control plane there, as the Link has it; may be empty.
        gateway_address: Addresses of the gateway there; empty where pods are reached without one.
        gateway_identity: The identity that the gateway has to show; empty where there is none.

    Source: linkerd2 ``multicluster/charts/linkerd-multicluster/templates/link-crd.yaml``; every version that is served
    has these fields.
    """

    namespace: str
    name: str
    target: str
    target_namespace: str = ""
    gateway_address: str = ""
    gateway_identity: str = ""

    @staticmethod
    def of(item: Mapping[str, Any]) -> "Link":
        """Return a Link as the API server has it; the CRD requires no field of it."""
        metadata, spec = item["metadata"], item.get("spec") or {}
        return Link(
            namespace=str(metadata.get("namespace") or ""),
            name=metadata["name"],
            # `linkerd multicluster link-gen` names the Link after its target.
            target=str(spec.get("targetClusterName") or metadata["name"]),
            target_namespace=str(spec.get("targetClusterLinkerdNamespace") or ""),
            gateway_address=str(spec.get("gatewayAddress") or ""),
            gateway_identity=str(spec.get("gatewayIdentity") or ""),
        )

    def __str__(self) -> str:
        """Return it as ``Link namespace/name``."""
        return f"Link {self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Links:
    """The Links of one cluster.

    Attributes:
        found: The Links, by namespace and name.
        installed: Whether the cluster knows the kind at all; None if that is not known.
        error: Why they cannot be read; empty where they can be.
    """

    found: tuple[Link, ...] = ()
    installed: bool | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what is known of them as plain data for machines; the fleet reports each Link."""
        return {"installed": self.installed, "error": self.error or None}


async def read_links(api: Api) -> Links:
    """Read the Links of all namespaces; whatever keeps them from being read is in the answer, and raises nothing."""
    try:
        found = await api.list_custom(MULTICLUSTER_GROUP, "links", "Link")
    except ForbiddenError as error:
        return Links(installed=True, error=str(error))
    except ClusterError as error:
        return Links(error=str(error))
    if found is None:
        return Links(installed=False)
    return Links(found=tuple(sorted(map(Link.of, found), key=str)), installed=True)
