"""Restarts of workloads, as `kubectl rollout restart` makes them, in waves that leave disruption budgets alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from meshtrust.cluster.api import (
    DAEMONSETS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    LOOK_SECONDS,
    PODS,
    STATEFULSETS,
    Api,
    ClusterError,
    ConflictError,
    NotFoundError,
    Object,
    Resource,
    UnreachableError,
)
from meshtrust.cluster.backoff import Notify, silent
from meshtrust.cluster.label_selector import format_selector, selects
from meshtrust.cluster.readiness import explain
from meshtrust.linkerd.pods import Workload

# What a pod template's change restarts, and where it is in the API.
_RESOURCES = {each.kind: each for each in (DEPLOYMENTS, STATEFULSETS, DAEMONSETS)}
# The annotation of kubectl, so that `kubectl rollout history` shows restarts of both tools alike.
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
# Workloads that are read at a time.
_READ_AT_ONCE = 20
# When is first looked at what keeps new pods, since that takes requests and most pods have started by then; and how
# often from then on.
_EXPLAIN_AFTER_SECONDS, _EXPLAIN_SECONDS = 5.0, 2.0
# How long new pods may be refused before that counts as lasting: a controller tries again at once, and then after
# pauses that grow.
_REFUSED_SECONDS = 15.0
# The word of controllers for pods that the API server refuses (kubernetes ``pkg/controller/controller_utils.go``).
_REFUSED = "FailedCreate: "


class RolloutError(Exception):
    """Restarts that did not come to their end; the message names each workload, and what keeps it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that keep a restart gentle.

    Attributes:
        at_once: Workloads whose new pods are not ready at a time.
        timeout_seconds: How long one workload may take, and how long its disruption budget is waited for.
        minds_budgets: Whether disruption budgets are waited for.
    """

    at_once: int = 10
    timeout_seconds: float = 600
    minds_budgets: bool = True


def can_restart(workload: Workload) -> bool:
    """Whether there is a known way to have new pods; a Job's and a bare pod's go on as they are until they end."""
    return _is_rollout(workload) or (workload.kind in _RESOURCES and not workload.version)


def _is_rollout(workload: Workload) -> bool:
    """Whether it is one of Argo Rollouts, which replaces the pods that are older than ``spec.restartAt``.

    Source: argo-rollouts ``rollout/restart.go``; ``kubectl argo rollouts restart`` sets it.
    """
    return workload.kind == "Rollout" and workload.version.startswith("argoproj.io/")


async def find_obstacles(api: Api, workloads: Sequence[Workload], *, minds_budgets: bool = True) -> dict[Workload, str]:
    """Return why a restart of workloads would not replace their pods, however long it was waited for.

    Args:
        api: Client of the cluster.
        workloads: The workloads; those that cannot be restarted at all are left out.
        minds_budgets: Whether disruption budgets are waited for.

    Returns:
        What is in the way, and what takes it away, as a sentence without its end; for those alone that have something.

    Raises:
        ClusterError: They cannot be read.
    """
    limit = asyncio.Semaphore(_READ_AT_ONCE)
    asked = [workload for workload in workloads if can_restart(workload)]
    namespaces = sorted({workload.namespace for workload in asked}) if minds_budgets else []
    budgets = {namespace: await _read_budgets(api, namespace) for namespace in namespaces}

    async def look(workload: Workload) -> tuple[Workload, str]:
        async with limit:
            try:
                found = await _read_workload(api, workload)
            except NotFoundError:
                return workload, ""
        listed = budgets.get(workload.namespace, [])
        return workload, _obstacle(workload, found) or _strict_budgets(listed, workload, found)

    return {workload: obstacle for workload, obstacle in await asyncio.gather(*map(look, asked)) if obstacle}


def _obstacle(workload: Workload, found: Mapping[str, Any]) -> str:
    spec, place = found["spec"], f"-n {workload.namespace} {workload.kind.lower()} {workload.name}"
    if spec.get("paused"):
        return f"its roll-out is paused; let it go on: kubectl rollout resume {place}"
    partition = ((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0
    if partition and spec.get("replicas", 1):
        return (
            f"its updateStrategy has partition {partition}, so that pods below that number keep their template; set it "
            f"to 0: kubectl patch {place} -p "
            '\'{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}\''
        )
    return ""


def _strict_budgets(listed: Sequence[Object], workload: Workload, found: Mapping[str, Any]) -> str:
    if strict := [entry.name for entry in _budgets_over(listed, workload, found) if entry.never_allows]:
        return (
            f"PodDisruptionBudget {', '.join(strict)} never allows a disruption: it demands as many pods as there are. "
            "Raise the replicas above that, or loosen it (minAvailable, maxUnavailable)"
        )
    return ""


async def restart(
    api: Api, workloads: Sequence[Workload], limits: Limits, notify: Notify = silent
) -> AsyncIterator[Workload]:
    """Restart workloads side by side, and yield each once all its pods are new and ready.

    Each waits until every PodDisruptionBudget over its pods allows a disruption, though a rolling update is no eviction
    and Kubernetes itself does not ask. It waits for none if the roll-out makes new pods before it takes old ones away,
    or if some of the workload's own pods are not ready: those may use the budget up, and are replaced first.

    Args:
        api: Client of the cluster.
        workloads: What to restart; every one such that `can_restart`.
        limits: How gently.
        notify: Gets a sentence of what keeps a workload, each time that it changes.

    Raises:
        RolloutError: Some have something in the way that no waiting takes away, and nothing was restarted. Or some did
            not get ready in time, or cannot; the others that were under way have come to their end, and no further
            one was begun. The message has all of them.
        ClusterError: The API server refuses.
    """
    if obstacles := await find_obstacles(api, workloads, minds_budgets=limits.minds_budgets):
        listed = "\n".join(f"  - {workload}: {obstacle}." for workload, obstacle in obstacles.items())
        msg = f"Nothing was restarted, since these would not get new pods:\n{listed}\nThen run the same command again."
        raise RolloutError(msg)
    limit = asyncio.Semaphore(limits.at_once)
    failures: list[str] = []

    async def one(workload: Workload) -> Workload | None:
        async with AsyncExitStack() as slot:
            await slot.enter_async_context(limit)
            if failures:
                return None
            try:
                # The next one begins while Kubernetes takes the last old pod of this one away.
                await _Restart(api, workload, limits, notify).run(on_ready=slot.aclose)
            except _FailedRestart as failure:
                failures.append(str(failure))
                return None
            return workload

    tasks = [asyncio.create_task(one(workload)) for workload in workloads]
    try:
        for task in asyncio.as_completed(tasks):
            if workload := await task:
                yield workload
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise RolloutError("\n".join(failures))


async def scale(api: Api, workload: Workload, replicas: int, limits: Limits, notify: Notify = silent) -> None:
    """Scale a workload, and wait until its pods are ready.

    Raises:
        RolloutError: They are not in time, or cannot be made; the message says why.
        ClusterError: The API server refuses.
    """
    try:
        await _Restart(api, workload, limits, notify).scale(replicas)
    except _FailedRestart as failure:
        raise RolloutError(str(failure)) from None


class _FailedRestart(Exception):  # noqa: N818 it is what happened to a restart
    """A restart that has not come to its end."""


class _Restart:
    """The restart of one workload, and what keeps it."""

    def __init__(self, api: Api, workload: Workload, limits: Limits, notify: Notify) -> None:
        self._api, self._workload, self._limits, self._notify = api, workload, limits, notify
        self._blocking: list[str] = []
        self._reasons: list[str] = []
        self._explain_at = self._refused = 0.0

    async def run(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        """Wait for budgets, restart, and wait until all pods are new and ready.

        Args:
            on_ready: Called once all new pods are ready, while old ones may be left.

        Raises:
            _FailedRestart: They are not in time, or cannot be.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                await self._wait_for_budgets()
                now = datetime.now(UTC)
                if _is_rollout(self._workload):
                    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
                    await self.follow(await self._patch({"spec": {"restartAt": at}}), partial(_is_restarted, at))
                    return
                # The same moment however often it is sent.
                stamp = {_RESTARTED: now.isoformat(timespec="milliseconds")}
                changed = await self._patch({"spec": {"template": {"metadata": {"annotations": stamp}}}})
                if _strategy(changed) == "OnDelete":
                    await _evict_old(self._api, self._workload, changed)
                changed = await self.follow(changed, _has_new_pods)
                await on_ready()
                await self.follow(changed, _is_rolled_out)
        except TimeoutError:
            raise await self._late() from None

    async def scale(self, replicas: int) -> None:
        """Set the number of pods, and wait until they are ready.

        Raises:
            _FailedRestart: They are not in time, or cannot be.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                await self.follow(await self._patch({"spec": {"replicas": replicas}}), _is_rolled_out)
        except TimeoutError:
            raise await self._late() from None

    async def _patch(self, change: Mapping[str, Any]) -> Object:
        workload = self._workload
        return await self._api.patch(_resource(workload), workload.name, change, namespace=workload.namespace)

    async def follow(self, changed: Object, is_done: Callable[[Mapping[str, Any]], bool]) -> Object:
        """Wait until a workload that was changed is as it should be, and return what the API server has of it then."""
        workload = self._workload
        self._explain_at = time.monotonic() + _EXPLAIN_AFTER_SECONDS
        async with self._api.watch(_resource(workload), changed, namespace=workload.namespace) as look:
            while not is_done(changed):
                await self._explain(changed)
                # The API server may be away for a while; the time that is left decides.
                with suppress(UnreachableError):
                    changed = await look(_EXPLAIN_SECONDS)
        return changed

    async def _late(self) -> _FailedRestart:
        """Return the failure of a workload whose time is over."""
        seconds = f"{self._limits.timeout_seconds:.0f} seconds"
        if self._blocking:
            return _FailedRestart(
                f"{self._workload} was not restarted: after {seconds} no disruption is allowed yet by "
                f"PodDisruptionBudget {', '.join(self._blocking)}. Raise the replicas above what it demands, or loosen "
                "it (minAvailable, maxUnavailable); then run the same command again."
            )
        with suppress(ClusterError):
            await self._find_reasons(await _read_workload(self._api, self._workload))
        return self._failed(f"was not ready within {seconds} after its restart")

    def _failed(self, what: str) -> _FailedRestart:
        why = "; ".join(self._reasons) or "the cluster does not say what keeps it"
        return _FailedRestart(
            f"{self._workload} {what}: {why}. The pods that it had serve on. Put it right; then run the same command "
            "again."
        )

    async def _wait_for_budgets(self) -> None:
        reported: list[str] = []
        while self._limits.minds_budgets:
            self._blocking = await _blocking_budgets(self._api, self._workload)
            if not self._blocking:
                return
            if self._blocking != reported:
                reported = self._blocking
                self._notify(
                    f"{self._workload} waits for PodDisruptionBudget {', '.join(reported)} to allow a disruption"
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _explain(self, changed: Mapping[str, Any]) -> None:
        """Report what keeps the new pods; end the wait if it is something that does not pass."""
        now = time.monotonic()
        if now < self._explain_at:
            return
        self._explain_at = now + _EXPLAIN_SECONDS
        with suppress(ClusterError):
            await self._find_reasons(changed)
        if _is_given_up(changed):
            raise self._failed("has made no progress for as long as it says itself (progressDeadlineSeconds)")
        refused = any(reason.startswith(_REFUSED) for reason in self._reasons)
        self._refused = (self._refused or now) if refused else 0.0
        if refused and now - self._refused >= _REFUSED_SECONDS:
            raise self._failed("cannot get new pods")

    async def _find_reasons(self, workload: Mapping[str, Any]) -> None:
        reasons = await explain(self._api, {"kind": self._workload.kind, **workload})
        if reasons != self._reasons and reasons:
            self._notify(f"{self._workload}: {'; '.join(reasons)}")
        self._reasons = reasons


def _is_restarted(at: str, rollout: Mapping[str, Any]) -> bool:
    status = rollout.get("status") or {}
    ready = status.get("availableReplicas", 0) >= rollout["spec"].get("replicas", 1)
    return bool(status.get("restartedAt") == at and ready)


def _is_given_up(workload: Mapping[str, Any]) -> bool:
    """Whether a Deployment has given up its roll-out (Kubernetes, Deployments, "Failed Deployment")."""
    # The observedGeneration of an Argo Rollout is a text.
    if workload.get("kind") != "Deployment":
        return False
    status = workload.get("status") or {}
    return status.get("observedGeneration", 0) >= workload["metadata"]["generation"] and any(
        condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
        for condition in status.get("conditions") or []
    )


def _strategy(workload: Mapping[str, Any]) -> str:
    return str((workload["spec"].get("updateStrategy") or {}).get("type") or "")


async def _read_workload(api: Api, workload: Workload) -> Object:
    return await api.get(_resource(workload), workload.name, namespace=workload.namespace)


def _resource(workload: Workload) -> Resource:
    if _is_rollout(workload):
        return Resource(workload.version, "rollouts", workload.kind)
    return _RESOURCES[workload.kind]


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


def _has_new_pods(workload: Mapping[str, Any]) -> bool:
    """Whether all pods of the newest template are ready, though a Deployment may have older ones beside them."""
    status = workload.get("status") or {}
    if workload["kind"] != "Deployment" or status.get("observedGeneration", 0) < workload["metadata"]["generation"]:
        return _is_rolled_out(workload)
    is_made = status.get("updatedReplicas", 0) >= workload["spec"].get("replicas", 1)
    return bool(is_made and status.get("availableReplicas", 0) >= status.get("replicas", 0))


@dataclass(frozen=True, kw_only=True)
class _Budget:
    """A PodDisruptionBudget: whether it allows a disruption now, and whether it ever does."""

    name: str
    allows: bool
    never_allows: bool


async def _blocking_budgets(api: Api, workload: Workload) -> list[str]:
    """Return the PodDisruptionBudgets that a restart has to wait for now, by namespace and name."""
    found = await _read_workload(api, workload)
    if not _takes_away(found) or not _is_at_strength(found):
        return []
    listed = await _read_budgets(api, workload.namespace)
    return [budget.name for budget in _budgets_over(listed, workload, found) if not budget.allows]


def _takes_away(workload: Mapping[str, Any]) -> bool:
    """Whether a roll-out takes pods away before new ones are ready.

    Source: Kubernetes, Deployments, "Rolling Update Deployment": maxUnavailable is 25% by default, rounded down, and a
    Deployment that surges has none to miss.
    """
    spec = workload["spec"]
    if workload.get("kind") != "Deployment" or (spec.get("strategy") or {}).get("type") == "Recreate":
        return True
    away = ((spec.get("strategy") or {}).get("rollingUpdate") or {}).get("maxUnavailable", "25%")
    share = int(str(away).removesuffix("%"))
    return (spec.get("replicas", 1) * share // 100 if str(away).endswith("%") else share) > 0


async def _read_budgets(api: Api, namespace: str) -> list[Object]:
    return [budget async for budget in api.list(DISRUPTION_BUDGETS, namespace=namespace)]


def _budgets_over(listed: Sequence[Object], workload: Workload, found: Mapping[str, Any]) -> list[_Budget]:
    """Return those of the PodDisruptionBudgets of its namespace that are over a workload's pods."""
    template = found["spec"].get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [
        _Budget(
            name=f"{workload.namespace}/{budget['metadata']['name']}",
            allows=bool((budget.get("status") or {}).get("disruptionsAllowed", 0)),
            never_allows=_takes_away(found) and _never_allows(budget),
        )
        for budget in listed
        if selects(budget["spec"].get("selector"), labels)
    ]


