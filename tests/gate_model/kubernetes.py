"""The model's cluster as a Kubernetes API server serves it: JSON of its objects, and connections into its pods."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache, partial
from typing import Any

import httpx
import httpx_ws
import yaml

from meshtrust.cluster.api import METADATA_ONLY, Api, NotFoundError, Request
from tests.fake_cluster import proxy, stamp
from tests.gate_model.cluster import Cluster
from tests.gate_model.connections import Connection, connect
from tests.gate_model.mesh import Mesh
from tests.gate_model.pki import as_pem, root
from tests.gate_model.pods import Pod, Workload

_APPS, _BATCH, _ROLLOUTS = "apps/v1", "batch/v1", "argoproj.io/v1alpha1"
_EXTERNAL = "workload.linkerd.io/v1beta1"
_KINDS = {
    "Deployment": (_APPS, "deployments"),
    "StatefulSet": (_APPS, "statefulsets"),
    "DaemonSet": (_APPS, "daemonsets"),
    "Job": (_BATCH, "jobs"),
    "CronJob": (_BATCH, "cronjobs"),
    "Rollout": (_ROLLOUTS, "rollouts"),
}


# A collection or an object; what is shorter is discovery.
_PATH = re.compile(
    r"/apis?/(?P<version>v1|[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[^/]+)(/(?P<name>[^/]+))?"
)


class ModelApi(Api):
    """An API server over the model; it counts requests, and lets the cluster go on between them.

    Attributes:
        requests: How many there were.
        between: Called before each request with its number, from 1: what happens while a look is under way.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.requests = 0
        self.between: Callable[[int], None] = lambda _: None

    async def send(self, request: Request) -> Any:
        """Return an object or a list.

        Raises:
            NotFoundError: It is not there, or its kind is not.
        """
        self._count()
        assert request.method == "GET", f"a look changes nothing: {request}"
        what, path = request.what, _PATH.fullmatch(request.path)
        if path is None:
            assert request.path == "/apis", request
            return _list_groups()
        version, namespace, plural, name = path["version"], path["namespace"], path["plural"], path["name"]
        if name and plural == "pods":
            for pod in self._cluster.pods:
                if (pod.namespace, pod.name) == (namespace, name):
                    return _pod(pod, self._cluster.now)
            msg = f"The {what} does not exist: {name}."
            raise NotFoundError(msg, "not found")
        kinds = self._objects()
        if (version, plural) not in kinds:
            msg = f"The {what} does not exist: {request.path}."
            raise NotFoundError(msg, "not found")
        found = [
            item
            for item in kinds[version, plural]()
            if namespace is None or item["metadata"].get("namespace") == namespace
        ]
        if name:
            for item in found:
                if item["metadata"]["name"] == name:
                    return item
            msg = f"The {what} does not exist: {name}."
            raise NotFoundError(msg, "not found")
        found = [item for item in found if _is_selected(item, request.params)]
        if request.accept == METADATA_ONLY:
            found = [{"metadata": item["metadata"]} for item in found]
        return {"metadata": {"resourceVersion": "1"}, "items": found}

    @asynccontextmanager
    async def open_port(self, namespace: str, pod: str, port: int, *, seconds: float) -> AsyncIterator[Any]:
        """Open a port of a pod."""
        self._count()
        found = next((each for each in self._cluster.pods if (each.namespace, each.name) == (namespace, pod)), None)
        if found is None:
            raise httpx_ws.WebSocketUpgradeError(httpx.Response(404))
        async with asyncio.timeout(seconds):
            yield _Session(connect(found, port) if found.is_reachable else None, port)

    def _count(self) -> None:
        self.requests += 1
        self.between(self.requests)

    def _objects(self) -> Mapping[tuple[str, str], Callable[[], list[dict[str, Any]]]]:
        cluster = self._cluster
        return {
            ("v1", "pods"): lambda: [_pod(pod, cluster.now) for pod in cluster.pods],
            ("v1", "configmaps"): lambda: [item for mesh in cluster.meshes for item in _configmaps(mesh)],
            ("v1", "secrets"): lambda: [_secret(mesh) for mesh in cluster.meshes],
            ("v1", "namespaces"): lambda: _namespaces(cluster),
            (_APPS, "replicasets"): lambda: list(_replica_sets(cluster)),
            ("v1", "replicationcontrollers"): list,
            (_EXTERNAL, "externalworkloads"): lambda: _externals(cluster),
            **{kind: partial(_workloads, cluster, name) for name, kind in _KINDS.items()},
        }


