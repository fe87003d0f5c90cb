"""A Kubernetes API client for any kind of object, on the authentication that kr8s takes from a kubeconfig."""

import asyncio
import json
import threading
import warnings
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import kr8s.asyncio
import yaml

from meshtrust.cluster.connection.credentials import open_api
from rehearsal.providers.errors import ProviderError

Body = dict[str, Any]
_Result = TypeVar("_Result")
_REQUEST_SECONDS = 60.0


class UnreachableError(ProviderError):
    """The API server does not answer, or the kubeconfig does not lead to one."""


class ApiError(ProviderError):
    """The API server refused a request, in its own words."""

    def __init__(self, code: int, status: Body) -> None:
        super().__init__(str(status.get("message") or f"the API server answered with status {code}"))
        self.code = code
        self.reason = str(status.get("reason") or "")
        self.details: Body = status.get("details") or {}


@dataclass(frozen=True)
class Kind:
    """URL of the objects of one kind: the prefix of its group and version, and its plural."""

    prefix: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        """The URL path of the objects of a namespace, or of one object."""
        scope = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{self.prefix}{scope}/{self.plural}" + (f"/{name}" if name else "")


class ClusterClient:
    """One API server. Calls may come from several threads; they run on one event loop of the client's own."""

    def __init__(self, kubeconfig: str, context: str) -> None:
        self.kubeconfig = kubeconfig
        self.context = context
        self.namespace = "default"
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="kubernetes-api").start()
        self._api = self._run(self._connect())

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        params: dict[str, str] | None = None,
    ) -> Body:
        """Send one request and return the object of the answer.

        Raises:
            ApiError: the server refused it.
            UnreachableError: there was no answer.
        """
        return self._run(self._send(method, path, body, content_type, params or {}))

    def kind(self, api_version: str, kind: str) -> Kind | None:
        """Return the URL of the objects of a kind; None if the server does not know it (yet).

        Raises:
            UnreachableError: there was no answer.
        """
        key = (api_version, kind)
        if key not in self._kinds:
            prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            try:
                resources = self.request("GET", prefix).get("resources") or []
            except ApiError as error:
                if error.code == 404:
                    return None
                raise
            for item in resources:
                if "/" not in item["name"]:
                    self._kinds[api_version, item["kind"]] = Kind(prefix, item["name"], item["namespaced"])
        return self._kinds.get(key)

    async def _connect(self) -> kr8s.asyncio.Api:
        # It warns about every version that is newer than itself.
        warnings.filterwarnings("ignore", message="Kubernetes version .* is not supported")
        try:
            source = _kubeconfig_source(self.kubeconfig)
            api = await open_api(source, self.context or None)
        except Exception as error:
            # kr8s raises whatever goes wrong on the way: files, contexts, credentials, the network.
            raise UnreachableError(_reason(error)) from error
        self.namespace = api.auth.namespace or "default"
        api.timeout = _REQUEST_SECONDS
        return api

    async def _send(self, method: str, path: str, body: object, content_type: str, params: dict[str, str]) -> Body:
        parent, _, name = path.rpartition("/")
        try:
            async with self._api.call_api(
                method,
                version="",
                # kr8s joins the two, and takes an empty one for a missing one.
                base=parent or path,
                url=name if parent else "",
                raise_for_status=False,
                params=params,
                content=json.dumps(body).encode() if body is not None else None,
                headers={"Content-Type": content_type, "Accept": "application/json"},
            ) as response:
                text, code = response.text, response.status_code
        except (httpx.HTTPError, OSError) as error:
            raise self._unanswered(_reason(error)) from error
        try:
            answer: Body = json.loads(text or "{}")
        except ValueError as error:
            if code < 400:
                raise self._unanswered("the server that answers is not a Kubernetes API server") from error
            # For a path that it does not know at all, such as that of a group without CRDs, it answers with plain text.
            answer = {"message": text.strip()}
        if code >= 400:
            raise ApiError(code, answer)
        return answer

    def _unanswered(self, reason: str) -> UnreachableError:
        named = f'of context "{self.context}" ({self._api.auth.server})' if self.context else self._api.auth.server
        return UnreachableError(f"the API server {named} does not answer: {reason}. Run again once it does")

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _kubeconfig_source(kubeconfig: str) -> str | Body | None:
    """A path as it is, or the content of a kubeconfig as an object; None is the ambient one."""
    if not kubeconfig:
        return None
    if "\n" not in kubeconfig and not kubeconfig.lstrip().startswith("{"):
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise ProviderError(f"the kubeconfig {path} does not exist")
        return str(path)
    return parse_kubeconfig(kubeconfig)


def parse_kubeconfig(kubeconfig: str) -> Body:
    """The kubeconfig that a provider is configured with, by path or by content.

    Raises:
        ProviderError: it is not one.
    """
    try:
        if "\n" in kubeconfig or kubeconfig.lstrip().startswith("{"):
            data = yaml.safe_load(kubeconfig)
        else:
            data = yaml.safe_load(Path(kubeconfig).expanduser().read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ProviderError(f"failed to parse kubeconfig: {error}") from error
    if not isinstance(data, dict):
        raise ProviderError("failed to parse kubeconfig: it is not an object")
    return data


def _reason(error: BaseException) -> str:
    message = str(error) or f"the connection broke off ({type(error).__name__})"
    cause = error.__cause__
    return message if cause is None or str(cause) in message else f"{message}: {cause}"
