"""Reading the state of a fleet's credentials."""

import asyncio
from datetime import UTC, datetime

from meshtrust.cluster.api import ClusterError
from meshtrust.fleet.checks import check_clusters, check_pledge, find_earlier_signers
from meshtrust.fleet.members import Fleet, link_name
from meshtrust.fleet.view import ClusterView, FleetView
from meshtrust.linkerd.links import read_links
from meshtrust.pki.pem import fingerprint
from meshtrust.stacks.inspection import MinimumLifetimes, inspect, judge
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import MissingStackError, Stack, StackError
from meshtrust.stacks.target import Selection, open_target


async def inspect_fleet(fleet: Fleet, budget: MinimumLifetimes, parallel: int) -> FleetView:
    """Read a fleet's credentials and judge them; a cluster that cannot be read does not stop the others.

    Args:
        fleet: The fleet.
        budget: How much life must be left.
        parallel: Clusters at a time.

    Raises:
        StackError: The anchor stack cannot be read, or has not been deployed.
    """
    limit = asyncio.Semaphore(parallel)

    async def look(stack: Stack) -> ClusterView:
        async with limit:
            return await _look(stack, budget)

    deployed = await _read_anchor(fleet.anchor)
    clusters, links = check_clusters(await asyncio.gather(*map(look, fleet.clusters)))
    return FleetView(
        anchor_stack=fleet.anchor.name,
        roots=deployed.certificates,
        clusters=clusters,
        links=links,
        now=datetime.now(UTC),
        rotation=deployed.rotation,
    )


async def _read_anchor(stack: Stack) -> StackOutputs:
    deployed = StackOutputs(await asyncio.to_thread(stack.outputs))
    if not deployed.anchors:
        msg = f'The anchor stack "{stack.name}" has not been deployed yet. Run: meshtrust fleet up'
        raise StackError(msg)
    return deployed


async def _look(stack: Stack, budget: MinimumLifetimes) -> ClusterView:
    name = link_name(stack)
    try:
        target = await open_target(Selection(stack=stack.name, directory=stack.directory))
        deployed = target.deployed
        if deployed is None or deployed.trust is None:
            return ClusterView(stack=stack.name, link_name=name)
        inspection, links = await asyncio.gather(inspect(target), read_links(target.api))
    except MissingStackError:
        return ClusterView(stack=stack.name, link_name=name)
    except (StackError, ClusterError) as error:
        return ClusterView(stack=stack.name, link_name=name, error=str(error))
    earlier = find_earlier_signers(
        deployed.transitions, deployed.pledge.released, inspection.mesh.leaf_lifetime, inspection.now
    )
    return ClusterView(
        stack=stack.name,
        link_name=name,
        inspection=inspection,
        findings=(*check_pledge(inspection, deployed.pledge), *judge(inspection, budget)),
        pledge=deployed.pledge,
        # What it has retired nothing in it was under.
        earlier=frozenset(fingerprint(root) for name, root in inspection.deployed.items() if name in earlier),
        links=links,
    )