class _Session:
    """A websocket of the API server's port-forward (kubelet ``pkg/kubelet/cri/streaming/portforward/websocket.go``)."""

    def __init__(self, connection: Connection | None, port: int) -> None:
        self._connection = connection
        number = port.to_bytes(2, "little")
        self._frames: list[bytes | None] = [b"\0" + number, b"\1" + number]

    async def send_bytes(self, data: bytes) -> None:
        if self._connection is None or not data[1:]:
            return
        try:
            answer = self._connection(data[1:])
        except ConnectionError as error:
            self._frames.append(b"\1" + str(error).encode())
            return
        if answer:
            self._frames.append(b"\0" + answer)
        if self._connection.is_closed:
            self._frames.append(None)

    async def receive_bytes(self) -> bytes:
        while not self._frames:
            await asyncio.sleep(60)
        frame = self._frames.pop(0)
        if frame is None:
            raise httpx_ws.WebSocketDisconnect
        return frame


def _list_groups() -> dict[str, Any]:
    """Return the list of API groups as discovery has it."""
    versions = (_EXTERNAL, _ROLLOUTS)
    return {
        "groups": [
            {"name": version.partition("/")[0], "preferredVersion": {"groupVersion": version}} for version in versions
        ]
    }


def _is_selected(item: Mapping[str, Any], params: Mapping[str, str]) -> bool:
    labels = item["metadata"].get("labels") or {}
    for term in re.split(r",(?![^(]*\))", params.get("labelSelector", "")):
        if term and not _has_label(labels, term.strip()):
            return False
    for term in params.get("fieldSelector", "").split(","):
        if not term:
            continue
        path, operator, value = re.fullmatch(r"([\w.]+)(!?==?)(.*)", term.strip()).groups()  # type: ignore[union-attr]
        found: Any = item
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        if (str(found or "") == value) == operator.startswith("!"):
            return False
    return True


def _has_label(labels: Mapping[str, str], term: str) -> bool:
    if listed := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", term):
        values = [value.strip() for value in listed[3].split(",")]
        return (labels.get(listed[1]) in values) == (listed[2] == "in")
    if compared := re.fullmatch(r"([^!=]+)(!?==?)(.*)", term):
        return (labels.get(compared[1]) == compared[3]) != compared[2].startswith("!")
    return term.removeprefix("!") not in labels if term.startswith("!") else term in labels


def _pod(pod: Pod, now: datetime) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
        "creationTimestamp": stamp(pod.created),
        "labels": pod.labels,
        "annotations": pod.annotations,
    }
    if owner := _owner(pod):
        metadata["ownerReferences"] = [owner]
    if pod.deleted is not None and pod.gone is not None:
        metadata |= {"deletionTimestamp": stamp(pod.gone), "deletionGracePeriodSeconds": 30}
    container = proxy(pod.bundle, pod.mesh.namespace)
    init = [{"name": "linkerd-init", "image": "init"}]
    containers = [{"name": pod.component or "app", "image": "app"}]
    if pod.is_sidecar:
        init.append({**container, "restartPolicy": "Always"})
    else:
        containers.append(container)
    return {
        "metadata": metadata,
        "spec": {
            "serviceAccountName": pod.account,
            **({"nodeName": "node-1"} if pod.is_placed else {}),
            "initContainers": init,
            "containers": containers,
        },
        "status": _status(pod, now),
    }


