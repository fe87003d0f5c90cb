"""What a cluster really holds of a mesh's credentials: each pod's anchors, the served issuer, the live leaves."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

import yaml
from cryptography import x509

from meshtrust.cluster import (
    METADATA_ONLY,
    Api,
    ClusterError,
    NotFoundError,
    certificates_of,
    read,
    read_items,
    read_optional,
)
from meshtrust.durations import parse_duration
from meshtrust.issuer_certificate import read_issuer_certificate
from meshtrust.lint import LEAF_LIFETIME
from meshtrust.pem import PemError, fingerprint, read_bundle, sha256_hex
from meshtrust.port_forward import PodUnreachableError, fetch_certificates, fetch_page
from meshtrust.trust_manager import TRUST_ROOTS

T = TypeVar("T")

_CONFIG = "linkerd-config"
_PROXY = "linkerd-proxy"
_ANCHORS_VARIABLE = "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"
_ANCHORS_SHA256 = "linkerd.io/trust-root-sha256"
# What this project puts on the pods of the control plane where the bundle is not part of Linkerd's release, and the
# chart's own annotation is that of an empty text.
ANCHORS_ANNOTATION = "meshtrust.io/trust-anchors"
_IDENTITY_ADMIN_PORT = 9990
# Connections into pods at a time: enough to be quick, few enough for an API server that others use too.
_AT_ONCE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a pod belongs to, as far up as its names tell."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return it as ``Kind namespace/name``."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshedPod:
    """A pod with a proxy.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        workload: What it belongs to; itself where nothing owns it.
        component: The part of Linkerd's control plane that it is, or empty.
        created: When it was created, by the API server's clock.
        anchors: Fingerprints of the roots that its proxy trusts; nothing where that cannot be told.
    """

    namespace: str
    name: str
    workload: Workload
    component: str
    created: datetime
    anchors: frozenset[str] | None

    def __str__(self) -> str:
        """Return it as ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


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
        pods: Every pod with a proxy that has not ended.
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

    @property
    def bundle_name(self) -> str:
        """What holds the trusted roots, as a sentence names it."""
        return f"ConfigMap {self.namespace}/{TRUST_ROOTS}"

    @property
    def is_there(self) -> bool:
        """Whether there is a control plane; pods with a proxy may have outlived theirs."""
        return bool(self.roots or self.identity_pods)

    @property
    def identity_pods(self) -> list[MeshedPod]:
        """The replicas of the identity service."""
        return [pod for pod in self.pods if pod.component == "identity"]


async def read_mesh(api: Api, namespace: str) -> Mesh:
    """Read a Linkerd installation; a handful of requests, however many pods there are.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.

    Raises:
        ClusterError: It cannot be read, or holds what cannot be understood.
    """
    configmap, issuer, values = await asyncio.gather(
        read_optional(
            api, f"ConfigMap {namespace}/{TRUST_ROOTS}", namespace=namespace, url=f"configmaps/{TRUST_ROOTS}"
        ),
        read_issuer_certificate(api, namespace),
        _read_values(api, namespace),
    )
    bundle = str(((configmap or {}).get("data") or {}).get("ca-bundle.crt") or "")
    roots = certificates_of(bundle, f"ConfigMap {namespace}/{TRUST_ROOTS}")
    return Mesh(
        namespace=namespace,
        trust_domain=str(values.get("identityTrustDomain") or "cluster.local"),
        leaf_lifetime=leaf_lifetime(values),
        bundle=bundle,
        roots=roots,
        issuer=issuer.chain,
        issuer_source=issuer.source,
        issuer_root=issuer.roots,
        pods=tuple(await _read_pods(api, namespace, bundle, roots)),
    )


async def read_served_issuers(api: Api, mesh: Mesh) -> dict[MeshedPod, datetime | str]:
    """Return, for each replica of the identity service, the end of the issuer that it signs with, or why it is unknown.

    It follows from the gauge ``issuer_cert_ttl_seconds`` and the date of the same answer, so that no clock but the
    pod's own counts (linkerd2 ``pkg/identity/service.go``: the issuer that passed verification last).
    """

    async def read_end(pod: MeshedPod) -> datetime | str:
        page = await fetch_page(api, pod.namespace, pod.name, _IDENTITY_ADMIN_PORT, "/metrics")
        found = re.search(r"^issuer_cert_ttl_seconds(?:\{[^}]*\})? ([0-9.eE+-]+)$", page.text, re.MULTILINE)
        if found is None or page.date is None:
            return "its metrics do not tell the issuer"
        return page.date + timedelta(seconds=float(found[1]))

    return await _of_each(mesh.identity_pods, read_end)


async def read_leaves(api: Api, mesh: Mesh, pods: Iterable[MeshedPod]) -> dict[MeshedPod, list[x509.Certificate] | str]:
    """Return the certificate that each pod's proxy shows, with its issuers, or why it cannot be seen.

    A pod that is gone, or does not run yet and has no certificate, is left out.

    Source: the proxy's admin port shows it to whoever asks for its identity, as ``linkerd identity`` does (linkerd2
    ``cli/cmd/identity.go``).
    """

    async def read_leaf(pod: MeshedPod) -> list[x509.Certificate] | str:
        try:
            found = await read(api, f"pod {pod}", namespace=pod.namespace, url=f"pods/{pod.name}")
        except NotFoundError:
            return []
        if found["status"].get("phase") != "Running":
            return []
        account = found["spec"]["serviceAccountName"]
        name = f"{account}.{pod.namespace}.serviceaccount.identity.{mesh.namespace}.{mesh.trust_domain}"
        return await fetch_certificates(api, pod.namespace, pod.name, _admin_port(found["spec"]), name)

    return {pod: leaf for pod, leaf in (await _of_each(pods, read_leaf)).items() if leaf}


