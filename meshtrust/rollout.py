"""Restarts of workloads, as `kubectl rollout restart` makes them, in waves that leave disruption budgets alone."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshtrust.cluster import Api, ClusterError, read, read_items, read_optional, with_labels
from meshtrust.label_selector import selects
from meshtrust.pods import Workload

# What a pod template's change restarts, and where it is in the API.
_PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
# The annotation of kubectl, so that `kubectl rollout history` tells the same story whoever restarted.
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
_MERGE = {"Content-Type": "application/merge-patch+json"}
_POLL_SECONDS = 0.5


class RolloutError(Exception):
    """A restart that did not come to its end; the message names the workload."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How gently to restart.

    Attributes:
        at_once: Workloads at a time.
        timeout_seconds: How long one workload may take, and how long its disruption budget is waited for.
    """

    at_once: int = 10
    timeout_seconds: float = 600


def can_restart(workload: Workload) -> bool:
    """Whether there is a known way to have new pods; a Job's and a bare pod's go on as they are until they end."""
    return _is_rollout(workload) or (workload.kind in _PLURALS and not workload.version)


def _is_rollout(workload: Workload) -> bool:
    """Whether it is one of Argo Rollouts, which replaces the pods that are older than ``spec.restartAt``.

    Source: argo-rollouts ``rollout/restart.go``; ``kubectl argo rollouts restart`` sets it.
    """
    return workload.kind == "Rollout" and workload.version.startswith("argoproj.io/")


async def restart(api: Api, workloads: Sequence[Workload], limits: Limits) -> AsyncIterator[Workload]:
    """Restart workloads side by side, and yield each once all its pods are new and ready.

    Each waits until every PodDisruptionBudget over its pods allows a disruption: a rolling update is not an eviction,
    so that Kubernetes itself would not ask.

    Args:
        api: Client of the cluster.
        workloads: What to restart; every one such that `can_restart`.
        limits: How gently.

    Raises:
        RolloutError: One did not get ready in time, or a budget allowed no disruption until then; those that are under
            way go on, and no further one is begun.
        ClusterError: The API server refuses, or stopped answering.
    """
    limit = asyncio.Semaphore(limits.at_once)

    async def one(workload: Workload) -> Workload:
        async with limit:
            blocking: list[str] = []
            try:
                async with asyncio.timeout(limits.timeout_seconds):
                    while blocking := await _blocking_budgets(api, workload):
                        await asyncio.sleep(_POLL_SECONDS)
                    await _restart(api, workload)
            except TimeoutError:
                msg = f"{workload} was not ready within {limits.timeout_seconds:.0f} seconds after its restart."
                if blocking:
                    msg = (
                        f"{workload} was not restarted: after {limits.timeout_seconds:.0f} seconds no disruption is "
                        f"allowed yet by PodDisruptionBudget {', '.join(blocking)}. Raise the replicas above what it "
                        "demands, or loosen it (minAvailable, maxUnavailable); then run the same command again."
                    )
                raise RolloutError(msg) from None
            return workload

    tasks = [asyncio.create_task(one(workload)) for workload in workloads]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _restart(api: Api, workload: Workload) -> None:
    if _is_rollout(workload):
        await _restart_rollout(api, workload)
        return
    stamp = {_RESTARTED: datetime.now(UTC).isoformat(timespec="milliseconds")}
    patch = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    changed = await api.call("PATCH", str(workload), json=patch, headers=_MERGE, **_address(workload))
    if _strategy(changed) == "OnDelete":
        await _evict_old(api, workload, changed)
    while not _is_rolled_out(changed):
        await asyncio.sleep(_POLL_SECONDS)
        changed = await _read_workload(api, workload)


async def _restart_rollout(api: Api, workload: Workload) -> None:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    changed = await api.call(
        "PATCH", str(workload), json={"spec": {"restartAt": at}}, headers=_MERGE, **_address(workload)
    )
    while not _is_restarted(changed, at):
        await asyncio.sleep(_POLL_SECONDS)
        changed = await _read_workload(api, workload)


def _is_restarted(rollout: Mapping[str, Any], at: str) -> bool:
    status = rollout.get("status") or {}
    return status.get("restartedAt") == at and status.get("availableReplicas", 0) >= rollout["spec"].get("replicas", 1)


def _strategy(workload: Mapping[str, Any]) -> str:
    return str((workload["spec"].get("updateStrategy") or {}).get("type") or "")


async def _read_workload(api: Api, workload: Workload) -> dict[str, Any]:
    found: dict[str, Any] = await read(api, str(workload), **_address(workload))
    return found


def _address(workload: Workload) -> dict[str, str]:
    plural = "rollouts" if _is_rollout(workload) else _PLURALS[workload.kind]
    return {
        "version": workload.version or "apps/v1",
        "namespace": workload.namespace,
        "url": f"{plural}/{workload.name}",
    }


def _is_rolled_out(workload: Mapping[str, Any]) -> bool:
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


async def _blocking_budgets(api: Api, workload: Workload) -> list[str]:
    """Return the PodDisruptionBudgets over a workload's pods that allow no disruption now, by namespace and name."""
    template = (await _read_workload(api, workload))["spec"].get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    what = f"PodDisruptionBudgets of namespace {workload.namespace}"
    budgets = read_items(api, what, version="policy/v1", namespace=workload.namespace, url="poddisruptionbudgets")
    return [
        f"{workload.namespace}/{budget['metadata']['name']}"
        async for budget in budgets
        if selects(budget["spec"].get("selector"), labels)
        and not (budget.get("status") or {}).get("disruptionsAllowed", 0)
    ]


async def _evict_old(api: Api, workload: Workload, changed: Mapping[str, Any]) -> None:
    """Evict the pods of a workload that replaces them only when they are gone (OnDelete), one by one."""
    selected = with_labels(changed["spec"]["selector"]["matchLabels"])
    pods = [
        pod["metadata"]
        async for pod in read_items(
            api, f"pods of {workload}", namespace=workload.namespace, url="pods", params=selected
        )
    ]
    for pod in pods:
        await _evict(api, workload.namespace, pod["name"])
        while await _exists(api, pod) or not _is_at_strength(await _read_workload(api, workload)):
            await asyncio.sleep(_POLL_SECONDS)


async def _exists(api: Api, pod: Mapping[str, Any]) -> bool:
    url = f"pods/{pod['name']}"
    found = await read_optional(api, f"pod {pod['name']}", namespace=pod["namespace"], url=url)
    return found is not None and found["metadata"]["uid"] == pod["uid"]


async def _evict(api: Api, namespace: str, pod: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    while True:
        try:
            await api.call(
                "POST", f"pod {namespace}/{pod}", json=eviction, namespace=namespace, url=f"pods/{pod}/eviction"
            )
        except ClusterError as error:
            # The API server answers 429 while a disruption budget allows none.
            if "disruption budget" not in str(error):
                raise
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return


def _is_at_strength(workload: Mapping[str, Any]) -> bool:
    status = workload.get("status") or {}
    if workload["kind"] == "DaemonSet":
        return bool(status.get("numberAvailable", 0) >= status.get("desiredNumberScheduled", 0))
    return bool(status.get("readyReplicas", 0) >= workload["spec"].get("replicas", 1))
