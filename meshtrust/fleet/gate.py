"""The gates of a fleet: what in the other clusters makes a step of one cluster unsafe."""

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from meshtrust.cluster import ClusterError, connect
from meshtrust.deployment import Deployment
from meshtrust.gate import Blocker, find_blockers
from meshtrust.preflight import cluster_uid
from meshtrust.rotation import Step, Trust

if TYPE_CHECKING:
    from kr8s.asyncio import Api

# A sibling whose pods are being replaced right now is looked at again for so long.
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 1.0
# Clusters that are looked at side by side: with more, connecting keeps this process so busy that answers come too late.
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Sibling:
    """Another cluster of the fleet, which trusts the same anchor.

    Attributes:
        stack: Its stack.
        deployed: What that stack last deployed.
    """

    stack: str
    deployed: Deployment


async def find_sibling_blockers(
    siblings: Sequence[Sibling], step: Step, roots: Mapping[str, x509.Certificate]
) -> list[Blocker]:
    """Look into every other cluster that is deployed, and return what there makes a step unsafe.

    Clusters of a fleet are linked, or may be at any time: a proxy in one accepts a certificate of another only if it
    trusts the anchor above it. So each is judged as the step's own cluster is. One that cannot be looked into blocks.

    Args:
        siblings: The other clusters.
        step: The step; a first deployment is judged as a switch to its signer.
        roots: The roots of the fleet's generations.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def judge(sibling: Sibling) -> list[Blocker]:
        async with limit:
            return await _judge(sibling, step, roots)

    judged = [sibling for sibling in siblings if sibling.deployed.trust and not _is_past(sibling.deployed.trust, step)]
    found = await asyncio.gather(*map(judge, judged))
    return [blocker for blockers in found for blocker in blockers]


def blocks_joining(trust: Trust, siblings: Iterable[Sibling]) -> list[str]:
    """Return why a cluster that joins could not speak with those that are there.

    Args:
        trust: What it would trust, and what would sign in it.
        siblings: The others.
    """
    reasons = []
    for sibling in siblings:
        there = sibling.deployed.trust
        if there is None:
            continue
        if there.signer not in trust.anchors:
            reasons.append(f"{sibling.stack} signs with {there.signer}, which this cluster would not trust")
        if trust.signer not in there.anchors:
            reasons.append(f"{sibling.stack} does not trust {trust.signer}, with which this cluster would sign")
    return reasons


def _is_past(trust: Trust, step: Step) -> bool:
    """Whether a cluster has retired already what a step retires: that was judged then, and nothing brings it back."""
    return step.kind == "retire" and not set(step.generations) & set(trust.anchors)


async def _judge(sibling: Sibling, step: Step, roots: Mapping[str, x509.Certificate]) -> list[Blocker]:
    context = str(sibling.deployed.outputs.get("context") or "")
    try:
        api = await connect(context, str(sibling.deployed.outputs.get("kubeconfig") or ""), "its context")
        uid, expected = await cluster_uid(api), sibling.deployed.cluster_uid
        if uid == expected:
            blockers = await _look(api, sibling, _as_switch(step), roots)
        else:
            reason = f"it leads to cluster {uid}, and the stack was deployed to {expected}"
            blockers = [Blocker(subject=f'context "{context}"', reason=reason, curable=False)]
    except ClusterError as error:
        reason = f"it cannot be judged: {error}"
        blockers = [Blocker(subject=f'context "{context}"', reason=reason, curable=False)]
    return [dataclasses.replace(entry, stack=sibling.stack) for entry in blockers]


async def _look(api: "Api", sibling: Sibling, step: Step, roots: Mapping[str, x509.Certificate]) -> list[Blocker]:
    """Return what blocks in a cluster, once that is not just what a roll-out of its own brings with it."""
    namespace = str(sibling.deployed.outputs.get("namespace") or "linkerd")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        blockers = await find_blockers(api, namespace, step, roots)
        lasting = [entry for entry in blockers if entry.curable and entry.workload is not None]
        if not blockers or lasting or time.monotonic() > deadline:
            return blockers
        await asyncio.sleep(_POLL_SECONDS)


def _as_switch(step: Step) -> Step:
    """Return what a step means for another cluster: a first deployment begins to sign there too."""
    if step.kind != "deploy":
        return step
    return dataclasses.replace(step, kind="switch", generations=(step.after.signer,))
