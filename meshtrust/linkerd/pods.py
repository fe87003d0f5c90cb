"""Pods with a proxy, as the API server has them: their owners, and what is known of the roots that they trust."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from meshtrust.cluster.api import PODS, Api
from meshtrust.names import COMPONENT_LABEL, CONTROL_PLANE_NAMESPACE_LABEL, PROXY, PROXY_ADMIN_PORT
from meshtrust.pki.pem import PemError, fingerprint, read_bundle

ANCHORS_VARIABLE = "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"
_NAMESPACE_VARIABLE = "_l5d_ns"
_SERVICE_VARIABLE = "LINKERD2_PROXY_IDENTITY_SVC_NAME"
# linkerd2 charts/partials/templates/_proxy.tpl, where a pod has the annotation config.linkerd.io/enable-gateway.
_GATEWAY_VARIABLE = "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The owner of a pod, as far up as is known.

    Attributes:
        kind: Its kind.
        namespace: Its namespace.
        name: Its name.
        version: Its group and version; empty for the kinds of Kubernetes itself.
    """

    kind: str
    namespace: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        """Return it as ``Kind namespace/name``."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTrust:
    """The roots that a pod's proxy trusts, or why they are unknown.

    Attributes:
        state: ``trusts`` where the roots are known; ``waiting`` where no proxy runs yet, and it reads the bundle as it
            starts; ``unseen`` where nothing is known, which counts as unsafe.
        roots: Fingerprints of the roots; empty unless they are known.
        source: How they are known: from the ``environment`` in the pod's specification, which never changes; from the
            ``process``, which was asked; or from its ``start``, which was after the last change of the bundle.
        reason: Why nothing is known; empty where something is.
    """

    state: Literal["trusts", "waiting", "unseen"]
    roots: frozenset[str] = frozenset()
    source: Literal["environment", "process", "start", ""] = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The source of a proxy's roots that are not written in its pod.

    Attributes:
        config_map: Name of the ConfigMap in the pod's namespace; empty where they come from elsewhere.
        key: The key in it.
    """

    config_map: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshedPod:
    """A pod with a proxy.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        workload: Its owner; itself where nothing owns it.
        control_plane: Namespace of the control plane that its proxy belongs to.
        created: When it was created, by the API server's clock.
        trust: What its proxy trusts.
        reference: Where the proxy reads its roots as it starts; None where they are written in the pod.
        account: Its service account.
        admin_port: The proxy's admin port, which a pod may have moved (``config.linkerd.io/admin-port``).
        runs: Whether its node says that the proxy's container runs.
        is_placed: Whether it has a node, without which nothing of it runs.
        is_ending: Whether it is being deleted, and is gone in a while.
        component: The Deployment of the control plane that it says by its label to belong to; empty if to none.
        is_gateway: Whether proxies of other clusters connect to its proxy (linkerd-multicluster).
        started: When the container of the proxy began to run, by its node's clock; None where it does not run.
        restarts: How often that container was restarted.
        program_started: The same of the first container that is not the proxy.
        program_restarts: How often that one was restarted.
    """

    namespace: str
    name: str
    workload: Workload
    created: datetime
    trust: ProxyTrust
    control_plane: str = "linkerd"
    reference: Reference | None = None
    account: str = "default"
    admin_port: int = PROXY_ADMIN_PORT
    runs: bool = True
    is_placed: bool = True
    is_ending: bool = False
    component: str = ""
    is_gateway: bool = False
    started: datetime | None = None
    restarts: int = 0
    program_started: datetime | None = None
    program_restarts: int = 0

    @property
    def anchors(self) -> frozenset[str] | None:
        """Fingerprints of the roots that its proxy trusts; None where that is not known."""
        return self.trust.roots if self.trust.state == "trusts" else None

    def may_lack(self, root: str) -> bool:
        """Whether its proxy does not trust a root, by its fingerprint, or that is not known."""
        return self.trust.state == "unseen" or (self.trust.state == "trusts" and root not in self.trust.roots)

    def is_part(self, deployment: str) -> bool:
        """Whether it belongs to one of the control plane's Deployments, or serves in the place of its pods.

        Inside the control plane's namespace a Service goes by the label alone (linkerd2 ``charts``,
        ``linkerd-control-plane/templates/proxy-injector.yaml``), so that a pod which was taken out of its ReplicaSet
        goes on to serve. Elsewhere anyone may set the label.
        """
        is_owned = self.workload.kind == "Deployment" and self.workload.name == deployment
        return self.namespace == self.control_plane and (is_owned or self.component == deployment)

    def __str__(self) -> str:
        """Return it as ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


async def read_pods(api: Api, namespace: str | None = None) -> AsyncIterator[MeshedPod]:
    """Yield every pod with a proxy that has not ended, of whichever control plane.

    Args:
        api: Client of the cluster.
        namespace: The namespace of the pods; None for those of all.

    No label narrows the list: whoever may edit a pod could hide it. A pod that ended has no container left that runs
    (kubelet ``pkg/kubelet/status``: a terminal phase is reported once all have ended).

    Raises:
        ClusterError: The pods cannot be read.
    """
    unfinished = "status.phase!=Succeeded,status.phase!=Failed"
    async for item in api.list(PODS, namespace=namespace or "", fields=unfinished):
        if (pod := read_pod(item)) is not None:
            yield pod


def read_pod(item: Mapping[str, Any]) -> MeshedPod | None:
    """Return a pod as the API server has it, or None where it has no proxy."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    container = proxy_container(spec)
    if container is None:
        return None
    states = {
        entry.get("name"): entry
        for entry in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    }
    program = next((entry["name"] for entry in spec.get("containers") or () if entry.get("name") != PROXY), "")
    started, restarts = _run(states.get(PROXY))
    program_started, program_restarts = _run(states.get(program))
    trust, reference = read_trust(container)
    return MeshedPod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        workload=_owner(metadata),
        created=_time(metadata["creationTimestamp"]),
        trust=trust,
        control_plane=_control_plane(container, metadata),
        reference=reference,
        account=spec.get("serviceAccountName") or "default",
        admin_port=_admin_port(container),
        runs=started is not None,
        is_placed=bool(spec.get("nodeName")),
        is_ending="deletionTimestamp" in metadata,
        component=_component(metadata),
        is_gateway=any(entry.get("name") == _GATEWAY_VARIABLE for entry in container.get("env") or ()),
        started=started,
        restarts=restarts,
        program_started=program_started,
        program_restarts=program_restarts,
    )


