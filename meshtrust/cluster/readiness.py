"""Deployments and their pods: whether they are new and ready, and what keeps those that are not."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Any

from meshtrust.cluster.api import DEPLOYMENTS, EVENTS, PODS, Api, ClusterError
from meshtrust.cluster.backoff import Notify, wait_until_met
from meshtrust.cluster.helm_release import owner_of
from meshtrust.cluster.label_selector import format_selector, match_labels

# The reason that is reported for a workload that is to have no pods.
SCALED_DOWN = "it is scaled to 0 replicas"
# A message names so many pods of a Deployment; kubectl lists all.
_NAMED = 3
# Containers wait so while nothing is wrong.
_STARTING = ("Completed", "PodInitializing", "ContainerCreating")
# Seconds between two looks at what keeps pods.
_EXPLAIN_SECONDS = 2.0
# Lines of a container's log that show why it ended.
_LOG_LINES = 3


async def wait_ready(api: Api, namespace: str, release: str, seconds: float, notify: Notify) -> None:
    """Wait until every Deployment of a Helm release has as many new pods ready as it must never have fewer of.

    That is Helm's own rule (helm v3 ``pkg/kube/ready.go``, deploymentReady): in high availability a node may be down.
    But Helm looks every two seconds (``pkg/kube/wait.go``), and says of what does not get ready no more than that a
    deadline was exceeded.

    Args:
        api: Client of the cluster.
        namespace: Namespace of the release.
        release: Its name.
        seconds: How long to wait.
        notify: Gets a sentence of what is waited for, with what keeps it, each time that it changes.

    Raises:
        ClusterError: One does not get ready in time, or cannot because its roll-out is paused; the message says why.
            Or the API server does not answer.
    """
    missing: list[dict[str, Any]] = []
    reasons: dict[str, str] = {}
    begun, explained = time.monotonic(), 0.0

    async def look() -> str:
        nonlocal missing, explained, reasons
        missing = [each for each in await _deployments(api, namespace, release) if _ready(each) < _needed(each)]
        if any(each["spec"].get("paused") for each in missing):
            msg = (
                f"Helm release {namespace}/{release} is deployed, and waiting for its pods is in vain:\n"
                + "\n".join([f"  - {_progress(each)}{await _reasons(api, each)}" for each in missing])
                + f"\nLet the roll-out go on (kubectl -n {namespace} rollout resume deployment <name>), and run again."
            )
            raise ClusterError(msg)
        waited = time.monotonic() - begun
        # Pods take a moment, and what keeps them takes requests.
        if waited - explained > _EXPLAIN_SECONDS:
            explained, reasons = waited, {_progress(each): await _reasons(api, each) for each in missing}
        return "; ".join(f"{progress}{reasons.get(progress, '')}" for progress in map(_progress, missing))

    if waits := await wait_until_met(look, seconds, notify):
        listed = [f"  - {_progress(each)}{await _reasons(api, each)}" for each in missing] or [f"  - {waits}"]
        msg = (
            f"Helm release {namespace}/{release} is deployed, and its pods are not ready after {seconds:.0f} "
            "seconds (meshtrust:helm.timeoutSeconds):\n" + "\n".join(listed) + "\nIf there were pods before, "
            "they serve until the new ones are ready. Put it right and run again, or set back what was changed in "
            "the stack and run again."
        )
        raise ClusterError(msg)


async def read_deployments(api: Api, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the Deployments of a namespace that have all of these labels.

    Raises:
        ClusterError: They cannot be read.
    """
    items = api.list(DEPLOYMENTS, namespace=namespace, labels=match_labels(labels))
    # The items of a list have no kind of their own.
    return [{"kind": "Deployment", **item} async for item in items]


async def explain_deployments(api: Api, namespace: str, labels: Mapping[str, str]) -> str:
    """Return what keeps the Deployments with these labels, in the cluster's words.

    Returns:
        A clause for each that is not as it should be; empty if all are ready, there is none, or they cannot be read.
    """
    with suppress(ClusterError):
        found = await read_deployments(api, namespace, labels)
        return "; ".join([f"{_progress(each)}{await _reasons(api, each)}" for each in found if not is_ready(each)])
    return ""


def is_ready(deployment: Mapping[str, Any]) -> bool:
    """Whether a Deployment has a ready pod, and as many new ones as it must never have fewer of."""
    return 0 < max(_ready(deployment), 0) >= _needed(deployment)


