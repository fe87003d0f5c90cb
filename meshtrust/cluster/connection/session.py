"""Requests to one API server, with the credentials of a context, over connections that may be lost."""

import asyncio
import contextlib
import gc
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import httpx_ws

from meshtrust.cluster.api import (
    ANSWER_SECONDS,
    LOOK_SECONDS,
    PODS,
    REQUEST_SECONDS,
    Api,
    ClusterError,
    ConflictError,
    ForbiddenError,
    Look,
    NotFoundError,
    Object,
    Request,
    Resource,
    UnreachableError,
)
from meshtrust.cluster.backoff import pauses
from meshtrust.cluster.connection.access import ClusterAccess
from meshtrust.cluster.connection.credentials import CredentialsError, read_credentials
from meshtrust.cluster.connection.kubeconfig import Context
from meshtrust.cluster.connection.watch import Watch

# What OpenSSL reports of a certificate at another time than its own (openssl ``crypto/x509/x509_txt.c``). A login that
# has ended reports that it expired, too.
_WRONG_TIME = ("certificate is not yet valid", "certificate has expired")
# Pause before a first connection that was lost is tried again.
_CONNECT_PAUSE_SECONDS = 0.1
# No answer to these comes another time. A certificate that is not trusted ends a connection as a lost one does.
_IN_VAIN = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed")
# How a connection is refused that nobody listens for, by the platform's words for ECONNREFUSED and for a name that is
# not known: before the first answer it is an address that is wrong, after that a server that starts again.
_NOBODY_THERE = ("Connection refused", "All connection attempts failed", "not known", "name resolution")


async def open_client(context: Context, access: ClusterAccess) -> tuple[Api, str]:
    """Return a client that has reached its API server, and the Date header of the first answer, empty if it had none.

    Args:
        context: The context.
        access: The way by which it was read.

    Raises:
        ClusterError: The API server does not answer, is something else, or refuses the credentials.
    """
    client = _Client(context)
    try:
        await client.log_in()
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                try:
                    return client, await client.check_version()
                except (httpx.TransportError, OSError) as error:
                    if not _is_lost(error) or any(words in str(error) for words in _NOBODY_THERE):
                        raise
                    await asyncio.sleep(_CONNECT_PAUSE_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, CredentialsError) as error:
        reason = str(error).strip().rstrip(".") or f"no answer within {ANSWER_SECONDS} seconds"
        by_time = " Is this machine's clock right?" if any(words in reason for words in _WRONG_TIME) else ""
        msg = (
            f"The API server of {access.title} cannot be reached: {reason}.{by_time} Check that the cluster runs, that "
            f"this machine may reach it, and that its credentials are valid: {access.kubectl} version"
        )
        raise ClusterError(msg) from error


@dataclass(frozen=True)
class _Session:
    """Connections with credentials that were read at one time."""

    http: httpx.AsyncClient
    extensions: dict[str, Any]


