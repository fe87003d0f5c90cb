"""The roots that Linkerd's proxy injector would give to a new pod, as each of its replicas reports them."""

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any

from meshtrust.cluster.api import Api
from meshtrust.cluster.connection.port_forward import PodUnreachableError, post_json
from meshtrust.linkerd.evidence import Mesh
from meshtrust.linkerd.pods import MeshedPod, ProxyTrust, read_trust
from meshtrust.names import INJECT_ANNOTATION, PROXY, WEBHOOK_PORT

_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 a path


async def read_injections(api: Api, mesh: Mesh) -> dict[MeshedPod, ProxyTrust]:
    """Return, for each replica of the injector, what the proxy of a pod would trust that is made now.

    Each is asked about a sample pod, as the API server asks it, and nothing is made. Of its own proxy nothing follows:
    it reads the bundle from a file at each request, which its node brings up to date within a minute or two (linkerd2
    ``controller/proxy-injector/webhook.go``).

    Args:
        api: Client of the cluster.
        mesh: The installation.
    """

    async def ask(pod: MeshedPod) -> ProxyTrust:
        try:
            answer = await post_json(api, pod.namespace, pod.name, WEBHOOK_PORT, _review(mesh.namespace))
        except PodUnreachableError as error:
            if pod.program_started is None and _is_mounted_new(mesh, pod):
                return ProxyTrust(state="waiting")
            return ProxyTrust(state="unseen", reason=str(error))
        return _read_answer(answer)

    pods = mesh.injector_pods
    return dict(zip(pods, await asyncio.gather(*map(ask, pods)), strict=True))


def _is_mounted_new(mesh: Mesh, pod: MeshedPod) -> bool:
    """Whether a pod was made after the bundle last changed, so that its node mounts what the bundle is now.

    A volume is written before the first container of its pod starts, and brought up to date only from time to time
    (Kubernetes, ConfigMaps, Mounted ConfigMaps are updated automatically).
    """
    return mesh.bundle_changed is not None and pod.created >= mesh.bundle_changed


def sample_pod(namespace: str) -> dict[str, Any]:
    """Return a pod that asks for a proxy.

    The injector wants a pod with the token that the API server mounts into each (linkerd2 ``pkg/inject/report.go``).
    """
    token = {"name": "token", "mountPath": _TOKEN, "readOnly": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "meshtrust-sample",
            "namespace": namespace,
            "annotations": {INJECT_ANNOTATION: "enabled"},
        },
        "spec": {
            "serviceAccountName": "default",
            "containers": [{"name": "sample", "image": "sample", "volumeMounts": [token]}],
            "volumes": [{"name": "token", "projected": {"sources": []}}],
        },
    }


def _review(namespace: str) -> dict[str, Any]:
    """Return a question about a pod that asks for a proxy (Kubernetes, AdmissionReview)."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "meshtrust-sample",
            "kind": kind,
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "name": "meshtrust-sample",
            "operation": "CREATE",
            "userInfo": {"username": "meshtrust"},
            "dryRun": True,
            "object": sample_pod(namespace),
        },
    }


def _read_answer(answer: Any) -> ProxyTrust:
    response = (answer.get("response") if isinstance(answer, Mapping) else None) or {}
    if not response.get("allowed"):
        reason = (response.get("status") or {}).get("message") or "it gives no reason"
        return ProxyTrust(state="unseen", reason=f"it refuses a sample pod: {reason}")
    try:
        changes = json.loads(base64.b64decode(response.get("patch") or "W10="))
    except (binascii.Error, ValueError):
        return ProxyTrust(state="unseen", reason="its answer about a sample pod cannot be understood")
    for container in _containers(changes):
        return read_trust(container)[0]
    return ProxyTrust(state="unseen", reason="it gives a sample pod no proxy")


def _containers(changes: Any) -> Iterable[Mapping[str, Any]]:
    """Yield the containers of a proxy that a JSON patch (RFC 6902) adds, alone or in a list."""
    for change in changes if isinstance(changes, list) else ():
        value = change.get("value") if isinstance(change, Mapping) else None
        for added in value if isinstance(value, list) else (value,):
            if isinstance(added, Mapping) and added.get("name") == PROXY:
                yield added
