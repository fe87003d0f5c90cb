"""Pods' ports in the model: the identity service's metrics, a proxy's certificate, and an injector's answer.

Source: linkerd2-proxy ``linkerd/tls`` (a proxy ends the TLS that asks for its own name, and no other); the answers are
those of `tests.fake_cluster`, over connections that need no socket.
"""

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache, lru_cache
from typing import Any, Protocol

from cryptography import x509
from OpenSSL import SSL

from tests.certificates import make_certificate
from tests.fake_cluster import HANDSHAKE, Answer, identity_answers, injector_answers, proxy_answers
from tests.gate_model.pki import LEAF_KEY, Leaf
from tests.gate_model.pods import Pod


class Connection(Protocol):
    """One connection to a port of a pod."""

    @property
    def is_closed(self) -> bool:
        """Whether the pod has hung up."""
        ...

    def __call__(self, data: bytes) -> bytes:
        """Take what was sent, and return what is answered to it.

        Raises:
            ConnectionError: Nothing listens.
        """


def connect(pod: Pod, port: int) -> Connection:
    """Return a connection to a port of a pod."""
    if pod.proxy is None or pod.phase not in ("Pending", "Running"):
        return _Refused(port)
    is_up = pod.phase == "Running" and pod.program_started is not None
    if port == 4191:
        return _Either(pod, _Http(_unknown if pod.mesh.is_old else proxy_answers(pod.proxy.bundle)))
    if pod.component == "identity" and port == 9990 and is_up and pod.issuer is not None:
        return _Http(identity_answers(None if pod.mesh.is_old else pod.issuer.pair))
    if pod.component == "proxy-injector" and port == 8443 and is_up and pod.trust_roots is not None:
        bundle = str(pod.trust_roots.content)
        return _Tls(_webhook(), "", _Http(injector_answers(lambda: bundle)))
    return _Refused(port)


def _unknown(_method: str, _path: str, _body: bytes) -> tuple[int, bytes]:
    return 404, b""


class _Refused:
    """A port at which nothing listens."""

    is_closed = True

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, data: bytes) -> bytes:  # noqa: ARG002
        msg = f"failed to connect to localhost:{self._port}: connection refused"
        raise ConnectionError(msg)


@cache
def _webhook() -> SSL.Context:
    pair = make_certificate("linkerd-proxy-injector.linkerd.svc", ca=False)
    return _context((pair.certificate,), pair.key)


@lru_cache(maxsize=256)
def _of_leaf(leaf: Leaf) -> SSL.Context:
    return _context(leaf.chain, LEAF_KEY)


def _context(chain: tuple[x509.Certificate, ...], key: Any) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(chain[0])
    context.use_privatekey(key)
    for certificate in chain[1:]:
        context.add_extra_chain_cert(certificate)
    return context


class _Http:
    """An HTTP/1.0 server for one request."""

    is_closed = False

    def __init__(self, answer: Answer) -> None:
        self._answer, self._received = answer, b""

    def __call__(self, data: bytes) -> bytes:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        if self._received[0] == HANDSHAKE:
            # TLS, at a port that does not speak it.
            self.is_closed = True
            return b"HTTP/1.0 400 Bad Request\r\n\r\n"
        if not ended or len(body) < length:
            return b""
        method, path, _ = head.decode().split("\r\n")[0].split(" ")
        status, page = self._answer(method, path, body)
        self.is_closed = True
        date = format_datetime(datetime.now(UTC), usegmt=True)
        return f"HTTP/1.0 {status} OK\r\nDate: {date}\r\nContent-Length: {len(page)}\r\n\r\n".encode() + page


class _Tls:
    """A TLS server for one connection, with what is behind it."""

    is_closed = False

    def __init__(self, context: SSL.Context, name: str, inner: _Http | None = None) -> None:
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

    def __init__(self, pod: Pod, plain: _Http) -> None:
        self._pod, self._plain = pod, plain
        self._chosen: _Tls | _Http | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the pod has hung up."""
        return self._chosen is not None and self._chosen.is_closed

    def __call__(self, data: bytes) -> bytes:
        if self._chosen is None:
            leaf = self._pod.proxy.leaf if self._pod.proxy is not None else None
            is_tls = leaf is not None and data[0] == HANDSHAKE
            self._chosen = _Tls(_of_leaf(leaf), self._pod.identity) if leaf is not None and is_tls else self._plain
        return self._chosen(data)