async def explain(api: Api, workload: Mapping[str, Any]) -> list[str]:
    """Return what keeps a workload's pods from being made or getting ready, in the cluster's words.

    Args:
        api: Client of the cluster.
        workload: A Deployment, a StatefulSet or a DaemonSet, with its kind.

    Raises:
        ClusterError: Its pods cannot be read.
    """
    spec, status = workload["spec"], workload.get("status") or {}
    kept = []
    if spec.get("replicas") == 0:
        kept.append(SCALED_DOWN)
    if spec.get("paused"):
        kept.append("its roll-out is paused")
    # Of the conditions the one that a pod was refused by says what the others only count.
    kept += [
        f"{condition['reason']}: {condition['message']}"
        for condition in status.get("conditions") or []
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
    ]
    # An Argo Rollout may leave its selector to the workload that it refers to.
    if spec.get("selector"):
        namespace = workload["metadata"]["namespace"]
        async for pod in api.list(PODS, namespace=namespace, labels=format_selector(spec["selector"])):
            if len(kept) < _NAMED:
                kept += [f"pod {pod['metadata']['name']}: {reason}" for reason in await explain_pod(api, pod)]
    if workload["kind"] != "Deployment" and not kept:
        kept += await newest_warnings(api, workload)
    return kept[:_NAMED]


async def explain_pod(api: Api, pod: Mapping[str, Any]) -> list[str]:
    """Return what keeps a pod from getting ready: its containers' states and last words, the scheduler's, events."""
    kept = [reason async for reason in _containers(api, pod)] + list(_unscheduled(pod))
    is_waiting = any(
        condition["type"] == "Ready" and condition["status"] != "True"
        for condition in (pod.get("status") or {}).get("conditions") or []
    )
    return kept or (await newest_warnings(api, pod) if is_waiting else [])


async def newest_warnings(api: Api, held: Mapping[str, Any]) -> list[str]:
    """Return the newest warning among an object's events; empty if there is none, or it cannot be read."""
    metadata = held["metadata"]
    fields = f"involvedObject.uid={metadata.get('uid')},type=Warning"
    with suppress(ClusterError):
        events = [event async for event in api.list(EVENTS, namespace=metadata["namespace"], fields=fields)]
        newest = sorted(events, key=lambda event: str(event.get("lastTimestamp") or ""))[-1:]
        return [f"{event.get('reason')}: {event.get('message')}" for event in newest]
    return []


async def _deployments(api: Api, namespace: str, release: str) -> list[dict[str, Any]]:
    return [item for item in await read_deployments(api, namespace, {}) if owner_of(item)[1] == release]


def _ready(deployment: Mapping[str, Any]) -> int:
    """Return how many pods are surely of the newest template and ready."""
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return 0
    # Which of the available pods are new is not reported: as many as would be, were all of the old ones available.
    old = status.get("replicas", 0) - status.get("updatedReplicas", 0)
    ready: int = max(0, status.get("availableReplicas", 0) - old)
    return ready


def _needed(deployment: Mapping[str, Any]) -> int:
    """Return how many a Deployment must never have fewer of while it is updated, and one at the least."""
    wanted: int = deployment["spec"]["replicas"]
    away = ((deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}).get("maxUnavailable", 0)
    spared = wanted * int(away.removesuffix("%")) // 100 if isinstance(away, str) else int(away)
    return max(wanted - spared, min(wanted, 1))


def _progress(deployment: Mapping[str, Any]) -> str:
    name, wanted = deployment["metadata"]["name"], deployment["spec"]["replicas"]
    return f"Deployment {name}, {_ready(deployment)} of {wanted} new pods ready"


async def _reasons(api: Api, deployment: Mapping[str, Any]) -> str:
    """Return, after a colon, why the pods of a Deployment are not ready; empty if the cluster reports no reason."""
    kept = await explain(api, deployment)
    return f": {'; '.join(kept)}" if kept else ""


async def _containers(api: Api, pod: Mapping[str, Any]) -> AsyncIterator[str]:
    """Yield what the containers of a pod wait for, or ended by, in the words of its node and their own."""
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        found = state.get("waiting") or state.get("terminated") or {}
        if not found or found.get("reason") in _STARTING:
            continue
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
        words = ended.get("message") or (await _last_words(api, pod, container["name"]) if ended else "")
        reasons = [
            found.get("message"),
            f"it ended with code {ended['exitCode']}" if "exitCode" in ended else "",
            words,
        ]
        listed = "; ".join(dict.fromkeys(text.strip() for text in reasons if text))
        yield f"container {container['name']}: {found.get('reason') or 'not running'}{f': {listed}' if listed else ''}"


def _unscheduled(pod: Mapping[str, Any]) -> Iterator[str]:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason', 'not scheduled')}: {condition.get('message', '')}"


async def _last_words(api: Api, pod: Mapping[str, Any], container: str) -> str:
    """Return the end of the log of a container that has ended; empty if it cannot be read."""
    metadata = pod["metadata"]
    with suppress(ClusterError):
        log = await api.read_log(metadata["namespace"], metadata["name"], container, lines=_LOG_LINES)
        return " ".join(log.split())
    return ""