def _status(pod: Pod, now: datetime) -> dict[str, Any]:
    runs = pod.proxy is not None
    if pod.proxy is not None:
        state: dict[str, Any] = {"running": {"startedAt": stamp(pod.proxy.started)}}
    elif pod.phase in ("Succeeded", "Failed"):
        state = {"terminated": {"exitCode": 0 if pod.phase == "Succeeded" else 1}}
    else:
        state = {"waiting": {"reason": "PodInitializing"}}
    proxy = {"name": "linkerd-proxy", "state": state, "ready": runs, "started": runs, "restartCount": pod.restarts}
    is_up = pod.phase == "Running"
    waits = {"waiting": {"reason": "PodInitializing"}} if runs else state
    app = {
        "name": pod.component or "app",
        "state": {"running": {"startedAt": stamp(pod.program_started)}} if is_up and pod.program_started else waits,
        "ready": is_up,
        "started": is_up,
        "restartCount": pod.program_restarts,
    }
    return {
        "phase": pod.phase,
        "podIP": "10.0.0.1",
        "startTime": stamp(pod.created),
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": "True" if pod.ready <= now else "False"},
            {"type": "Ready", "status": "True" if is_up and pod.is_reachable else "False"},
        ],
        "initContainerStatuses": [proxy] if pod.is_sidecar else [],
        "containerStatuses": [app] if pod.is_sidecar else [app, proxy],
    }


def _owner(pod: Pod) -> dict[str, Any] | None:
    workload = pod.workload
    if workload is None or workload.kind == "Pod":
        return None
    if workload.kind in ("Deployment", "Rollout"):
        return _reference("ReplicaSet", _APPS, _replica_set(workload, pod))
    kind = "Job" if workload.kind == "CronJob" else workload.kind
    return _reference(kind, _KINDS[kind][0], workload.name)


def _replica_set(workload: Workload, pod: Pod) -> str:
    labels = pod.labels
    return f"{workload.name}-{labels.get('pod-template-hash') or labels.get('rollouts-pod-template-hash')}"


def _reference(kind: str, version: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "apiVersion": version, "name": name, "uid": f"{kind}-{name}", "controller": True}


def _replica_sets(cluster: Cluster) -> Iterator[dict[str, Any]]:
    seen = set()
    for pod in cluster.pods:
        workload = pod.workload
        if workload is None or workload.kind not in ("Deployment", "Rollout"):
            continue
        name = _replica_set(workload, pod)
        if (pod.namespace, name) not in seen:
            seen.add((pod.namespace, name))
            owner = _reference(workload.kind, _KINDS[workload.kind][0], workload.name)
            yield {
                "metadata": {
                    "namespace": pod.namespace,
                    "name": name,
                    "uid": f"ReplicaSet-{name}",
                    "creationTimestamp": stamp(pod.created),
                    "labels": {key: value for key, value in pod.labels.items() if key.endswith("template-hash")},
                    "ownerReferences": [owner],
                },
                "spec": {"replicas": 1, "template": _template(workload)},
                "status": {"replicas": 1},
            }


def _template(workload: Workload) -> dict[str, Any]:
    """Return a pod template, with its proxy where it is the chart's or was injected by hand."""
    annotations, labels = dict(workload.annotations), dict(workload.labels)
    containers: list[dict[str, Any]] = [{"name": workload.component or "app", "image": "app"}]
    init: list[dict[str, Any]] = []
    if workload.component or workload.manual_bundle is not None:
        container = proxy(None if workload.component else workload.manual_bundle, workload.mesh.namespace)
        (init if workload.is_sidecar else containers).append(container)
        labels["linkerd.io/control-plane-ns"] = workload.mesh.namespace
        if workload.component:
            annotations |= workload.mesh.annotations
    else:
        annotations["linkerd.io/inject"] = "enabled"
    return {
        "metadata": {"labels": {"app": workload.name, **labels}, "annotations": annotations},
        "spec": {"containers": containers, "initContainers": init},
    }


