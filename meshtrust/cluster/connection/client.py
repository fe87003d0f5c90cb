"""The client of a cluster's API server: connecting to the one that was named, and asking it from this process."""

import asyncio
import gc
import importlib
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from meshtrust.cluster.api import (
    ANSWER_SECONDS,
    REQUEST_SECONDS,
    Api,
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnreachableError,
)
from meshtrust.cluster.backoff import pauses
from meshtrust.cluster.connection.kubeconfig import KubeconfigError, read_context

if TYPE_CHECKING:
    import httpx
    import kr8s.asyncio
    from httpx_ws import AsyncWebSocketSession

# What kr8s raises of credentials that it does not get (its `_auth.py`): a RuntimeError where the kubeconfig's command
# for them fails, such as one that wants a new login; the others where that, or the kubeconfig, has something else.
_WITHOUT_CREDENTIALS = (RuntimeError, ValueError, KeyError)
# More than an answer takes, and little enough that a root made here has begun before anyone is shown it.
_CLOCK_TOLERANCE = timedelta(minutes=1)
# What OpenSSL says of a certificate at another time than its own (openssl ``crypto/x509/x509_txt.c``). A login that has
# ended says that it expired, too.
_WRONG_TIME = ("certificate is not yet valid", "certificate has expired")
# Pause before a first connection that was lost is tried again.
_CONNECT_PAUSE_SECONDS = 0.1
# Methods of requests that may be sent twice: RFC 9110, section 9.2.2, and PATCH as this project uses it.
_REPEATABLE = frozenset({"GET", "PUT", "DELETE", "PATCH"})
# No answer to these comes another time. A certificate that is not trusted ends a connection as a lost one does.
_IN_VAIN = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed")
# How a connection is refused that nobody listens for, by the platform's words for ECONNREFUSED and for a name that is
# not known: before the first answer it is an address that is wrong, after that a server that starts again.
_NOBODY_THERE = ("Connection refused", "All connection attempts failed", "not known", "name resolution")


async def connect(context: str, kubeconfig: str, named_by: str = "meshtrust:context") -> Api:
    """Return a client of the cluster that a context names.

    Raises:
        ClusterError: The context does not exist, or the API server does not answer or refuses the credentials.
    """
    try:
        config = read_context(context, kubeconfig, named_by)
    except KubeconfigError as error:
        raise ClusterError(str(error)) from None
    # The client is heavy to import. An offline preview never needs it, and what else there is to do goes on meanwhile.
    await asyncio.to_thread(importlib.import_module, "meshtrust.cluster.connection.credentials")
    import httpx  # noqa: PLC0415
    import kr8s  # noqa: PLC0415

    from meshtrust.cluster.connection.credentials import open_api  # noqa: PLC0415

    # It says so of every version that is newer than itself.
    warnings.filterwarnings("ignore", message="Kubernetes version .* is not supported")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                try:
                    # No service account: a run inside a cluster must not take that one for the one that was named.
                    api = await open_api(config, context, service_account="")
                    await check_clock(api, context)
                    return _ClusterClient(api)
                except (httpx.TransportError, OSError) as error:
                    if not _is_lost(error) or any(words in str(error) for words in _NOBODY_THERE):
                        raise
                    await asyncio.sleep(_CONNECT_PAUSE_SECONDS)
    except (httpx.HTTPError, OSError, kr8s.ServerError, kr8s.APITimeoutError, *_WITHOUT_CREDENTIALS) as error:
        reason = str(error).strip() or f"no answer within {ANSWER_SECONDS} seconds"
        by_time = " Is this machine's clock right?" if any(told in reason for told in _WRONG_TIME) else ""
        msg = (
            f'The API server of context "{context}" cannot be reached: {reason}.{by_time} Check that the cluster runs, '
            "that this machine may reach it, and that its credentials are valid: "
            f"kubectl --context {context} version"
        )
        raise ClusterError(msg) from error


async def check_clock(api: "kr8s.asyncio.Api", context: str) -> None:
    """Make sure that this machine and the API server agree on the time.

    Roots begin and end by this machine's clock, and what has ended may be replaced without a look at who trusts it.

    Raises:
        ClusterError: They do not.
    """
    async with api.call_api("GET", base="/version", version="", url="", raise_for_status=False) as response:
        told = response.headers.get("date")
    if not told:
        return
    apart = datetime.now(UTC) - parsedate_to_datetime(told)
    if abs(apart) > _CLOCK_TOLERANCE:
        minutes = round(abs(apart).total_seconds() / 60)
        direction = "ahead of" if apart > timedelta(0) else "behind"
        msg = (
            f'This machine\'s clock is {minutes} minutes {direction} that of the API server of context "{context}". '
            "Certificates would begin and end at the wrong time, and be judged by it. Set the clock, and run again."
        )
        raise ClusterError(msg)


