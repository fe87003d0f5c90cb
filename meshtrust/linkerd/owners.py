"""The owners of pods, found by their owner references, and the way in which each is restarted."""

import asyncio
from collections.abc import Iterable

from meshtrust.cluster.api import REPLICASETS, Api, ClusterError
from meshtrust.linkerd.pods import Workload, controller_of


async def find_owners(api: Api, workloads: Iterable[Workload]) -> dict[Workload, Workload]:
    """Return the topmost owner of each ReplicaSet among workloads: all others are known from their pods.

    A Deployment's ReplicaSet is known by its name; one of another kind of owner, such as an Argo Rollout, is read. One
    that cannot be read stands for itself.

    Args:
        api: Client of the cluster.
        workloads: Owners of pods, as the pods name them.
    """
    sets = sorted({entry for entry in workloads if entry.kind == "ReplicaSet" and not entry.version}, key=str)

    async def climb(found: Workload) -> Workload:
        try:
            item = await api.get(REPLICASETS, found.name, namespace=found.namespace)
        except ClusterError:
            return found
        return controller_of(item["metadata"]) or found

    return dict(zip(sets, await asyncio.gather(*map(climb, sets)), strict=True))


def how_to_restart(workload: Workload) -> str:
    """Return what a person does about the pods of a workload that this project cannot restart."""
    where = f"-n {workload.namespace}"
    if workload.kind == "Pod":
        return f"nothing owns it; delete it and make it again: kubectl {where} delete pod {workload.name}"
    if workload.kind == "Job":
        return f"it ends with its Job; wait, or delete that: kubectl {where} delete job {workload.name}"
    return (
        f"restart {workload.kind} {workload.name} in the way of its controller, or delete its pods one by one: "
        f"kubectl {where} delete pod <name>"
    )
