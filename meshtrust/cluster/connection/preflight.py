"""Checks before a run changes anything: the right cluster answers, and the charts can be downloaded."""

import asyncio
import http.client
import urllib.error
import urllib.request

from meshtrust.cluster.api import ANSWER_SECONDS, NAMESPACES, Api, ClusterError
from meshtrust.cluster.connection.access import ClusterAccess

_MONITORING = "monitoring.coreos.com/v1"
_MONITORING_KINDS = {"PodMonitor", "PrometheusRule", "ServiceMonitor"}


class PreflightError(ClusterError):
    """A run that must not begin; the message names the thing, what is wrong with it and what to do."""


async def cluster_uid(api: Api) -> str:
    """Return what identifies a cluster: the UID of its kube-system namespace.

    Raises:
        ClusterError: The namespace cannot be read.
    """
    what = "namespace kube-system, whose UID identifies the cluster,"
    namespace = await api.get(NAMESPACES, "kube-system", what=what)
    return str(namespace["metadata"]["uid"])


def check_cluster_uid(uid: str, *, access: ClusterAccess, pinned: str, last: str) -> None:
    """Make sure that a stack meets the cluster it belongs to, however contexts were renamed or clusters rebuilt.

    Args:
        uid: UID of the cluster's kube-system namespace.
        access: The way that led there.
        pinned: The UID that the configuration names, or empty.
        last: The UID of the last deployment, or empty where there was none.

    Raises:
        PreflightError: The cluster is another one.
    """
    if pinned and uid != pinned:
        msg = (
            f'meshtrust:clusterUid is "{pinned}", and {access.title} leads to cluster {uid}. Have {access.key} lead to '
            "the right cluster, or correct meshtrust:clusterUid."
        )
        raise PreflightError(msg)
    if last and not pinned and uid != last:
        msg = (
            f"This stack was last deployed to cluster {last}, and {access.title} leads to cluster {uid}. Have "
            f"{access.key} lead to the right cluster. If the cluster was rebuilt, let the stack forget what is gone "
            f"and move it: pulumi refresh --yes && pulumi config set clusterUid {uid}"
        )
        raise PreflightError(msg)


async def check_chart_source(location: str, key: str) -> None:
    """Make sure that a remote source of charts answers; a local directory needs no check here.

    Args:
        location: A Helm repository (``https://``) or an OCI registry (``oci://``).
        key: The configuration key that names it.

    Raises:
        PreflightError: It does not answer, is no address, or a repository has no index.
    """
    is_registry = location.startswith("oci://")
    if is_registry:
        url = f"https://{location.removeprefix('oci://').split('/')[0]}/v2/"
    else:
        url = f"{location.rstrip('/')}/index.yaml"

    def answer() -> None:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):  # noqa: S310 settings admit these schemes only
                return
        except urllib.error.HTTPError:
            # A registry that asks for credentials is there.
            if not is_registry:
                raise

    try:
        await asyncio.to_thread(answer)
    # An address that is none, such as one with a space, is an error of another kind.
    except (OSError, http.client.HTTPException, ValueError) as error:
        msg = (
            f'{key} is "{location}", which does not answer at {url}: {error}. Check the address and the network, or '
            "name a mirror or a local directory of charts."
        )
        raise PreflightError(msg) from error


async def check_monitoring(api: Api, namespace: str) -> None:
    """Make sure that the cluster takes alerts and monitors, and has the namespace that they go to.

    Args:
        api: Client of the cluster.
        namespace: Namespace that has to be there; empty where this program makes it.

    Raises:
        PreflightError: The Prometheus Operator's definitions, or the namespace, are not there.
    """
    served = await api.discover(_MONITORING)
    kinds = {resource["kind"] for resource in (served or {}).get("resources") or []}
    if not kinds >= _MONITORING_KINDS:
        msg = (
            "meshtrust:observability.enabled is true, and the cluster does not know "
            f"{', '.join(sorted(_MONITORING_KINDS - kinds))} ({_MONITORING}). Install the Prometheus Operator, or its "
            "definitions alone; or set it to false."
        )
        raise PreflightError(msg)
    if namespace and await api.find(NAMESPACES, namespace) is None:
        msg = (
            f'meshtrust:observability.namespace is "{namespace}", which the cluster does not have. Name the namespace '
            "that your Prometheus looks into, or leave it empty."
        )
        raise PreflightError(msg)