async def _of_each(
    pods: Iterable[MeshedPod], read_one: Callable[[MeshedPod], Coroutine[Any, Any, T | str]]
) -> dict[MeshedPod, T | str]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def guarded(pod: MeshedPod) -> tuple[MeshedPod, T | str]:
        async with limit:
            try:
                return pod, await read_one(pod)
            except (PodUnreachableError, ClusterError) as error:
                return pod, str(error)

    return dict(await asyncio.gather(*map(guarded, pods)))


def is_served(mesh: Mesh, end: datetime) -> bool:
    """Whether an issuer with this end, as a replica tells it, is the one in the Secret.

    A replica's date has whole seconds, and its gauge was read within the same second.
    """
    if not mesh.issuer:
        return False
    difference = (mesh.issuer[0].not_valid_after_utc - end).total_seconds()
    return -0.5 <= difference <= 1.5


async def _read_values(api: Api, namespace: str) -> Mapping[str, Any]:
    """Return the values that Linkerd was installed with, as its charts keep them (ConfigMap ``linkerd-config``)."""
    found = await read_optional(
        api, f"ConfigMap {namespace}/{_CONFIG}", namespace=namespace, url=f"configmaps/{_CONFIG}"
    )
    try:
        values = yaml.safe_load(((found or {}).get("data") or {}).get("values") or "")
    except yaml.YAMLError as error:
        msg = f"ConfigMap {namespace}/{_CONFIG} cannot be read: {error}. Install Linkerd's chart anew."
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


async def _read_pods(api: Api, namespace: str, bundle: str, roots: Sequence[x509.Certificate]) -> list[MeshedPod]:
    """Read the pods with a proxy: metadata of all, and the whole of those whose metadata does not tell their anchors.

    A pod's annotation is the SHA-256 of the bundle that it was injected with (linkerd2 ``pkg/inject/inject.go``); a
    control-plane pod's is that of the chart's value, which may end with the newline that the ConfigMap lacks.
    """
    current = frozenset(map(fingerprint, roots))
    hashes = {sha256_hex(text) for text in (bundle, bundle.strip(), f"{bundle.strip()}\n")} if roots else set()
    selection = {
        "labelSelector": f"linkerd.io/control-plane-ns={namespace}",
        "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed",
    }
    found: list[MeshedPod] = []
    untold = False
    async for item in read_items(api, "list of pods", url="pods", params=selection, headers={"Accept": METADATA_ONLY}):
        annotations = item["metadata"].get("annotations") or {}
        if ANCHORS_ANNOTATION in annotations:
            found.append(_pod(item["metadata"], frozenset(annotations[ANCHORS_ANNOTATION].split(","))))
        elif annotations.get(_ANCHORS_SHA256) in hashes:
            found.append(_pod(item["metadata"], current))
        else:
            untold = True
    if untold:
        told = {str(pod) for pod in found}
        async for item in read_items(api, "list of pods", url="pods", params=selection):
            container = _proxy_container(item["spec"])
            metadata = item["metadata"]
            if container is not None and f"{metadata['namespace']}/{metadata['name']}" not in told:
                found.append(_pod(metadata, _anchors(container)))
    return sorted(found, key=str)


def _proxy_container(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the proxy's container; as a native sidecar it is an init container."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    return next((entry for entry in containers if entry.get("name") == _PROXY), None)


def _admin_port(spec: Mapping[str, Any]) -> int:
    """Return the proxy's admin port, which a pod may have moved (``config.linkerd.io/admin-port``)."""
    ports = (_proxy_container(spec) or {}).get("ports") or []
    return next((int(port["containerPort"]) for port in ports if port.get("name") == "linkerd-admin"), 4191)


def _anchors(container: Mapping[str, Any]) -> frozenset[str] | None:
    """Return what a proxy's environment says it trusts; a reference was resolved at its start and tells nothing now."""
    for variable in container.get("env") or []:
        if variable.get("name") == _ANCHORS_VARIABLE and variable.get("value"):
            return _fingerprints(variable["value"])
    return None


@lru_cache(maxsize=64)
def _fingerprints(bundle: str) -> frozenset[str] | None:
    try:
        return frozenset(map(fingerprint, read_bundle(bundle)))
    except PemError:
        return None


def _pod(metadata: Mapping[str, Any], anchors: frozenset[str] | None) -> MeshedPod:
    labels = metadata.get("labels") or {}
    return MeshedPod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        workload=_workload(metadata, labels),
        component=labels.get("linkerd.io/control-plane-component", ""),
        created=datetime.fromisoformat(metadata["creationTimestamp"]).astimezone(UTC),
        anchors=anchors,
    )


def _workload(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> Workload:
    """Return a pod's owner; a Deployment's pod is told by the name of its ReplicaSet, without a further request."""
    namespace = metadata["namespace"]
    owner = next((entry for entry in metadata.get("ownerReferences") or [] if entry.get("controller")), None)
    if owner is None:
        return Workload(kind="Pod", namespace=namespace, name=metadata["name"])
    kind, name = owner["kind"], owner["name"]
    suffix = f"-{labels.get('pod-template-hash', '')}"
    if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
        kind, name = "Deployment", name.removesuffix(suffix)
    return Workload(kind=kind, namespace=namespace, name=name)