def proxy_container(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the container of the proxy of a pod or a template; as a native sidecar it is an init container."""
    for entry in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        if entry.get("name") == PROXY:
            return entry  # type: ignore[no-any-return]  # as the API server has it
    return None


def read_trust(container: Mapping[str, Any]) -> tuple[ProxyTrust, Reference | None]:
    """Return what the environment of a proxy's container says of the roots, or what it refers to for them.

    A kubelet resolves a reference as the container starts, so that it does not show what the process has.
    """
    for variable in reversed(container.get("env") or ()):
        if variable.get("name") != ANCHORS_VARIABLE:
            continue
        if text := variable.get("value"):
            roots = fingerprints(text)
            if roots is None:
                return ProxyTrust(state="unseen", reason=f"its {ANCHORS_VARIABLE} cannot be understood"), None
            return ProxyTrust(state="trusts", roots=roots, source="environment"), None
        named = (variable.get("valueFrom") or {}).get("configMapKeyRef") or {}
        return _UNASKED, Reference(config_map=named.get("name") or "", key=named.get("key") or "")
    return _UNASKED, Reference()


_UNASKED = ProxyTrust(state="unseen", reason="its proxy has not been asked")


@lru_cache(maxsize=256)
def fingerprints(bundle: str) -> frozenset[str] | None:
    """Return the fingerprints of a bundle's certificates, or None where it is not one."""
    try:
        return frozenset(map(fingerprint, read_bundle(bundle)))
    except PemError:
        return None


def _run(status: Mapping[str, Any] | None) -> tuple[datetime | None, int]:
    """Return since when a container runs, None where it does not, and how often it was restarted."""
    running = ((status or {}).get("state") or {}).get("running")
    if running is None:
        return None, int((status or {}).get("restartCount") or 0)
    begun = running.get("startedAt")
    return (_time(begun) if begun else datetime.min.replace(tzinfo=UTC)), int((status or {}).get("restartCount") or 0)


def _control_plane(container: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Return the namespace of a proxy's control plane: by its environment, and by a label where that does not say.

    Source: linkerd2 ``charts/partials/templates/_proxy.tpl``.
    """
    named = {entry.get("name"): str(entry.get("value") or "") for entry in container.get("env") or ()}
    if plain := named.get(_NAMESPACE_VARIABLE):
        return plain
    parts = named.get(_SERVICE_VARIABLE, "").split(".")
    if len(parts) > 5 and "$" not in parts[4]:
        return parts[4]
    return str((metadata.get("labels") or {}).get(CONTROL_PLANE_NAMESPACE_LABEL) or "")


def _component(metadata: Mapping[str, Any]) -> str:
    """Return the name of the Deployment whose component a pod's label names."""
    component = (metadata.get("labels") or {}).get(COMPONENT_LABEL)
    return f"linkerd-{component}" if component else ""


def _admin_port(container: Mapping[str, Any]) -> int:
    for port in container.get("ports") or ():
        if port.get("name") == "linkerd-admin":
            return int(port["containerPort"])
    return PROXY_ADMIN_PORT


def _owner(metadata: Mapping[str, Any]) -> Workload:
    """Return a pod's owner; a Deployment's pod is known by the name of its ReplicaSet, without a further request."""
    namespace = metadata["namespace"]
    owner = controller_of(metadata)
    if owner is None:
        return Workload(kind="Pod", namespace=namespace, name=metadata["name"])
    suffix = f"-{(metadata.get('labels') or {}).get('pod-template-hash', '')}"
    if owner.kind == "ReplicaSet" and not owner.version and len(suffix) > 1 and owner.name.endswith(suffix):
        return Workload(kind="Deployment", namespace=namespace, name=owner.name.removesuffix(suffix))
    return owner


def controller_of(metadata: Mapping[str, Any]) -> Workload | None:
    """Return what controls an object, by its owner references; None where nothing does."""
    for entry in metadata.get("ownerReferences") or ():
        if entry.get("controller"):
            version = str(entry.get("apiVersion") or "")
            return Workload(
                kind=entry["kind"],
                namespace=metadata["namespace"],
                name=entry["name"],
                version="" if version in _BUILT_IN else version,
            )
    return None


_BUILT_IN = ("", "v1", "apps/v1", "batch/v1")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