class _Client(Api):
    """An API server, by httpx."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._session: _Session
        self._one_at_a_time = asyncio.Lock()

    async def log_in(self) -> None:
        """Read the credentials of the context, for all requests from now on.

        Raises:
            CredentialsError: As `read_credentials` raises it.
            OSError: As `read_credentials` raises it.
        """
        found = await read_credentials(self._context)
        # Each request has a limit of its own, which may be longer than any of httpx' for one read.
        http = httpx.AsyncClient(
            base_url=found.server,
            headers=[("User-Agent", "meshtrust"), *found.headers],
            verify=found.tls,
            proxy=found.proxy,
            timeout=None,  # noqa: S113
            follow_redirects=True,
        )
        self._session = _Session(http, {"sni_hostname": found.server_name} if found.server_name else {})

    async def check_version(self) -> str:
        """Make sure that what answers is a Kubernetes API server, and return the Date header of its answer.

        Raises:
            httpx.HTTPError: It does not answer.
            ValueError: It refuses, or is something else.
        """
        response = await self._answer(self._session, Request(method="GET", path="/version", what="version"))
        if response.is_error:
            raise ValueError(_reason(response))
        if "gitVersion" not in response.text:
            msg = "it is not a Kubernetes API server which answers"
            raise ValueError(msg)
        return str(response.headers.get("date", ""))

    async def send(self, request: Request) -> Any:
        """Return the answer to a request, as `Api.send` does."""
        done = "read" if request.method in ("GET", "HEAD") else "changed"
        try:
            session = self._session
            response = await self._persistent_answer(session, request)
            if response.status_code == httpx.codes.UNAUTHORIZED:
                # The credentials may have expired.
                response = await self._answer(await self._log_in_again(session), request)
            if not response.is_error:
                return _read(response)
        except (httpx.HTTPError, OSError) as error:
            reason = str(error) or type(error).__name__
            msg = (
                f"The {request.what} cannot be {done}: the API server does not answer ({reason}). Run again once it "
                "does."
            )
            raise UnreachableError(msg) from error
        except (CredentialsError, ValueError) as error:
            msg = (
                f"The {request.what} cannot be {done}: {str(error).strip()}. Check that the credentials of the "
                "kubeconfig are valid still, and that it is the API server which answers; then run again."
            )
            raise ClusterError(msg) from error
        raise _refusal(request.what, done, response)

    async def _persistent_answer(self, session: _Session, request: Request) -> httpx.Response:
        """Return the answer to a request, which is sent again for a while if its connection is lost.

        API servers, and what stands before them, end connections that are kept, and restart. What counts is the time
        since the first attempt: a request that is given up after `ANSWER_SECONDS` has met a server that is away.
        """
        begun = time.monotonic()
        for pause in pauses():
            is_late = time.monotonic() - begun > ANSWER_SECONDS
            try:
                response = await self._answer(session, request)
            except Exception as error:
                if not request.repeatable or not _is_lost(error) or is_late:
                    raise
            else:
                # An API server that ends, or has too much to do, asks for that (apiserver ``pkg/server/filters``). It
                # asks so of an eviction, too, which is not a GET, and whose caller decides.
                if request.method != "GET" or "retry-after" not in response.headers or is_late:
                    return response
            await asyncio.sleep(pause)
        raise AssertionError

    @contextlib.asynccontextmanager
    async def watch(self, resource: Resource, seen: Object, *, namespace: str = "") -> AsyncIterator[Look]:
        """Follow an object, as `Api.watch` does, by the API server's own reports of its changes."""
        name = seen["metadata"]["name"]

        async def lines(version: str, seconds: int) -> AsyncIterator[str]:
            selection = {"fieldSelector": f"metadata.name={name}", "resourceVersion": version}
            params = {**selection, "watch": "true", "timeoutSeconds": str(seconds)}
            session = self._session
            stream = session.http.stream("GET", resource.path(namespace), params=params, extensions=session.extensions)
            async with stream as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    yield line

        watching = Watch(lines, lambda: self.get(resource, name, namespace=namespace), seen, LOOK_SECONDS)
        following = asyncio.create_task(watching.follow())
        try:
            yield watching.look
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    @staticmethod
    async def _answer(session: _Session, request: Request) -> httpx.Response:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await session.http.request(
                    request.method,
                    request.path,
                    params=dict(request.params),
                    json=request.body,
                    headers={"Accept": request.accept, "Content-Type": request.content_type},
                    extensions=session.extensions,
                )
        except TimeoutError as error:
            msg = f"no answer within {REQUEST_SECONDS} seconds"
            raise TimeoutError(msg) from error

    async def _log_in_again(self, refused: _Session) -> _Session:
        """Return a session with credentials read after those of a session were refused, whoever has read them."""
        async with self._one_at_a_time:
            if self._session is refused:
                await self.log_in()
            return self._session

    @contextlib.asynccontextmanager
    async def open_port(
        self, namespace: str, pod: str, port: int, *, seconds: float
    ) -> AsyncIterator[httpx_ws.AsyncWebSocketSession]:
        """Open a port-forward to a pod, as `Api.open_port` does."""
        url = f"{PODS.path(namespace, pod, 'portforward')}?ports={port}"
        session = self._session
        try:
            async with self._open(session, url, seconds) as websocket:
                yield websocket
                return
        except httpx_ws.WebSocketUpgradeError as error:
            if error.response.status_code != httpx.codes.UNAUTHORIZED:
                raise
        # The credentials may have expired. How long a login takes is no matter of the pod's.
        try:
            session = await self._log_in_again(session)
        except CredentialsError as error:
            msg = f"The pod {namespace}/{pod} cannot be asked: {error}. Log in, and run again."
            raise ClusterError(msg) from error
        async with self._open(session, url, seconds) as websocket:
            yield websocket

    @staticmethod
    @contextlib.asynccontextmanager
    async def _open(session: _Session, url: str, seconds: float) -> AsyncIterator[httpx_ws.AsyncWebSocketSession]:
        connecting: contextlib.AbstractAsyncContextManager[httpx_ws.AsyncWebSocketSession]
        connecting = httpx_ws.aconnect_ws(url, session.http, extensions=session.extensions)
        async with asyncio.timeout(seconds), connecting as websocket:
            yield websocket


def _read(response: httpx.Response) -> Any:
    if response.request.method == "HEAD":
        return None
    if response.headers.get("content-type", "").startswith("text/plain"):
        return response.text
    with _without_collection():
        return response.json()


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python from looking for cycles meanwhile: an answer has none, and is read in less than half the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _is_lost(error: Exception) -> bool:
    """Whether a request failed because a connection ended, or could not be made, so that another may fare better."""
    lost = (httpx.NetworkError, httpx.RemoteProtocolError, ConnectionError, ssl.SSLError)
    return isinstance(error, lost) and not any(words in str(error) for words in _IN_VAIN)


def _refusal(what: str, done: str, response: httpx.Response) -> ClusterError:
    """Return the error for an answer of the API server that is one."""
    status, reason = response.status_code, _reason(response)
    if status == httpx.codes.NOT_FOUND:
        return NotFoundError(f"The {what} does not exist: {reason}.", reason)
    fix = "Try again once the API server is well" if status >= 500 else "Give these credentials the right to do so"
    kinds: dict[int, type[ClusterError]] = {
        httpx.codes.FORBIDDEN: ForbiddenError,
        httpx.codes.CONFLICT: ConflictError,
    }
    return kinds.get(status, ClusterError)(f"The {what} cannot be {done}: {reason}. {fix}.", reason)


def _reason(response: httpx.Response) -> str:
    """Return the API server's words for its refusal (Kubernetes' kind Status)."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
