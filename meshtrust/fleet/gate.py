"""The gates of a fleet: what in the other clusters makes a step of one cluster unsafe."""

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509

from meshtrust.cluster import ClusterError, connect
from meshtrust.deployment import Deployment
from meshtrust.gate import Blocker, find_blockers
from meshtrust.preflight import cluster_uid
from meshtrust.rotation import Step, Trust

# A sibling whose pods are being replaced right now is looked at again for so long.
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 1.0
# Clusters that are looked at side by side.
_AT_ONCE = 16


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
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        blockers = await _look(sibling, _as_switch(step), roots)
        passing = [entry for entry in blockers if not entry.curable or entry.workload is None]
        if blockers == [] or len(passing) < len(blockers) or time.monotonic() > deadline:
            return [dataclasses.replace(entry, stack=sibling.stack) for entry in blockers]
        await asyncio.sleep(_POLL_SECONDS)


async def _look(sibling: Sibling, step: Step, roots: Mapping[str, x509.Certificate]) -> list[Blocker]:
    outputs = sibling.deployed.outputs
    context, kubeconfig = str(outputs.get("context") or ""), str(outputs.get("kubeconfig") or "")
    subject = f'context "{context}"'
    try:
        api = await connect(context, kubeconfig, f"the context of stack {sibling.stack}")
        uid = await cluster_uid(api)
        if uid != sibling.deployed.cluster_uid:
            reason = f"it leads to cluster {uid}, and the stack was deployed to {sibling.deployed.cluster_uid}"
            return [Blocker(subject=subject, reason=reason)]
        return await find_blockers(api, str(outputs.get("namespace") or "linkerd"), step, roots)
    except ClusterError as error:
        return [Blocker(subject=subject, reason=f"it cannot be judged: {error}", curable=False)]


def _as_switch(step: Step) -> Step:
    """Return what a step means for another cluster: a first deployment begins to sign there too."""
    if step.kind != "deploy":
        return step
    return dataclasses.replace(step, kind="switch", generations=(step.after.signer,))