def _never_allows(budget: Mapping[str, Any]) -> bool:
    """Whether a budget allows no disruption even while every pod is healthy."""
    status = budget.get("status") or {}
    return bool(0 < status.get("expectedPods", 0) <= status.get("desiredHealthy", 0))


async def _evict_old(api: Api, workload: Workload, changed: Mapping[str, Any]) -> None:
    """Evict the pods of a workload that replaces them only when they are gone (OnDelete), one by one."""
    labels = format_selector(changed["spec"]["selector"])
    pods = [pod["metadata"] async for pod in api.list(PODS, namespace=workload.namespace, labels=labels)]
    for pod in pods:
        await _evict(api, pod)
        while await _exists(api, pod) or not _is_at_strength(await _read_workload(api, workload)):
            await asyncio.sleep(LOOK_SECONDS)


async def _exists(api: Api, pod: Mapping[str, Any]) -> bool:
    found = await api.find(PODS, pod["name"], namespace=pod["namespace"])
    return found is not None and found["metadata"]["uid"] == pod["uid"]


async def _evict(api: Api, pod: Mapping[str, Any]) -> None:
    while True:
        try:
            await api.evict(pod["namespace"], pod["name"], pod["uid"])
        except (NotFoundError, ConflictError):
            return
        except ClusterError as error:
            # The API server answers 429 while a disruption budget allows none.
            if "disruption budget" not in str(error):
                raise
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return


def _is_at_strength(workload: Mapping[str, Any]) -> bool:
    status = workload.get("status") or {}
    if workload.get("kind") == "DaemonSet":
        return bool(status.get("numberAvailable", 0) >= status.get("desiredNumberScheduled", 0))
    return bool(status.get("readyReplicas", 0) >= workload["spec"].get("replicas", 1))
