"""The credentials of a mesh as the cluster holds them: each pod's anchors, the issuer in use, the live leaves."""

import asyncio
import json
import re
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from cryptography import x509

from meshtrust.cluster.api import CONFIGMAPS, PODS, Api, ClusterError, NotFoundError
from meshtrust.cluster.connection.port_forward import PodUnreachableError, fetch_certificates, fetch_page
from meshtrust.files import parse_yaml
from meshtrust.linkerd.issuer.certificate import read_issuer_certificate
from meshtrust.linkerd.pods import (
    ANCHORS_VARIABLE,
    MeshedPod,
    ProxyTrust,
    fingerprints,
    read_pod,
    read_pods,
)
from meshtrust.linkerd.trust_roots import name_trust_roots, read_trust_roots
from meshtrust.lint import LEAF_LIFETIME
from meshtrust.names import IDENTITY, IDENTITY_ADMIN_PORT, LINKERD_CONFIG, PROXY_INJECTOR, TRUST_ROOTS, TRUST_ROOTS_KEY
from meshtrust.pki.durations import parse_duration
from meshtrust.pki.pem import fingerprint

T = TypeVar("T")

# What this project puts on the pods of the control plane where the bundle is not part of Linkerd's release, so that a
# change of the bundle replaces them. It is no evidence: the process is asked.
ANCHORS_ANNOTATION = "meshtrust.io/trust-anchors"
# Connections into pods at a time: enough to be quick, few enough for an API server that others use too.
_AT_ONCE = 20
# A kubelet brings a changed ConfigMap to a container that it starts within its sync period and the lifetime of its
# cache, a minute each; the clocks of nodes may differ by as much again from the API server's.
SETTLED = timedelta(minutes=3)


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A Linkerd installation as the cluster holds it.

    Attributes:
        namespace: Namespace of the control plane.
        trust_domain: Its trust domain.
        leaf_lifetime: How long a proxy's certificate lives.
        bundle: The trusted roots as the ConfigMap has them, PEM; empty where there is none.
        roots: The same, read.
        issuer: The identity issuer of the Secret and what stands between it and a root; empty where there is none.
        issuer_source: The object that it was read from, as a sentence names it.
        issuer_root: What stands in the Secret's ``ca.crt``, where ``linkerd check`` looks for the trust anchor; nothing
            where the Secret is of a scheme that has none.
        pods: Every pod with a proxy of this control plane that has not ended.
        others: Those of other control planes in the cluster.
        bundle_changed: When the bundle was last written, by the API server's clock; None where that is not known.
        version: Linkerd's version, as its chart records it; empty if it does not.
    """

    namespace: str
    trust_domain: str = "cluster.local"
    leaf_lifetime: timedelta = LEAF_LIFETIME
    bundle: str = ""
    roots: tuple[x509.Certificate, ...] = ()
    issuer: tuple[x509.Certificate, ...] = ()
    issuer_source: str = ""
    issuer_root: tuple[x509.Certificate, ...] | None = ()
    pods: tuple[MeshedPod, ...] = field(default=(), repr=False)
    others: tuple[MeshedPod, ...] = field(default=(), repr=False)
    bundle_changed: datetime | None = None
    version: str = ""

    @property
    def bundle_name(self) -> str:
        """The object that holds the trusted roots, as a message names it."""
        return name_trust_roots(self.namespace)

    @property
    def is_installed(self) -> bool:
        """Whether there is a control plane; pods with a proxy may have outlived theirs."""
        return bool(self.roots or self.identity_pods)

    @property
    def identity_pods(self) -> list[MeshedPod]:
        """The replicas of the identity service."""
        return [pod for pod in self.pods if pod.is_part(IDENTITY)]

    @property
    def injector_pods(self) -> list[MeshedPod]:
        """The replicas of the proxy injector."""
        return [pod for pod in self.pods if pod.is_part(PROXY_INJECTOR)]


async def read_mesh(api: Api, namespace: str) -> Mesh:
    """Read a Linkerd installation.

    It costs a request for each 500 pods of the cluster, a handful besides, and a connection to each proxy whose roots
    are not written in its pod: those of the control plane.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.

    Raises:
        ClusterError: It cannot be read, or holds what cannot be understood.
    """
    return await _assemble(api, namespace, asyncio.create_task(_list_pods(api)))


async def read_injectors(api: Api, namespace: str) -> Mesh:
    """Read the trust anchors of a Linkerd installation and the replicas of its injector, and nothing else of it.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.

    Raises:
        ClusterError: They cannot be read, or the trust anchors cannot be understood.
    """
    trusted, found = await asyncio.gather(read_trust_roots(api, namespace), _list_pods(api, namespace))
    return Mesh(
        namespace=namespace,
        bundle=trusted.text,
        roots=trusted.roots,
        pods=tuple(pod for pod in found if pod.is_part(PROXY_INJECTOR)),
        bundle_changed=trusted.changed,
    )


async def read_others(api: Api, mesh: Mesh) -> list[Mesh]:
    """Read the other Linkerd installations of a mesh's cluster that have pods.

    Raises:
        ClusterError: One of them cannot be read.
    """
    namespaces = sorted({pod.control_plane for pod in mesh.others})

    async def pods_of(namespace: str) -> list[MeshedPod]:
        return [pod for pod in mesh.others if pod.control_plane == namespace]

    return [
        await _assemble(api, namespace, asyncio.create_task(pods_of(namespace)), is_own=False)
        for namespace in namespaces
    ]


async def _assemble(api: Api, namespace: str, listing: "asyncio.Task[list[MeshedPod]]", *, is_own: bool = True) -> Mesh:
    trusted, issuer, values, found = await asyncio.gather(
        read_trust_roots(api, namespace, is_own=is_own),
        read_issuer_certificate(api, namespace),
        _read_values(api, namespace),
        listing,
    )
    mesh = Mesh(
        namespace=namespace,
        trust_domain=str(values.get("identityTrustDomain") or "cluster.local"),
        leaf_lifetime=leaf_lifetime(values),
        bundle=trusted.text,
        roots=trusted.roots,
        issuer=issuer.chain,
        issuer_source=issuer.source,
        issuer_root=issuer.roots,
        # A proxy that does not say whose it is may be one of these.
        pods=tuple(pod for pod in found if pod.control_plane in (namespace, "")),
        others=tuple(pod for pod in found if pod.control_plane not in (namespace, "")),
        bundle_changed=trusted.changed,
        version=str(values.get("linkerdVersion") or ""),
    )
    return replace(mesh, pods=await _ask_for_trust(api, mesh))


async def _list_pods(api: Api, namespace: str | None = None) -> list[MeshedPod]:
    return sorted([pod async for pod in read_pods(api, namespace)], key=str)


async def _ask_for_trust(api: Api, mesh: Mesh) -> tuple[MeshedPod, ...]:
    """Return the pods of a mesh with what their proxies say they trust, where their pods do not have it written."""

    async def ask(pod: MeshedPod) -> MeshedPod:
        return replace(pod, trust=await _read_trust(api, mesh, pod))

    limit = asyncio.Semaphore(_AT_ONCE)

    async def guarded(pod: MeshedPod) -> MeshedPod:
        if pod.reference is None:
            return pod
        async with limit:
            return await ask(pod)

    return tuple(await asyncio.gather(*map(guarded, mesh.pods)))


async def look_again(api: Api, mesh: Mesh, pods: Collection[MeshedPod]) -> Mesh:
    """Return a mesh in which some of its pods have been read and asked again, and are left out if they are gone.

    Args:
        api: Client of the cluster.
        mesh: The installation.
        pods: Which of its pods.

    Raises:
        ClusterError: A pod cannot be read.
    """

    async def look(pod: MeshedPod) -> MeshedPod | None:
        if pod not in pods:
            return pod
        item = await api.find(PODS, pod.name, namespace=pod.namespace)
        found = read_pod(item) if item and item["status"].get("phase") not in ("Succeeded", "Failed") else None
        if found is None or found.reference is None:
            return found
        return replace(found, trust=await _read_trust(api, mesh, found))

    return replace(mesh, pods=tuple(pod for pod in await asyncio.gather(*map(look, mesh.pods)) if pod is not None))


async def _read_trust(api: Api, mesh: Mesh, pod: MeshedPod) -> ProxyTrust:
    """Ask a proxy for the roots that its process was started with.

    Source: linkerd2-proxy ``linkerd/app/admin/src/server.rs``, ``/env.json``: the named variables of the process.
    """
    reads_bundle = (
        pod.reference is not None
        and pod.namespace == mesh.namespace
        and (pod.reference.config_map, pod.reference.key) == (TRUST_ROOTS, TRUST_ROOTS_KEY)
    )
    unseen = "it has no node" if not pod.is_placed else ""
    if pod.is_placed:
        try:
            page = await fetch_page(api, pod.namespace, pod.name, pod.admin_port, f"/env.json?{ANCHORS_VARIABLE}")
            text = json.loads(page.text)[ANCHORS_VARIABLE] or ""
        except (PodUnreachableError, ClusterError) as error:
            unseen = str(error)
        except (ValueError, KeyError, TypeError):
            unseen = "it answers with something else than its environment"
        else:
            roots = fingerprints(text)
            if roots is not None:
                return ProxyTrust(state="trusts", roots=roots, source="process")
            unseen = "it was started without roots that can be understood"
    if reads_bundle and not pod.runs:
        return ProxyTrust(state="waiting")
    if reads_bundle and mesh.bundle_changed and pod.started and pod.started >= mesh.bundle_changed + SETTLED:
        return ProxyTrust(state="trusts", roots=frozenset(map(fingerprint, mesh.roots)), source="start")
    return ProxyTrust(state="unseen", reason=unseen)


async def read_served_issuers(api: Api, mesh: Mesh) -> dict[MeshedPod, datetime | str]:
    """Return, for each replica of the identity service, the end of the issuer that it signs with, or why it is unknown.

    It follows from the gauge ``issuer_cert_ttl_seconds`` and the date of the same answer, so that no clock but the
    pod's own counts (linkerd2 ``pkg/identity/service.go``: the issuer that passed verification last).
    """

    async def read_end(pod: MeshedPod) -> datetime | str:
        page = await fetch_page(api, pod.namespace, pod.name, IDENTITY_ADMIN_PORT, "/metrics")
        found = re.search(r"^issuer_cert_ttl_seconds(?:\{[^}]*\})? ([0-9.eE+-]+)$", page.text, re.MULTILINE)
        if found is None or page.date is None:
            version = f" {mesh.version}" if mesh.version else ""
            return f"Linkerd{version} does not report it in its metrics; edge-25.2.1 and later do"
        return page.date + timedelta(seconds=float(found[1]))

    return await _of_each(mesh.identity_pods, read_end, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """The certificate that a pod's proxy uses, or why it is unknown.

    Attributes:
        state: ``shown``; ``waiting`` where no proxy runs yet, which gets one from the issuer of that time; ``gone``
            where the pod is; ``unseen`` where nothing is known, which counts as unsafe.
        certificates: It and its issuers, as the proxy shows them, its own first; empty unless it is shown.
        reason: Why nothing is known; empty where something is.
        is_forbidden: Whether nothing is known because these credentials lack a right, so that asking again is in vain.
    """

    state: Literal["shown", "waiting", "gone", "unseen"]
    certificates: tuple[x509.Certificate, ...] = ()
    reason: str = ""
    is_forbidden: bool = False


async def read_leaves(api: Api, mesh: Mesh, pods: Iterable[MeshedPod]) -> dict[MeshedPod, Leaf]:
    """Return what is known of the certificate of each pod's proxy, whatever phase the pod is in.

    The proxy is asked first, since a pod whose init containers still run may have one that serves (a native sidecar);
    only where it gives no answer is the pod read again for whether there is a proxy to answer.

    Source: the proxy's admin port shows it to whoever asks for its identity, as ``linkerd identity`` does (linkerd2
    ``cli/cmd/identity.go``).
    """

    async def read_leaf(pod: MeshedPod) -> Leaf:
        name = f"{pod.account}.{pod.namespace}.serviceaccount.identity.{mesh.namespace}.{mesh.trust_domain}"
        try:
            shown = await fetch_certificates(api, pod.namespace, pod.name, pod.admin_port, name)
        except PodUnreachableError as error:
            return await _without_leaf(api, pod, error)
        if not shown:
            return Leaf(state="unseen", reason="it shows no certificate")
        return Leaf(state="shown", certificates=tuple(shown))

    return await _of_each(pods, read_leaf, lambda reason: Leaf(state="unseen", reason=reason))


async def _without_leaf(api: Api, pod: MeshedPod, error: PodUnreachableError) -> Leaf:
    """Return why a pod's proxy shows no certificate: that it is gone or does not run yet, or what went wrong."""
    try:
        found = await api.get(PODS, pod.name, namespace=pod.namespace)
    except NotFoundError:
        return Leaf(state="gone")
    now = read_pod(found)
    if now is None or now.created != pod.created or (found.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        # Another pod of the same name, as a StatefulSet makes it, gets its certificate from the issuer of now.
        return Leaf(state="gone")
    if not now.runs:
        return Leaf(state="waiting")
    return Leaf(state="unseen", reason=str(error), is_forbidden=error.is_forbidden)


async def _of_each(
    pods: Iterable[MeshedPod],
    read_one: Callable[[MeshedPod], Coroutine[Any, Any, T]],
    unseen: Callable[[str], T],
) -> dict[MeshedPod, T]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def guarded(pod: MeshedPod) -> tuple[MeshedPod, T]:
        async with limit:
            try:
                return pod, await read_one(pod)
            except (PodUnreachableError, ClusterError) as error:
                return pod, unseen(str(error))

    return dict(await asyncio.gather(*map(guarded, pods)))


def matches_secret(mesh: Mesh, end: datetime) -> bool:
    """Whether an issuer with this end, as a replica reports it, may be the one in the Secret.

    A replica's date has whole seconds, and its gauge was read within the same second. Issuers of one end look the same:
    see `meshtrust.rotation.gate.blocks_served`.
    """
    return bool(mesh.issuer) and ends_at(mesh.issuer[0], end)


def ends_at(certificate: x509.Certificate, end: datetime) -> bool:
    """Whether a certificate ends at a time that a replica's metrics report."""
    return -0.5 <= (certificate.not_valid_after_utc - end).total_seconds() <= 1.5


async def _read_values(api: Api, namespace: str) -> Mapping[str, Any]:
    """Return the values that Linkerd was installed with, as its charts keep them (ConfigMap ``linkerd-config``)."""
    found = await api.find(CONFIGMAPS, LINKERD_CONFIG, namespace=namespace)
    try:
        values = parse_yaml(((found or {}).get("data") or {}).get("values") or "")
    except ValueError as error:
        msg = f"ConfigMap {namespace}/{LINKERD_CONFIG} cannot be read: {error}. Install Linkerd's chart again."
        raise ClusterError(msg) from error
    return values if isinstance(values, Mapping) else {}


def leaf_lifetime(values: Mapping[str, Any]) -> timedelta:
    """Return how long a proxy's certificate lives by the Helm values of linkerd-control-plane."""
    node: Any = values
    for key in ("identity", "issuer", "issuanceLifetime"):
        node = node.get(key) if isinstance(node, Mapping) else None
    try:
        return parse_duration(str(node))
    except ValueError:
        return LEAF_LIFETIME