def _workloads(cluster: Cluster, kind: str) -> list[dict[str, Any]]:
    return [_workload(entry, len(cluster.pods_of(entry))) for entry in cluster.workloads if entry.kind == kind]


def _workload(workload: Workload, pods: int) -> dict[str, Any]:
    template = _template(workload)
    spec: dict[str, Any] = {"template": template}
    if workload.kind == "CronJob":
        spec = {"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": template}}}
    elif workload.kind == "Job":
        spec |= {"completions": 1}
    else:
        spec["selector"] = {"matchLabels": {"app": workload.name}}
    if workload.kind in ("Deployment", "StatefulSet", "Rollout"):
        spec["replicas"] = workload.replicas
    if workload.kind in ("StatefulSet", "DaemonSet"):
        spec["updateStrategy"] = {"type": "OnDelete" if workload.is_on_delete else "RollingUpdate"}
    return {
        "apiVersion": _KINDS[workload.kind][0],
        "kind": workload.kind,
        "metadata": {
            "namespace": workload.namespace,
            "name": workload.name,
            "uid": f"{workload.kind}-{workload.name}",
            "generation": workload.revision,
            "labels": dict(workload.labels),
            "annotations": {},
        },
        "spec": spec,
        "status": {"observedGeneration": workload.revision, "replicas": pods, "readyReplicas": pods},
    }


def _configmaps(mesh: Mesh) -> list[dict[str, Any]]:
    return [
        {
            "metadata": {
                "namespace": mesh.namespace,
                "name": "linkerd-identity-trust-roots",
                "managedFields": [
                    {"manager": manager, "time": stamp(written), "fieldsV1": {"f:data": {"f:ca-bundle.crt": {}}}}
                    for manager, written in mesh.written.items()
                ],
            },
            "data": {"ca-bundle.crt": mesh.bundle},
        },
        {
            "metadata": {"namespace": mesh.namespace, "name": "linkerd-config"},
            "data": {"values": _values(by_trust_manager=mesh.by_trust_manager)},
        },
    ]


@cache
def _values(*, by_trust_manager: bool) -> str:
    return yaml.safe_dump(
        {
            "identityTrustDomain": "cluster.local",
            "identity": {"externalCA": by_trust_manager, "issuer": {"issuanceLifetime": "24h0m0s"}},
            "linkerdVersion": "edge-26.8.1",
        }
    )


def _secret(mesh: Mesh) -> dict[str, Any]:
    shown = as_pem(mesh.secret.pair.certificate, mesh.secret.intermediate.certificate)
    data = {"tls.crt": shown, "ca.crt": root(mesh.secret.generation).pem}
    return {
        "metadata": {"namespace": mesh.namespace, "name": "linkerd-identity-issuer"},
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def _namespaces(cluster: Cluster) -> list[dict[str, Any]]:
    names = {pod.namespace for pod in cluster.pods} | {entry.namespace for entry in cluster.externals}
    planes = {mesh.namespace for mesh in cluster.meshes}
    return [
        {
            "metadata": {
                "name": name,
                "labels": {"linkerd.io/is-control-plane": "true"} if name in planes else {},
                "annotations": {"linkerd.io/inject": "disabled" if name in planes else "enabled"},
            }
        }
        for name in sorted(names | planes)
    ]


def _externals(cluster: Cluster) -> list[dict[str, Any]]:
    """Return ExternalWorkloads (linkerd2 ``controller/gen/apis/externalworkload/v1beta1/types.go``)."""
    return [
        {
            "apiVersion": _EXTERNAL,
            "kind": "ExternalWorkload",
            "metadata": {"namespace": entry.namespace, "name": entry.name, "uid": entry.name},
            "spec": {
                "meshTLS": {"identity": f"spiffe://root.linkerd.cluster.local/{entry.name}", "serverName": entry.name},
                "workloadIPs": [{"ip": "192.0.2.1"}],
            },
        }
        for entry in cluster.externals
    ]
