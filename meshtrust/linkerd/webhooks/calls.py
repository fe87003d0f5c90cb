"""The API server's calls of the proxy injector: whether a pod that is made now gets its proxy."""

from collections.abc import Iterator, Mapping
from typing import Any

from meshtrust.cluster.admission import is_unanswered
from meshtrust.cluster.api import NAMESPACES, PODS, Api, ClusterError, ForbiddenError, UnreachableError
from meshtrust.cluster.backoff import Notify, silent, wait_until_met
from meshtrust.cluster.label_selector import match_labels, selects
from meshtrust.linkerd.injector import sample_pod
from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE
from meshtrust.names import PROXY, PROXY_INJECTOR

# Longer than the API server waits for a webhook of Linkerd's charts, which is ten seconds.
_ASK_SECONDS = 15.0
[_INJECTOR] = (webhook for webhook in CONTROL_PLANE if webhook.service == PROXY_INJECTOR)


async def wait_injects(api: Api, namespace: str, seconds: float, notify: Notify = silent) -> None:
    """Wait until the API server has the proxy injector give a sample pod its proxy; none is made.

    An injector whose pods are ready may be out of the API server's reach (linkerd.io, "Cluster Configuration", private
    clusters of GKE). By default pods then start without a proxy, and no error says so.

    Nothing is waited for where no namespace is the injector's, or something else refuses the sample pod: a right that
    is missing, or a policy of the cluster.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        seconds: How long to wait.
        notify: Gets a sentence of what is waited for.

    Raises:
        ClusterError: It does not in time; the message says why. Or the API server does not answer.
    """
    try:
        configuration = await api.get(_INJECTOR.resource, _INJECTOR.configuration)
        [webhook] = configuration["webhooks"]
        place = await _find_namespace(api, webhook)
    except ForbiddenError:
        return
    if not place:
        return

    async def look() -> str:
        try:
            judged = await api.dry_run(PODS, sample_pod(place), place, seconds=min(seconds, _ASK_SECONDS))
        except UnreachableError:
            raise
        except ClusterError as error:
            if is_unanswered(error) and webhook["name"] in error.server_message:
                return f"the proxy injector to answer the API server: {error.server_message}"
            return ""
        if PROXY in _containers(judged):
            return ""
        return f"the proxy injector to answer the API server, which gives a sample pod in namespace {place} no proxy"

    if waits := await wait_until_met(look, seconds, notify):
        effect = _INJECTOR.refuses if webhook.get("failurePolicy") == "Fail" else _INJECTOR.passes
        msg = (
            f"Linkerd is deployed, and after {seconds:.0f} seconds (meshtrust:helm.timeoutSeconds) this run still "
            f"waits for {waits}. Until then {effect}. Look at its pods: kubectl -n {namespace} get pods -l "
            f"{match_labels(dict(_INJECTOR.labels))}; if they are ready, let the API server reach them on port "
            f"{_INJECTOR.port} (firewalls, NetworkPolicies). Then run again."
        )
        raise ClusterError(msg)


async def _find_namespace(api: Api, webhook: Mapping[str, Any]) -> str:
    """Return a namespace whose pods the injector is asked about; empty if there is none."""
    pods, namespaces = webhook.get("objectSelector") or {}, webhook.get("namespaceSelector") or {}
    if not selects(pods, {}):
        return ""
    async for found in api.list(NAMESPACES):
        is_active = (found.get("status") or {}).get("phase") == "Active"
        if is_active and selects(namespaces, found["metadata"].get("labels") or {}):
            return str(found["metadata"]["name"])
    return ""


def _containers(pod: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind) or ():
            yield container["name"]
