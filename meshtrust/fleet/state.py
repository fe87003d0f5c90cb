"""The outputs of the stacks of a fleet."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from meshtrust.fleet.members import Fleet, short_name
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.pledge import Pledge, find_fleet_blockers
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import MissingStackError, Stack


@dataclass(frozen=True, kw_only=True)
class FleetState:
    """The last deployments of a fleet's stacks.

    Attributes:
        anchor: That of the anchor stack.
        clusters: Those of the clusters, by stack.
        missing: Names of the stacks that the backend does not know yet.
    """

    anchor: StackOutputs
    clusters: Mapping[str, StackOutputs]
    missing: frozenset[str]

    def unsigned(self, stack: str) -> frozenset[str]:
        """Return the generations of which a cluster has asked for an intermediate, and has none yet."""
        cluster = self.clusters[stack]
        known = {**cluster.intermediates, **self.anchor.intermediates_of(self._listed.get(stack, stack))}
        return frozenset(cluster.requests) - frozenset(known)

    @property
    def to_sign(self) -> list[str]:
        """The clusters that wait for the anchor stack to sign."""
        return [stack for stack in self.clusters if self.unsigned(stack)]

    @property
    def to_pass_on(self) -> list[str]:
        """The clusters that have pledged what the anchor stack does not have yet."""
        passed_on = self.anchor.pledges
        return [
            stack
            for stack, cluster in self.clusters.items()
            if cluster.pledge.stamp != passed_on.get(self._listed.get(stack, stack), Pledge()).stamp
        ]

    @property
    def _listed(self) -> dict[str, str]:
        """Names of the clusters in the anchor stack's configuration, by the short name of the stack."""
        return {short_name(listed): listed for listed in self.anchor.clusters}


async def read_state(fleet: Fleet, parallel: int) -> FleetState:
    """Read the outputs of a fleet's stacks.

    Args:
        fleet: The fleet.
        parallel: How many at a time.

    Raises:
        StackError: One cannot be read.
    """
    limit = asyncio.Semaphore(parallel)
    missing: set[str] = set()

    async def read(stack: Stack) -> StackOutputs:
        async with limit:
            try:
                return StackOutputs(await asyncio.to_thread(stack.outputs))
            except MissingStackError:
                missing.add(stack.name)
                return StackOutputs({})

    anchor, *clusters = await asyncio.gather(*map(read, fleet.stacks))
    names = [stack.name for stack in fleet.clusters]
    return FleetState(anchor=anchor, clusters=dict(zip(names, clusters, strict=True)), missing=frozenset(missing))


async def read_fleet_blockers(stack: Stack, deployed: StackOutputs, step: Step) -> list[Blocker]:
    """Return what in the rest of its fleet keeps a stack from a step; empty if it is in no fleet.

    Args:
        stack: The stack.
        deployed: What it last deployed.
        step: The step.

    Raises:
        StackError: The anchor stack cannot be read.
    """
    anchor_stack = str(stack.setting("anchorStack") or "")
    if not anchor_stack:
        return []
    anchor = StackOutputs(await asyncio.to_thread(Stack(anchor_stack, stack.directory).outputs))
    name = next((listed for listed in anchor.clusters if short_name(listed) == short_name(stack.name)), stack.name)
    return find_fleet_blockers(name, deployed.pledge, step, anchor.pledges)
