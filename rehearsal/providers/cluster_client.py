"""A Kubernetes API client for any kind of object, as Pulumi's provider needs it."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from meshtrust.cluster.connection.credentials import CredentialsError, read_credentials
from meshtrust.cluster.connection.kubeconfig import Context, KubeconfigError, is_content, parse_context, read_context
from rehearsal.providers.errors import ProviderError

Body = dict[str, Any]
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
    """One API server. Calls may come from several threads."""

    def __init__(self, kubeconfig: str, context: str) -> None:
        self.kubeconfig = kubeconfig
        self.context = context
        self._kinds: dict[tuple[str, str], Kind] = {}
        try:
            found = _read_context(kubeconfig, context)
            self.namespace = found.namespace
            self._credentials = asyncio.run(read_credentials(found))
        except (KubeconfigError, CredentialsError, OSError) as error:
            raise UnreachableError(_reason(error)) from error
        self._http = httpx.Client(
            base_url=self._credentials.server,
            headers=self._credentials.headers,
            verify=self._credentials.tls,
            proxy=self._credentials.proxy,
            timeout=_REQUEST_SECONDS,
        )
        try:
            self.request("GET", "/version")
        except ApiError as error:
            raise UnreachableError(str(error)) from error

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
        try:
            response = self._http.request(
                method,
                path,
                params=params,
                content=json.dumps(body).encode() if body is not None else None,
                headers={"Content-Type": content_type, "Accept": "application/json"},
                extensions={"sni_hostname": name} if (name := self._credentials.server_name) else {},
            )
        except (httpx.HTTPError, OSError) as error:
            raise self._unanswered(_reason(error)) from error
        text, code = response.text, response.status_code
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

    def _unanswered(self, reason: str) -> UnreachableError:
        named = (
            f'of context "{self.context}" ({self._credentials.server})' if self.context else self._credentials.server
        )
        return UnreachableError(f"the API server {named} does not answer: {reason}. Run again once it does")


def _read_context(kubeconfig: str, context: str) -> Context:
    """Return a context, by the path or the content of a kubeconfig; of the ambient one if it is empty."""
    if is_content(kubeconfig):
        return parse_context(kubeconfig, context, "the provider's context")
    path = Path(kubeconfig).expanduser()
    if kubeconfig and not path.is_file():
        raise ProviderError(f"the kubeconfig {path} does not exist")
    return read_context(context, kubeconfig, "the provider's context")


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
