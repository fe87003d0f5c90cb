"""The API server of a cluster: typed requests, whoever sends them, and the errors that they end with."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from meshtrust.pki.pem import PemError, read_bundle

if TYPE_CHECKING:
    from cryptography import x509
    from httpx_ws import AsyncWebSocketSession

# Environment variable that is "1" for a preview that asks no cluster.
OFFLINE = "MESHTRUST_OFFLINE"
# Seconds to wait for an answer before a server counts as unreachable.
ANSWER_SECONDS = 15
# Seconds that one request may take. By default the API server itself ends it after 60 (kube-apiserver
# --request-timeout) and reports that, which goes first; what it sends until then may be long, and the line slow.
REQUEST_SECONDS = 75
# Objects asked for at a time, as kubectl does it, so that neither side holds a large cluster in memory at once.
_PAGE = 500
_JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# RFC 7386. Custom resources know no strategic merge, so that it is the one kind of patch for all objects.
_MERGE_PATCH = "application/merge-patch+json"

# Seconds between two looks at an object whose changes are not reported.
LOOK_SECONDS = 0.2

# An object as the API server has it.
Object = dict[str, Any]
# A look at an object, which takes so many seconds at most (`Api.watch`).
Look = Callable[[float], Awaitable[Object]]


class ClusterError(Exception):
    """A cluster that cannot be asked, or does not hold what it must; the message says what, and what to do.

    Attributes:
        server_message: The API server's own words; empty if it was not the one to refuse.
    """

    def __init__(self, message: str, server_message: str = "") -> None:
        super().__init__(message)
        self.server_message = server_message


class NotFoundError(ClusterError):
    """The object, or its kind, does not exist."""


class ForbiddenError(ClusterError):
    """The credentials lack the right to the request."""


class UnreachableError(ClusterError):
    """The API server gave no answer, however often a request was sent that may be sent again."""


class ConflictError(ClusterError):
    """The object was changed since it was read."""


class MalformedError(ClusterError):
    """An object that was read holds something else than it must."""


@dataclass(frozen=True)
class Resource:
    """A kind of objects, as its URLs and messages name it.

    Attributes:
        version: Its API version, such as ``v1`` or ``apps/v1``.
        plural: Its name in URLs.
        kind: The name of one object's kind in messages.
    """

    version: str
    plural: str
    kind: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of a collection, an object or a subresource; of all namespaces without a namespace."""
        base = "/apis" if "/" in self.version else "/api"
        scope = f"/namespaces/{namespace}" if namespace else ""
        ends = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{base}/{self.version}{scope}/{self.plural}{ends}"

    def label(self, namespace: str, name: str) -> str:
        """Return an object's name for a message."""
        return f"{self.kind} {namespace}/{name}" if namespace else f"{self.kind} {name}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to an API server.

    Attributes:
        method: Its method.
        path: Its path.
        what: The object that it is about, as a sentence names it.
        params: Its query.
        body: Its body, sent as JSON; None for none.
        accept: The media type of the answer.
        content_type: The media type of the body.
        repeatable: Whether it comes to the same when the API server gets it twice, so that it is sent again after its
            connection was lost: all that HTTP itself calls idempotent (RFC 9110, section 9.2.2), and a merge patch,
            which sets members to a value.
    """

    method: Literal["GET", "HEAD", "POST", "PATCH", "DELETE"]
    path: str
    what: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    accept: str = _JSON
    content_type: str = _JSON
    repeatable: bool = True


class Api(ABC):
    """An API server that answers.

    Every method raises:
        NotFoundError: There is no such object, or no such kind.
        ForbiddenError: These credentials lack the right.
        ConflictError: The object is not the one that the request names by its resourceVersion or UID.
        UnreachableError: There was no answer.
        ClusterError: The API server refuses for another reason.
    """

    @abstractmethod
    async def send(self, request: Request) -> Any:
        """Return the answer to a request: an object, a text if the API server sends plain text, or None to a HEAD."""

    @abstractmethod
    def open_port(
        self, namespace: str, pod: str, port: int, *, seconds: float
    ) -> "AbstractAsyncContextManager[AsyncWebSocketSession]":
        """Open a port-forward to a pod, for so many seconds from then on.

        Raises:
            TimeoutError: The seconds are over.
            ClusterError: The API server cannot be connected to.
        """

    async def get(self, resource: Resource, name: str, *, namespace: str = "", what: str = "") -> Object:
        """Return an object; `what` names it in messages, if its kind and name are not enough."""
        path, what = resource.path(namespace, name), what or resource.label(namespace, name)
        found: Object = await self.send(Request(method="GET", path=path, what=what))
        return found

    @asynccontextmanager
    async def watch(self, resource: Resource, seen: Object, *, namespace: str = "") -> AsyncIterator[Look]:
        """Follow an object from a state of it on, as long as the context is open.

        Here it is asked for again and again; a client overrides this if its server can report changes.

        Args:
            resource: Its kind.
            seen: The object as it was read last.
            namespace: Its namespace.

        Returns:
            A function that returns the object once it may have changed, or as it is after so many seconds.
        """
        name = seen["metadata"]["name"]

        async def look(seconds: float) -> Object:
            await asyncio.sleep(min(seconds, LOOK_SECONDS))
            return await self.get(resource, name, namespace=namespace)

        yield look

    async def find(self, resource: Resource, name: str, *, namespace: str = "") -> Object | None:
        """Return an object, None if it does not exist."""
        try:
            return await self.get(resource, name, namespace=namespace)
        except NotFoundError:
            return None

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        metadata_only: bool = False,
        what: str = "",
    ) -> AsyncIterator[Object]:
        """Yield the objects of a namespace, or of all of them, page by page.

        Args:
            resource: Their kind.
            namespace: Their namespace; empty for all, and for what is in none.
            labels: Label selector; empty for all.
            fields: Field selector; empty for all.
            metadata_only: Whether to ask for their metadata alone.
            what: The list's name in messages; by default that of the kind.
        """
        selection = {"labelSelector": labels, "fieldSelector": fields, "limit": str(_PAGE)}
        params = {key: value for key, value in selection.items() if value}
        while True:
            page = await self.send(
                Request(
                    method="GET",
                    path=resource.path(namespace),
                    what=what or f"list of {resource.kind}s{f' of namespace {namespace}' if namespace else ''}",
                    params=dict(params),
                    accept=METADATA_ONLY if metadata_only else _JSON,
                )
            )
            for item in page["items"] or []:
                yield item
            following = page["metadata"].get("continue")
            if not following:
                return
            params["continue"] = following

    async def list_custom(
        self, group: str, plural: str, kind: str, *, versions: Mapping[str, str] | None = None
    ) -> Sequence[Object] | None:
        """Return all objects of a kind that a cluster may lack, None if it does.

        Args:
            group: The kind's API group.
            plural: The kind's name in paths.
            kind: The kind.
            versions: The API groups that the cluster serves, as `preferred_versions` returns them, which is asked
                unless they are given: without the kind, RBAC would refuse the list as it refuses what is there.
        """
        version = (await self.preferred_versions() if versions is None else versions).get(group)
        if version is None:
            return None
        try:
            return [item async for item in self.list(Resource(version, plural, kind))]
        except NotFoundError:
            # The group has other kinds.
            return None

    async def preferred_versions(self) -> Mapping[str, str]:
        """Return the version that the server prefers of each API group that it serves; every account may read that."""
        found = await self.send(Request(method="GET", path="/apis", what="list of API groups"))
        return {group["name"]: group["preferredVersion"]["groupVersion"] for group in found.get("groups") or ()}

    async def discover(self, name: str) -> Object | None:
        """Return the description of an API group, or of one of its versions; None if it is not served."""
        try:
            found: Object = await self.send(Request(method="GET", path=f"/apis/{name}", what=f"API {name}"))
        except NotFoundError:
            return None
        return found

    async def read_log(self, namespace: str, pod: str, container: str, *, lines: int) -> str:
        """Return the last lines of the log of a container's previous run."""
        params = {"container": container, "previous": "true", "tailLines": str(lines)}
        path = PODS.path(namespace, pod, "log")
        return str(
            await self.send(Request(method="GET", path=path, what=f"log of pod {namespace}/{pod}", params=params))
        )

    async def create(self, resource: Resource, item: Mapping[str, Any], *, namespace: str = "") -> Object:
        """Create an object and return it; one that is there already is a ConflictError."""
        what = resource.label(namespace, item["metadata"]["name"])
        path = resource.path(namespace)
        created: Object = await self.send(Request(method="POST", path=path, what=what, body=item, repeatable=False))
        return created

    async def patch(
        self, resource: Resource, name: str, change: Mapping[str, Any], *, namespace: str = "", subresource: str = ""
    ) -> Object:
        """Merge a change into an object, or into its status, and return it (RFC 7386).

        A list is replaced whole: a change that has one must name the resourceVersion that it was made from.
        """
        changed: Object = await self.send(
            Request(
                method="PATCH",
                path=resource.path(namespace, name, subresource),
                what=f"{subresource} of {resource.label(namespace, name)}".removeprefix(" of "),
                body=change,
                content_type=_MERGE_PATCH,
            )
        )
        return changed

    async def dry_run(self, resource: Resource, item: Mapping[str, Any], namespace: str, *, seconds: float) -> Object:
        """Have the API server, and the webhooks that it asks, judge the creation of an object, and create nothing.

        Returns the object as it would be.

        Args:
            resource: The object's kind.
            item: The object.
            namespace: Its namespace.
            seconds: How long the API server may take.
        """
        params = {"dryRun": "All", "timeout": f"{seconds:.1f}s"}
        what = f"dry run of {resource.label(namespace, item['metadata']['name'])}"
        path = resource.path(namespace)
        judged: Object = await self.send(Request(method="POST", path=path, what=what, params=params, body=item))
        return judged

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Evict the pod that has a UID.

        A StatefulSet's next pod has the same name, and is not meant by a request that arrives twice.
        """
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = PODS.path(namespace, name, "eviction")
        await self.send(Request(method="POST", path=path, what=PODS.label(namespace, name), body=eviction))

    async def delete(self, resource: Resource, name: str, *, namespace: str = "", what: str = "") -> None:
        """Delete an object."""
        path, what = resource.path(namespace, name), what or resource.label(namespace, name)
        await self.send(Request(method="DELETE", path=path, what=what))

    async def delete_all(self, resource: Resource, *, namespace: str, labels: str, what: str) -> None:
        """Delete the objects of a namespace that a label selector matches."""
        path, params = resource.path(namespace), {"labelSelector": labels}
        await self.send(Request(method="DELETE", path=path, what=what, params=params))


PODS = Resource("v1", "pods", "pod")
NAMESPACES = Resource("v1", "namespaces", "namespace")
SECRETS = Resource("v1", "secrets", "Secret")
CONFIGMAPS = Resource("v1", "configmaps", "ConfigMap")
EVENTS = Resource("v1", "events", "event")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
STATEFULSETS = Resource("apps/v1", "statefulsets", "StatefulSet")
DAEMONSETS = Resource("apps/v1", "daemonsets", "DaemonSet")
REPLICASETS = Resource("apps/v1", "replicasets", "ReplicaSet")
REPLICATION_CONTROLLERS = Resource("v1", "replicationcontrollers", "ReplicationController")
JOBS = Resource("batch/v1", "jobs", "Job")
CRONJOBS = Resource("batch/v1", "cronjobs", "CronJob")
DISRUPTION_BUDGETS = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
DEFINITIONS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "definition")


def certificates_of(text: str, where: str) -> "tuple[x509.Certificate, ...]":
    """Return the certificates of a text that a cluster holds; none if it is empty.

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
