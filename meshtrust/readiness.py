"""Workloads that are to get ready: whether all their pods are new and ready, and what keeps those that are not."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from meshtrust.cluster import Api, ClusterError, read, read_items
from meshtrust.polling import pauses

# Helm's mark of whose an object is (helm ``pkg/action/validate.go``).
_RELEASE = "meta.helm.sh/release-name"
# A refusal names so many pods of a Deployment; kubectl lists all.
_NAMED = 3


def is_rolled_out(workload: Mapping[str, Any]) -> bool:
    """Whether all pods are of the newest template and ready, and no older one is left (kubectl ``rollout status``)."""
    status, spec = workload.get("status") or {}, workload["spec"]
    if status.get("observedGeneration", 0) < workload["metadata"]["generation"]:
        return False
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(status.get("updatedNumberScheduled", 0) >= wanted and status.get("numberAvailable", 0) >= wanted)
    wanted = spec.get("replicas", 1)
    ready = status.get("availableReplicas", status.get("readyReplicas", 0))
    return bool(status.get("updatedReplicas", 0) >= wanted == status.get("replicas", 0) and ready >= wanted)


async def wait_ready(api: Api, namespace: str, release: str, seconds: float, tell: Callable[[str], None]) -> None:
    """Wait until every Deployment of a Helm release is rolled out.

    Helm itself looks every two seconds (helm v3 ``pkg/kube/wait.go``), and says of what does not get ready no more than
    that a deadline was exceeded.

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
        missing = [each for each in await _deployments(api, namespace, release) if not is_rolled_out(each)]
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
    # An object of a list does not say its kind.
    return [
        {**item, "kind": "Deployment"}
        async for item in read_items(
            api, f"Deployments of namespace {namespace}", version="apps/v1", namespace=namespace, url="deployments"
        )
        if (item["metadata"].get("annotations") or {}).get(_RELEASE) == release
    ]


def _progress(deployment: Mapping[str, Any]) -> str:
    name, status = deployment["metadata"]["name"], deployment.get("status") or {}
    ready = 0
    if status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]:
        # Which of the available pods are new is not said: as many as would be, were all of the old ones available.
        old = status.get("replicas", 0) - status.get("updatedReplicas", 0)
        ready = max(0, status.get("availableReplicas", 0) - old)
    return f"Deployment {name}, {ready} of {deployment['spec'].get('replicas', 1)} new pods ready"


async def _reasons(api: Api, deployment: Mapping[str, Any]) -> str:
    """Return, after a colon, what keeps a Deployment's pods; nothing where the cluster does not say."""
    namespace, selector = deployment["metadata"]["namespace"], deployment["spec"]["selector"].get("matchLabels") or {}
    pods = await read(
        api,
        f"pods of namespace {namespace}",
        namespace=namespace,
        url="pods",
        params={"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())},
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
