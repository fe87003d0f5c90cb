"""Connections into pods by the API server's port-forward, and what meshes show there: metrics and live certificates.

Port-forward reaches a pod wherever ``kubectl`` does, past network policies and past the pod's own proxy; ``linkerd
identity`` and ``linkerd diagnostics`` go the same way.
"""

import contextlib
import http.client
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from cryptography import x509

from meshtrust.cluster.api import Api

if TYPE_CHECKING:
    from httpx_ws import AsyncWebSocketSession
    from OpenSSL import SSL

_SECONDS = 10
# How often is asked at most, where the connection was lost each time.
_ATTEMPTS = 5
_DATA, _ERROR = 0, 1

P = ParamSpec("P")
T = TypeVar("T")


class PodUnreachableError(Exception):
    """A pod's port gave no answer; the message says why.

    Attributes:
        is_forbidden: Whether the credentials lack the right to ask it.
        is_lost: Whether a connection ended in the middle, so that another one may fare better.
    """

    def __init__(self, message: str, *, is_forbidden: bool = False, is_lost: bool = False) -> None:
        super().__init__(message)
        self.is_forbidden, self.is_lost = is_forbidden, is_lost


def _repeated(ask: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a question that is asked again when its connection was lost; none of this module changes anything."""

    @wraps(ask)
    async def persistent(*arguments: P.args, **named: P.kwargs) -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return await ask(*arguments, **named)
            except PodUnreachableError as error:
                if not error.is_lost:
                    raise
        return await ask(*arguments, **named)

    return persistent


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer of a pod's HTTP server, with its own clock at that moment (seconds, UTC)."""

    text: str
    date: datetime | None


@_repeated
async def fetch_page(api: Api, namespace: str, pod: str, port: int, path: str) -> Page:
    """Return a page of a pod's HTTP server.

    Raises:
        PodUnreachableError: The port gives no answer, or not a page.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: {pod}\r\n\r\n".encode()
    with _as_unreachable():
        async with _open(api, namespace, pod, port) as connection:
            await connection.send(request)
            received = b"".join([chunk async for chunk in connection.receive()])
        return _read_page(received, f"port {port} answers {path}")


@_repeated
async def post_json(api: Api, namespace: str, pod: str, port: int, body: Any) -> Any:
    """Return what a pod's HTTPS server answers to a JSON body, as JSON; its certificate is not looked at.

    Raises:
        PodUnreachableError: The port gives no answer, or not one in JSON.
    """
    content = json.dumps(body).encode()
    head = f"POST / HTTP/1.0\r\nHost: {pod}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    with _as_unreachable():
        async with _open_tls(api, namespace, pod, port, pod) as tls:
            await tls.send(f"{head}\r\n\r\n".encode() + content)
            received = b"".join([chunk async for chunk in tls.receive()])
        page = _read_page(received, f"port {port} answers a POST")
        try:
            return json.loads(page.text)
        except ValueError as error:
            msg = f"port {port} answers a POST with something else than JSON"
            raise PodUnreachableError(msg) from error


def _read_page(received: bytes, failure: str) -> Page:
    answer = http.client.HTTPResponse(_Received(received))  # type: ignore[arg-type]  # it only reads
    answer.begin()
    body = answer.read().decode(errors="replace")
    if answer.status != http.HTTPStatus.OK:
        msg = f"{failure} with {answer.status}"
        raise PodUnreachableError(msg)
    date = answer.getheader("Date")
    return Page(text=body, date=parsedate_to_datetime(date) if date else None)


@_repeated
async def fetch_certificates(api: Api, namespace: str, pod: str, port: int, server_name: str) -> list[x509.Certificate]:
    """Return the certificates that a pod's port shows in a TLS handshake, its own first.

    They are read, not trusted: who calls verifies them.

    Raises:
        PodUnreachableError: The port gives no answer, or does not speak TLS.
    """
    with _as_unreachable():
        async with _open_tls(api, namespace, pod, port, server_name) as tls:
            return tls.shown()


@contextlib.contextmanager
def _as_unreachable() -> Iterator[None]:
    import httpx  # noqa: PLC0415
    import httpx_ws  # noqa: PLC0415

    try:
        yield
    except TimeoutError as error:
        msg = f"no answer within {_SECONDS} seconds"
        raise PodUnreachableError(msg) from error
    except ExceptionGroup as group:
        # The websocket's own tasks wrap what ends them.
        first = next(_flat(group))
        if isinstance(first, PodUnreachableError):
            raise first from group
        raise PodUnreachableError(str(first) or type(first).__name__, is_lost=True) from group
    except httpx_ws.WebSocketUpgradeError as error:
        answer = error.response
        msg = f"the API server answers with {answer.status_code} {answer.reason_phrase}"
        forbidden = answer.status_code in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.UNAUTHORIZED)
        raise PodUnreachableError(msg, is_forbidden=forbidden) from error
    except (httpx.HTTPError, httpx_ws.HTTPXWSException, http.client.HTTPException, OSError) as error:
        raise PodUnreachableError(str(error) or type(error).__name__, is_lost=True) from error


def _flat(group: ExceptionGroup) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _flat(error)
        else:
            yield error


def _closed() -> bytes:
    msg = "the connection was closed"
    raise PodUnreachableError(msg, is_lost=True)


class _Received(io.BytesIO):
    """Bytes as `http.client` reads them from a socket."""

    def makefile(self, _mode: str) -> "_Received":
        return self


class _Connection:
    """One port of one pod over a websocket: frames with a channel number, each channel's first being the port's.

    Source: kubelet ``pkg/kubelet/cri/streaming/portforward/websocket.go``.
    """

    def __init__(self, websocket: "AsyncWebSocketSession") -> None:
        self._websocket = websocket

    async def send(self, data: bytes) -> None:
        await self._websocket.send_bytes(bytes([_DATA]) + data)

    async def receive(self) -> AsyncIterator[bytes]:
        from httpx_ws import WebSocketDisconnect  # noqa: PLC0415

        opened = set()
        while True:
            try:
                frame = await self._websocket.receive_bytes()
            except WebSocketDisconnect:
                return
            channel, data = frame[0], frame[1:]
            if channel not in opened:
                opened.add(channel)
            elif channel == _ERROR:
                raise PodUnreachableError(data.decode(errors="replace").strip())
            else:
                yield data


@contextlib.asynccontextmanager
async def _open(api: Api, namespace: str, pod: str, port: int) -> AsyncIterator[_Connection]:
    async with api.open_port(namespace, pod, port, seconds=_SECONDS) as websocket:
        yield _Connection(websocket)


@cache
def _client_context() -> "SSL.Context":
    from OpenSSL import SSL  # noqa: PLC0415

    return SSL.Context(SSL.TLS_CLIENT_METHOD)


class _Tls:
    """TLS over a connection to a pod's port, as a client that verifies nothing: who reads what is shown does."""

    def __init__(self, connection: _Connection, port: int, server_name: str) -> None:
        # Only this needs it, and it takes a while to import.
        from OpenSSL import SSL  # noqa: PLC0415

        self._ssl, self._connection, self._port = SSL, connection, port
        self._incoming = connection.receive()
        self._client = SSL.Connection(_client_context(), None)
        self._client.set_tlsext_host_name(server_name.encode())
        self._client.set_connect_state()

    def shown(self) -> list[x509.Certificate]:
        return cast("list[x509.Certificate]", self._client.get_peer_cert_chain(as_cryptography=True) or [])

    async def shake_hands(self) -> None:
        while True:
            try:
                self._client.do_handshake()
            except self._ssl.WantReadError:
                await self._flush()
                self._client.bio_write(await anext(self._incoming, b"") or _closed())
            except self._ssl.Error as error:
                msg = f"port {self._port} does not speak TLS ({error})"
                raise PodUnreachableError(msg) from error
            else:
                return

    async def send(self, data: bytes) -> None:
        self._client.sendall(data)
        await self._flush()

    async def receive(self) -> AsyncIterator[bytes]:
        while True:
            try:
                yield self._client.recv(65536)
            except self._ssl.WantReadError:
                if not (data := await anext(self._incoming, b"")):
                    return
                self._client.bio_write(data)
            except (self._ssl.ZeroReturnError, self._ssl.SysCallError):
                return
            except self._ssl.Error as error:
                msg = f"port {self._port} ended the connection ({error})"
                raise PodUnreachableError(msg) from error

    async def _flush(self) -> None:
        with contextlib.suppress(self._ssl.WantReadError):
            while True:
                await self._connection.send(self._client.bio_read(65536))


@contextlib.asynccontextmanager
async def _open_tls(api: Api, namespace: str, pod: str, port: int, server_name: str) -> AsyncIterator[_Tls]:
    async with _open(api, namespace, pod, port) as connection:
        tls = _Tls(connection, port, server_name)
        await tls.shake_hands()
        yield tls
