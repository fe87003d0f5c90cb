"""The pods of a Helm release: whether they are new and ready, and what keeps those that are not."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from meshtrust.cluster import Api, ClusterError, read, read_items, with_labels
from meshtrust.helm_release import owner_of
from meshtrust.polling import pauses

# A refusal names so many pods of a Deployment; kubectl lists all.
_NAMED = 3


async def wait_ready(api: Api, namespace: str, release: str, seconds: float, tell: Callable[[str], None]) -> None:
    """Wait until every Deployment of a Helm release has as many new pods ready as it must never have fewer of.

    That is Helm's own rule (helm v3 ``pkg/kube/ready.go``, deploymentReady): in high availability a node may be down.
    But Helm looks every two seconds (``pkg/kube/wait.go``), and says of what does not get ready no more than that a
    deadline was exceeded.

    Args:
        api: Client of the cluster.
        namespace: Namespace of the release.
        release: Its name.
        seconds: How long to wait.
        tell: Gets a sentence of what is waited for, each time that it changes.

    Raises:
        ClusterError: One does not get ready in time, the message says why; or the API server does not answer.
    """
    deadline, told = time.monotonic() + seconds, ""
    for pause in pauses():
        missing = [each for each in await _deployments(api, namespace, release) if _ready(each) < _needed(each)]
        if not missing:
            return
        if time.monotonic() > deadline:
            reasons = [f"  - {_progress(each)}{await _reasons(api, each)}" for each in missing]
            msg = (
                f"Helm release {namespace}/{release} is deployed, and its pods are not ready after {seconds:.0f} "
                "seconds (meshtrust:helm.timeoutSeconds):\n" + "\n".join(reasons) + "\nWhere there were pods before, "
                "they serve until the new ones are ready. Put it right and run again, or set back what was changed in "
                "the stack and run again."
            )
            raise ClusterError(msg)
        waits = f"Waiting for {'; '.join(map(_progress, missing))}"
        if waits != told:
            tell(waits)
            told = waits
        await asyncio.sleep(pause)


async def _deployments(api: Api, namespace: str, release: str) -> list[dict[str, Any]]:
    what = f"Deployments of namespace {namespace}"
    return [
        item
        async for item in read_items(api, what, version="apps/v1", namespace=namespace, url="deployments")
        if owner_of(item)[1] == release
    ]


def _ready(deployment: Mapping[str, Any]) -> int:
    """Return how many pods are surely of the newest template and ready."""
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return 0
    # Which of the available pods are new is not said: as many as would be, were all of the old ones available.
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
    """Return, after a colon, what keeps a Deployment's pods; nothing where the cluster does not say."""
    namespace, selector = deployment["metadata"]["namespace"], deployment["spec"]["selector"].get("matchLabels") or {}
    pods = await read(
        api,
        f"pods of namespace {namespace}",
        namespace=namespace,
        url="pods",
        params=with_labels(selector),
    )
    kept = [f"pod {pod['metadata']['name']}: {reason}" for pod in pods["items"] or [] for reason in _kept_by(pod)]
    kept += [
        f"{condition['reason']}: {condition['message']}"
        for condition in (deployment.get("status") or {}).get("conditions") or []
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
    ]
    return f": {'; '.join(kept[:_NAMED])}" if kept else ""


def _kept_by(pod: Mapping[str, Any]) -> Iterator[str]:
    """Yield what keeps a pod from getting ready, in the words of its node and of the scheduler."""
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for state in ("waiting", "terminated"):
            found = (container.get("state") or {}).get(state) or {}
            if found and found.get("reason") not in ("Completed", "PodInitializing"):
                said = f": {found['message']}" if found.get("message") else ""
                yield f"container {container['name']}: {found.get('reason') or state}{said}"
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason', 'not scheduled')}: {condition.get('message', '')}"