class _ClusterClient:
    """An `Api` of this process, by kr8s."""

    def __init__(self, api: "kr8s.asyncio.Api") -> None:
        self._api = api

    async def call(self, method: str, what: str, *, repeatable: bool | None = None, **request: Any) -> Any:
        """Return what the API server answers, as `Api.call` does."""
        import httpx  # noqa: PLC0415
        import kr8s  # noqa: PLC0415

        done = "read" if method == "GET" else "changed"
        may_repeat = method in _REPEATABLE if repeatable is None else repeatable
        try:
            response = await self._persistent_answer(method, request, may_repeat=may_repeat)
            if response.status_code == httpx.codes.UNAUTHORIZED:
                # They may have expired. Not so where a right is missing: requests at the same time would meet a client
                # that has no address meanwhile, and tell of that.
                response = await self._answer(method, request, read_credentials_anew=True)
            if response.is_error:
                raise kr8s.ServerError(_reason(response), response=response)
            is_text = response.headers.get("content-type", "").startswith("text/plain")
            if is_text:
                return response.text
            with _without_collection():
                return response.json()
        except kr8s.ServerError as error:
            status = error.response.status_code if error.response is not None else 500
            if status == httpx.codes.NOT_FOUND:
                msg = f"The {what} does not exist: {error}."
                raise NotFoundError(msg, str(error)) from error
            fix = (
                "Try again once the API server is well"
                if status >= 500
                else "Give these credentials the right to do so"
            )
            msg = f"The {what} cannot be {done}: {error}. {fix}."
            kinds: dict[int, type[ClusterError]] = {
                httpx.codes.FORBIDDEN: ForbiddenError,
                httpx.codes.CONFLICT: ConflictError,
            }
            raise kinds.get(status, ClusterError)(msg, str(error)) from error
        except (httpx.HTTPError, kr8s.APITimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            msg = f"The {what} cannot be {done}: the API server does not answer ({reason}). Run again once it does."
            raise UnreachableError(msg) from error
        except _WITHOUT_CREDENTIALS as error:
            msg = (
                f"The {what} cannot be {done}: {str(error).strip()}. Check that the credentials of the kubeconfig are "
                "valid still, and that it is the API server which answers; then run again."
            )
            raise ClusterError(msg) from error

    async def _persistent_answer(self, method: str, request: dict[str, Any], *, may_repeat: bool) -> "httpx.Response":
        """Return the answer to a request, which is sent again for a while if its connection is lost.

        API servers, and what stands before them, end connections that are kept, and restart. What counts is the time
        since the first attempt: a request that is given up after `ANSWER_SECONDS` has met a server that is away.
        """
        begun = time.monotonic()
        for pause in pauses():
            is_late = time.monotonic() - begun > ANSWER_SECONDS
            try:
                response = await self._answer(method, request, read_credentials_anew=False)
            except Exception as error:
                if not may_repeat or not _is_lost(error) or is_late:
                    raise
            else:
                # An API server that ends, or has too much to do, asks for that (apiserver ``pkg/server/filters``). It
                # asks so of an eviction, too, which is no GET, and whose caller decides.
                if method != "GET" or "retry-after" not in response.headers or is_late:
                    return response
            await asyncio.sleep(pause)
        raise AssertionError

    async def _answer(self, method: str, request: dict[str, Any], *, read_credentials_anew: bool) -> "httpx.Response":
        # What raises in it is what makes kr8s read the credentials anew.
        parameters = {"version": "v1", **request, "raise_for_status": read_credentials_anew}
        try:
            # httpx has no limit of its own here: kr8s takes it away.
            async with asyncio.timeout(REQUEST_SECONDS), self._api.call_api(method, **parameters) as response:
                return response
        except TimeoutError as error:
            msg = f"no answer within {REQUEST_SECONDS} seconds"
            raise TimeoutError(msg) from error

    @asynccontextmanager
    async def open_websocket(self, *, seconds: float, **request: Any) -> "AsyncIterator[AsyncWebSocketSession]":
        """Open a websocket, as `Api.open_websocket` does."""
        async with asyncio.timeout(seconds), self._api.open_websocket(**request) as websocket:
            yield websocket


@contextmanager
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
    import httpx  # noqa: PLC0415

    lost = (httpx.NetworkError, httpx.RemoteProtocolError, ConnectionError, ssl.SSLError)
    return isinstance(error, lost) and not any(words in str(error) for words in _IN_VAIN)


def _reason(response: "httpx.Response") -> str:
    """Return what the API server says of its refusal (Kubernetes' kind Status)."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
