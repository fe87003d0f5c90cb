"""A cluster's API server, whoever speaks with it: what it answers, and what may be wrong with that."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from meshtrust.pki.pem import PemError, read_bundle

if TYPE_CHECKING:
    from cryptography import x509
    from httpx_ws import AsyncWebSocketSession

# Environment variable that is "1" for a preview that asks no cluster.
OFFLINE = "MESHTRUST_OFFLINE"
# Seconds to wait for an answer before a server counts as unreachable.
ANSWER_SECONDS = 15
# Seconds that one request may take. By default the API server itself ends it after 60 (kube-apiserver
# --request-timeout) and says so, which goes before; what it sends until then may be long, and the line slow.
REQUEST_SECONDS = 75
# Objects asked for at a time, as kubectl does it, so that neither side holds a large cluster in memory at once.
_PAGE = 500
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class ClusterError(Exception):
    """A cluster that cannot be asked, or does not hold what it must; the message says what, and what to do.

    Attributes:
        said: What the API server said of it; empty where it was not the one to refuse.
    """

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


class NotFoundError(ClusterError):
    """What was asked for is not there."""


class ForbiddenError(ClusterError):
    """The credentials lack the right to what was asked for."""


class UnreachableError(ClusterError):
    """The API server gave no answer, however often a request was sent that may be sent again."""


class ConflictError(ClusterError):
    """The object was changed since it was read."""


class MalformedError(ClusterError):
    """An object that was read holds something else than it must."""


class Api(Protocol):
    """An API server that answers: to this process (`cluster_client`), or by one of its own (`cluster_process`)."""

    async def call(self, method: str, what: str, *, repeatable: bool | None = None, **request: Any) -> Any:
        """Return what the API server answers to a request of any method; otherwise as `read`.

        Args:
            method: The request's method.
            what: What is asked for, as a sentence names it.
            repeatable: Whether the request comes to the same when the API server gets it twice, so that it is sent
                again after its connection was lost. By default only those are that HTTP itself calls idempotent (RFC
                9110, section 9.2.2) and a PATCH, of which this project makes only such as set members to a value.
            request: The request, as `read` takes it.

        Raises:
            ConflictError: The object is not the one that the request names by its resourceVersion or UID.
            UnreachableError: There was no answer.
        """

    def open_websocket(self, *, seconds: float, **request: Any) -> "AbstractAsyncContextManager[AsyncWebSocketSession]":
        """Open a websocket, for so many seconds once the API server is connected to; the request is what `read` takes.

        Raises:
            TimeoutError: The seconds are over.
            ClusterError: The API server cannot be connected to.
        """


async def read(api: Api, what: str, **request: Any) -> Any:
    """Return what the API server answers.

    Args:
        api: Client of the cluster.
        what: What is asked for, as a sentence names it.
        request: The request: namespace, url, params, headers, and the version of the API where it is not v1.

    Raises:
        NotFoundError: There is no such object.
        ForbiddenError: These credentials lack the right.
        UnreachableError: The server has stopped answering.
        ClusterError: The server refuses for another reason.
    """
    return await api.call("GET", what, **request)


async def read_items(api: Api, what: str, **request: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the items of a list, page by page.

    Args:
        api: Client of the cluster.
        what: What is asked for, as a sentence names it.
        request: The request, as `read` takes it.

    Raises:
        ClusterError: As `read` raises it.
    """
    params = {**request.pop("params", {}), "limit": str(_PAGE)}
    while True:
        page = await read(api, what, params=params, **request)
        for item in page["items"] or []:
            yield item
        following = page["metadata"].get("continue")
        if not following:
            return
        params["continue"] = following


async def read_optional(api: Api, what: str, **request: Any) -> dict[str, Any] | None:
    """Return an object, or nothing where there is none.

    Raises:
        ClusterError: As `read` raises it.
    """
    try:
        found: dict[str, Any] = await read(api, what, **request)
    except NotFoundError:
        return None
    return found


async def read_custom(api: Api, what: str, group: str, plural: str) -> list[dict[str, Any]] | None:
    """Return all objects of a kind that a cluster may not have, or None where it does not.

    Which version is served is asked first, of what every account may read: without the kind, RBAC would refuse the list
    as it refuses what is there.

    Args:
        api: Client of the cluster.
        what: What is asked for, as a sentence names it.
        group: The group of the kind.
        plural: Its name in the API.

    Raises:
        ClusterError: They are there, and cannot be read.
    """
    try:
        found = await read(api, f"API group {group}", base="/apis", version="", url=group)
        version = found["preferredVersion"]["groupVersion"]
        return [item async for item in read_items(api, what, version=version, url=plural)]
    except NotFoundError:
        # There is no such group, or it has other kinds.
        return None


def with_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a request for the objects that have all of these labels."""
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}


def certificates_of(text: str, where: str) -> "tuple[x509.Certificate, ...]":
    """Return the certificates of a text that a cluster holds; none where there is no text.

    Args:
        text: PEM.
        where: The object and the key, as a sentence names them.

    Raises:
        MalformedError: It is something else.
    """
    if not text.strip():
        return ()
    try:
        return tuple(read_bundle(text))
    except PemError as error:
        msg = f"{where} cannot be understood: {error}. Put it right, or deploy the stack again."
        raise MalformedError(msg) from error
