"""A cluster of this process, for tests of what is seen in one: objects of an API server, and pods with ports."""

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from httpx_ws import WebSocketDisconnect

from meshtrust.cluster.api import Api, ConflictError, NotFoundError, Request
from meshtrust.cluster.connection.port_forward import PodUnreachableError
from meshtrust.linkerd.pods import ANCHORS_VARIABLE
from tests.certificates import Pair, make_certificate

# A status and a body, for a method, a path and the body of a request.
Answer = Callable[[str, str, bytes], tuple[int, bytes]]
NOW = datetime.now(UTC).replace(microsecond=0)
HANDSHAKE = 0x16


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Port:
    """A port of a pod: what it answers over HTTP, and the certificate with which it speaks TLS, if it does."""

    answer: Answer
    chain: tuple[Pair, ...] = ()


@dataclass
class FakeCluster(Api):
    """An API server with objects and ports that a test sets; a request's path is as the API server has it.

    Attributes:
        objects: What there is, by path: an object, or the list of a collection's items.
        ports: The ports that answer, by pod (``namespace/name``) and number.
        refused: Pods to whose ports nothing is forwarded, with the reason.
        before_call: Called before each request with its path.
    """

    objects: dict[str, Any] = field(default_factory=dict)
    ports: dict[tuple[str, int], Port] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    before_call: Callable[[str], None] = lambda _: None
    requests: list[str] = field(default_factory=list)

    async def send(self, request: Request) -> Any:
        path = request.path.removeprefix("/")
        self.requests.append(path)
        self.before_call(path)
        found = self._groups() if path == "apis" else self.objects.get(path)
        if found is None and path.rpartition("/")[0] in self.objects:
            listed = self.objects[path.rpartition("/")[0]]
            found = next((item for item in listed if item["metadata"]["name"] == path.rpartition("/")[2]), None)
        if found is None and path.rpartition("/")[2] in COLLECTIONS:
            # The collection of all namespaces.
            stem, _, plural = path.rpartition("/")
            found = [
                item
                for at, items in self.objects.items()
                if at.startswith(f"{stem}/namespaces/") and at.endswith(f"/{plural}")
                for item in items
            ]
        if request.method == "POST":
            assert request.body
            return self._create(path, request)
        if found is None:
            raise NotFoundError(f"The {request.what} does not exist: not found.", "not found")
        if request.method == "PATCH":
            assert request.body
            _merge(found, request.body)
        elif request.method == "DELETE":
            self._delete(path)
        else:
            assert request.method == "GET", request
        return {"metadata": {}, "items": found} if isinstance(found, list) else found

    def _create(self, path: str, request: Request) -> Any:
        item = json.loads(json.dumps(request.body))
        name = item["metadata"]["name"]
        listed = self.objects.setdefault(path, [])
        if f"{path}/{name}" in self.objects or any(other["metadata"]["name"] == name for other in listed):
            raise ConflictError(f"The {request.what} cannot be created: it exists.", "it exists")
        listed.append(item)
        return item

    def _delete(self, path: str) -> None:
        if self.objects.pop(path, None) is None:
            collection, _, name = path.rpartition("/")
            self.objects[collection] = [item for item in self.objects[collection] if item["metadata"]["name"] != name]

    @contextlib.asynccontextmanager
    async def open_port(self, namespace: str, pod: str, port: int, *, seconds: float) -> AsyncIterator[Any]:
        place = f"{namespace}/{pod}"
        self.requests.append(f"portforward {place}")
        if place in self.refused:
            raise PodUnreachableError(self.refused[place])
        opened = self.ports.get((place, port))
        if opened is None:
            raise PodUnreachableError("connection refused")
        async with asyncio.timeout(seconds):
            session = _Session(opened)
            try:
                yield session
            finally:
                await session.end()

    def _groups(self) -> dict[str, Any]:
        """Return the list of API groups of which an object tells that they are served."""
        names = [
            path.removeprefix("apis/") for path in self.objects if path.startswith("apis/") and path.count("/") == 1
        ]
        return {"groups": [{"name": name, **self.objects[f"apis/{name}"]} for name in names]}

    # Building blocks.

    def add(self, path: str, item: dict[str, Any]) -> None:
        self.objects.setdefault(path, []).append(item)

    def remove_pod(self, pod: str) -> None:
        namespace, _, name = pod.partition("/")
        path = f"api/v1/namespaces/{namespace}/pods"
        self.objects[path] = [item for item in self.objects[path] if item["metadata"]["name"] != name]
        for key in [key for key in self.ports if key[0] == pod]:
            del self.ports[key]

    def set_bundle(self, text: str, changed: datetime, namespace: str = "linkerd") -> None:
        entry = {"manager": "helm", "operation": "Update", "time": stamp(changed), "fieldsV1": {"f:data": {}}}
        self.objects[f"api/v1/namespaces/{namespace}/configmaps/linkerd-identity-trust-roots"] = {
            "metadata": {
                "name": "linkerd-identity-trust-roots",
                "namespace": namespace,
                "managedFields": [entry],
                "creationTimestamp": stamp(changed),
            },
            "data": {"ca-bundle.crt": text},
        }

    def set_issuer(self, issuer: Pair, root: Pair, namespace: str = "linkerd") -> None:
        data = {"tls.crt": issuer.pem, "tls.key": issuer.key_pem, "ca.crt": root.pem}
        self.objects[f"api/v1/namespaces/{namespace}/secrets/linkerd-identity-issuer"] = {
            "metadata": {"name": "linkerd-identity-issuer", "namespace": namespace},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }


def _merge(item: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Merge a patch into an object (RFC 7396, without removals)."""
    for key, value in patch.items():
        if isinstance(value, Mapping):
            _merge(item.setdefault(key, {}), value)
        else:
            item[key] = value


COLLECTIONS = (
    *("pods", "deployments", "statefulsets", "daemonsets", "replicasets", "replicationcontrollers", "cronjobs", "jobs"),
    *("externalworkloads", "links"),
)


class _Session:
    """A websocket of a port-forward: each frame with its channel first, each channel's first frame the port."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._frames.put_nowait(b"\x00\x00\x00")
        self._frames.put_nowait(b"\x01\x00\x00")
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()

    async def send_bytes(self, frame: bytes) -> None:
        assert frame[0] == 0
        if self._writer is None:
            is_tls = frame[1] == HANDSHAKE
            if is_tls and not self._port.chain:
                self._frames.put_nowait(None)
                return
            address = await self._stack.enter_async_context(_serving(self._port, with_tls=is_tls))
            reader, self._writer = await asyncio.open_connection(*address)
            self._tasks.append(asyncio.create_task(self._pump(reader)))
        self._writer.write(frame[1:])
        await self._writer.drain()

    async def receive_bytes(self) -> bytes:
        frame = await self._frames.get()
        if frame is None:
            raise WebSocketDisconnect
        return frame

    async def _pump(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self._frames.put_nowait(b"\x00" + data)
        self._frames.put_nowait(None)

    async def end(self) -> None:
        if self._writer:
            self._writer.close()
        for task in self._tasks:
            task.cancel()
        await self._stack.aclose()


@contextlib.asynccontextmanager
async def _serving(port: Port, *, with_tls: bool) -> AsyncIterator[tuple[str, int]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            method, path, _ = head.split(" ", 2)
            status, answer = port.answer(method, path, body)
            date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
            writer.write(
                f"HTTP/1.0 {status} -\r\nDate: {date}\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer
            )
            await writer.drain()
        writer.close()

    context = _context(port.chain) if with_tls else None
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


def _context(chain: tuple[Pair, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "chain.pem"
        file.write_text(chain[0].key_pem + "".join(pair.pem for pair in chain))
        context.load_cert_chain(file)
    return context


def proxy_answers(anchors: str) -> Answer:
    """Return what a proxy's admin port answers: the variables of its environment (linkerd2-proxy, ``/env.json``)."""

    def answer(_method: str, path: str, _body: bytes) -> tuple[int, bytes]:
        found = urlsplit(path)
        if found.path != "/env.json":
            return 404, b""
        names = list(parse_qs(found.query, keep_blank_values=True))
        return 200, json.dumps({name: anchors if name == ANCHORS_VARIABLE else None for name in names}).encode()

    return answer


def identity_answers(issuer: Pair | None) -> Answer:
    """Return what the admin port of an identity replica answers, which before 2025 did not tell of its issuer."""

    def answer(_method: str, _path: str, _body: bytes) -> tuple[int, bytes]:
        if issuer is None:
            return 200, b"go_goroutines 9\n"
        left = (issuer.certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds()
        return 200, f"issuer_cert_ttl_seconds {left}\n".encode()

    return answer


def injector_answers(bundle: Callable[[], str]) -> Answer:
    """Return what the webhook of an injector answers: a patch that adds the proxy (linkerd2 ``charts/patch``)."""

    def answer(method: str, _path: str, body: bytes) -> tuple[int, bytes]:
        assert method == "POST"
        request = json.loads(body)["request"]
        assert request["object"]["metadata"]["annotations"]["linkerd.io/inject"] == "enabled"
        patch = [
            {"op": "add", "path": "/metadata/labels", "value": {}},
            {"op": "add", "path": "/spec/containers/-", "value": proxy(bundle())},
        ]
        response = {
            "uid": request["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        return 200, json.dumps({"response": response}).encode()

    return answer


def proxy(anchors: str | None, namespace: str = "linkerd") -> dict[str, Any]:
    """Return the container of a proxy with roots, or one that takes them from the bundle's ConfigMap."""
    by_reference = {"configMapKeyRef": {"name": "linkerd-identity-trust-roots", "key": "ca-bundle.crt"}}
    return {
        "name": "linkerd-proxy",
        "env": [
            {"name": "_l5d_ns", "value": namespace},
            {"name": ANCHORS_VARIABLE, **({"value": anchors} if anchors else {"valueFrom": by_reference})},
        ],
        "ports": [{"name": "linkerd-admin", "containerPort": 4191}],
    }


def pod_item(
    name: str,
    namespace: str = "shop",
    *,
    anchors: str | None,
    owner: tuple[str, str, str] | None = None,
    created: datetime = NOW - timedelta(hours=1),
    phase: str = "Running",
    runs: bool = True,
    restarts: int = 0,
    started: datetime | None = None,
    is_native: bool = False,
    control_plane: str = "linkerd",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a pod with a proxy as the API server has it."""
    container = proxy(anchors, control_plane)
    state = (
        {"running": {"startedAt": stamp(started or created)}} if runs else {"waiting": {"reason": "PodInitializing"}}
    )
    status = {"name": "linkerd-proxy", "state": state, "restartCount": restarts}
    program = {"name": "app", "state": state if phase == "Running" else {"waiting": {}}, "restartCount": 0}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": stamp(created),
        "labels": dict(labels or {}),
        "annotations": dict(annotations or {}),
    }
    if owner:
        version, kind, of = owner
        metadata["ownerReferences"] = [{"apiVersion": version, "kind": kind, "name": of, "controller": True}]
    return {
        "metadata": metadata,
        "spec": {
            "serviceAccountName": "default",
            "nodeName": "node-1",
            "containers": [{"name": "app"}, *([] if is_native else [container])],
            "initContainers": [container] if is_native else [],
        },
        "status": {
            "phase": phase,
            "containerStatuses": [program, *([] if is_native else [status])],
            "initContainerStatuses": [status] if is_native else [],
        },
    }


def of_deployment(name: str) -> dict[str, Any]:
    """Return the owner and the labels of a pod of a Deployment."""
    return {"owner": ("apps/v1", "ReplicaSet", f"{name}-5f9c"), "labels": {"pod-template-hash": "5f9c"}}


def leaf(issuer: Pair, *above: Pair) -> tuple[Pair, ...]:
    """Return a proxy's certificate with its issuers."""
    return (make_certificate("leaf", issuer=issuer, ca=False, key_cert_sign=False), issuer, *above)
