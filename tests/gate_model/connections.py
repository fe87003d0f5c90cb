"""Pods' ports in the model: the identity service's metrics, a proxy's certificate, and an injector's answer.

Sources: linkerd2 ``pkg/identity/service.go`` (the gauge), ``controller/webhook/server.go`` and
``controller/proxy-injector/webhook.go`` (the review), linkerd2-proxy ``linkerd/tls`` (a proxy ends the TLS that asks for
its own name, and no other).
"""

import base64
import json
from collections.abc import Callable
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from cryptography import x509
from OpenSSL import SSL

from meshtrust.pem import sha256_hex
from tests.certificates import Pair, make_certificate
from tests.gate_model.pki import LEAF_KEY
from tests.gate_model.pods import Pod

if TYPE_CHECKING:
    from tests.gate_model.cluster import Cluster

class Connection(Protocol):
    """One connection to a port of a pod."""

    @property
    def is_closed(self) -> bool:
        """Whether the pod has hung up."""

    def __call__(self, data: bytes) -> bytes:
        """Take what was sent, and return what is answered to it.

        Raises:
            ConnectionError: Nothing listens.
        """


def connect(pod: Pod, port: int, cluster: "Cluster") -> Connection:
    """Return a connection to a port of a pod."""
    if pod.proxy is None or pod.phase not in ("Pending", "Running"):
        return _Refused(port)
    is_up = pod.phase == "Running" and pod.program_started is not None
    if port == 4191:
        page = _Http(lambda _method, path, _body: _admin(pod, path), cluster)
        leaf = pod.proxy.leaf
        return _Either(_Tls([*leaf.chain], LEAF_KEY, pod.identity) if leaf else None, page)
    if pod.component == "identity" and port == 9990 and is_up and pod.issuer is not None:
        return _Http(lambda _method, path, _body: _metrics(pod, cluster, path), cluster)
    if pod.component == "proxy-injector" and port == 8443 and is_up:
        pair = _webhook()
        return _Tls([pair.certificate], pair.key, "", _Http(lambda *request: _review(pod, *request), cluster))
    return _Refused(port)


class _Refused:
    """A port at which nothing listens."""

    is_closed = True

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, _: bytes) -> bytes:
        msg = f"failed to connect to localhost:{self._port}: connection refused"
        raise ConnectionError(msg)


@lru_cache(maxsize=None)
def _webhook() -> Pair:
    return make_certificate("linkerd-proxy-injector.linkerd.svc", ca=False)


def _admin(pod: Pod, path: str) -> tuple[int, bytes]:
    """Answer what the proxy's admin server does (linkerd2-proxy ``linkerd/app/admin/src/server.rs``)."""
    page, _, name = path.partition("?")
    if page != "/env.json" or pod.proxy is None:
        return 404, b""
    return 200, json.dumps({name: pod.proxy.bundle}).encode()


def _metrics(pod: Pod, cluster: "Cluster", path: str) -> tuple[int, bytes]:
    if path != "/metrics" or pod.issuer is None:
        return 404, b""
    left = (pod.issuer.ends - cluster.now).total_seconds()
    return 200, f"# TYPE issuer_cert_ttl_seconds gauge\nissuer_cert_ttl_seconds {left}\n".encode()


def _review(pod: Pod, method: str, _path: str, body: bytes) -> tuple[int, bytes]:
    """Answer an AdmissionReview as the injector does: what it reads of the bundle at this moment goes into the patch."""
    if method != "POST":
        return 400, b""
    review: dict[str, Any] = json.loads(body)
    asked, bundle = review["request"], str(pod.trust_roots.content if pod.trust_roots else "")
    metadata, spec = asked["object"].get("metadata") or {}, asked["object"].get("spec") or {}
    response: dict[str, Any] = {"uid": asked["uid"], "allowed": True}
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    annotations = metadata.get("annotations") or {}
    is_injected = any(entry["name"] == "linkerd-proxy" for entry in containers)
    if asked["kind"]["kind"] == "Pod" and not is_injected and annotations.get("linkerd.io/inject") != "disabled":
        patch: list[dict[str, Any]] = []
        if not annotations:
            patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
        patch.append(
            {
                "op": "add",
                "path": "/metadata/annotations/linkerd.io~1trust-root-sha256",
                "value": sha256_hex(bundle),
            }
        )
        if not metadata.get("labels"):
            patch.append({"op": "add", "path": "/metadata/labels", "value": {}})
        label = {"op": "add", "path": "/metadata/labels/linkerd.io~1control-plane-ns", "value": pod.mesh.namespace}
        proxy = {
            "name": "linkerd-proxy",
            "restartPolicy": "Always",
            "env": [{"name": "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "value": bundle}],
        }
        if not spec.get("initContainers"):
            patch.append({"op": "add", "path": "/spec/initContainers", "value": []})
        patch += [
            label,
            {"op": "add", "path": "/spec/initContainers/0", "value": {"name": "linkerd-init"}},
            {"op": "add", "path": "/spec/initContainers/1", "value": proxy},
        ]
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
    return 200, json.dumps({**review, "response": response}).encode()


class _Http:
    """An HTTP/1.0 server for one request."""

    is_closed = False

    def __init__(self, answer: Callable[[str, str, bytes], tuple[int, bytes]], cluster: "Cluster") -> None:
        self._answer, self._cluster, self._received = answer, cluster, b""

    def __call__(self, data: bytes) -> bytes:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        if self._received[:1] == b"\x16":
            # TLS, at a port that does not speak it.
            self.is_closed = True
            return b"HTTP/1.0 400 Bad Request\r\n\r\n"
        if not ended or len(body) < length:
            return b""
        method, path, _ = head.decode().split("\r\n")[0].split(" ")
        status, page = self._answer(method, path, body)
        self.is_closed = True
        date = format_datetime(self._cluster.now, usegmt=True)
        return f"HTTP/1.0 {status} OK\r\nDate: {date}\r\nContent-Length: {len(page)}\r\n\r\n".encode() + page


class _Tls:
    """A TLS server for one connection, with what is behind it."""

    is_closed = False

    def __init__(self, chain: list[x509.Certificate], key: Any, name: str, inner: _Http | None = None) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(chain[0])
        context.use_privatekey(key)
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        self._connection, self._inner, self._name = SSL.Connection(context, None), inner, name
        self._connection.set_accept_state()
        self._is_met = False

    def __call__(self, data: bytes) -> bytes:
        self._connection.bio_write(data)
        try:
            if not self._is_met:
                self._connection.do_handshake()
                self._is_met = True
                asked = (self._connection.get_servername() or b"").decode()
                if self._name and asked != self._name:
                    self.is_closed = True
                    return b""
            while self._inner is not None:
                answer = self._inner(self._connection.recv(65536))
                if answer:
                    self._connection.sendall(answer)
                if self._inner.is_closed:
                    self._connection.shutdown()
                    self.is_closed = True
                    break
        except SSL.WantReadError:
            pass
        except SSL.Error:
            self.is_closed = True
        try:
            return self._connection.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""


class _Either:
    """A port that speaks TLS, once there is a certificate, and HTTP without."""

    def __init__(self, tls: _Tls | None, plain: _Http) -> None:
        self._tls, self._plain = tls, plain
        self._chosen: _Tls | _Http | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the pod has hung up."""
        return self._chosen is not None and self._chosen.is_closed

    def __call__(self, data: bytes) -> bytes:
        if self._chosen is None:
            self._chosen = self._tls if self._tls is not None and data.startswith(b"\x16") else self._plain
        return self._chosen(data)
