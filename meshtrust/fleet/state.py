"""What the stacks of a fleet have deployed."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from meshtrust.deployment import Deployment
from meshtrust.fleet.stacks import Fleet
from meshtrust.stack import MissingStackError, Stack


@dataclass(frozen=True, kw_only=True)
class FleetState:
    """The last deployments of a fleet's stacks.

    Attributes:
        anchor: That of the anchor stack.
        clusters: Those of the clusters, by stack.
        missing: Names of the stacks that the backend does not know yet.
    """

    anchor: Deployment
    clusters: Mapping[str, Deployment]
    missing: frozenset[str]

    def unsigned(self, stack: str) -> frozenset[str]:
        """Return the generations of which a cluster has asked for an intermediate, and has none yet."""
        cluster = self.clusters[stack]
        known = {**cluster.intermediates, **self.anchor.intermediates_of(stack)}
        return frozenset(cluster.requests) - frozenset(known)

    @property
    def to_sign(self) -> list[str]:
        """The clusters that wait for the anchor stack to sign."""
        return [stack for stack in self.clusters if self.unsigned(stack)]


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

    async def read(stack: Stack) -> Deployment:
        async with limit:
            try:
                return Deployment(await asyncio.to_thread(stack.outputs))
            except MissingStackError:
                missing.add(stack.name)
                return Deployment({})

    anchor, *clusters = await asyncio.gather(*map(read, fleet.stacks))
    names = [stack.name for stack in fleet.clusters]
    return FleetState(anchor=anchor, clusters=dict(zip(names, clusters, strict=True)), missing=frozenset(missing))
