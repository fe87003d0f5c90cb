"""A fleet brought to what its files say, from nothing if need be."""

import asyncio
from collections.abc import Sequence

from meshtrust.fleet.members import Fleet
from meshtrust.fleet.state import FleetState, read_state
from meshtrust.fleet.waves import Board, Teller, run_all, run_waves
from meshtrust.stacks.stack import Stack

# A heading names so many clusters.
_NAMED = 5


async def deploy_fleet(fleet: Fleet, *, parallel: int, board: Board, secrets_provider: str = "") -> None:
    """Deploy a fleet: the anchor stack, what the clusters want signed, then the clusters in waves.

    Where a step of a rotation is configured, the clusters first tell each other that they are ready, and then take it.

    Args:
        fleet: The fleet.
        parallel: How many stacks at a time.
        board: Who is told.
        secrets_provider: What encrypts a stack that has to be made; empty for the backend's own.

    Raises:
        FleetError: A stack cannot be made or deployed.
        StackError: The outputs of one cannot be read.
    """
    state = await read_state(fleet, parallel)

    async def make(stack: Stack, _: Teller) -> None:
        await asyncio.to_thread(stack.init, secrets_provider)

    missing = [stack for stack in fleet.stacks if stack.name in state.missing]
    await run_all("Make the stacks", missing, make, parallel=parallel, board=board)
    await deploy_anchor(fleet, "Deploy the trust anchor", board)

    # What a cluster asks for can be signed once it is in its outputs, and used once it is in the anchor stack's.
    asking = [stack for stack in fleet.clusters if not _has_asked(stack, state)]
    await run_all("Ask for intermediates", asking, deploy, parallel=parallel, board=board)
    await pass_on(fleet, parallel=parallel, board=board)
    await run_waves("Deploy the clusters", fleet.clusters, deploy, parallel=parallel, board=board)
    after = await pass_on(fleet, parallel=parallel, board=board)
    waiting = [stack for stack in fleet.clusters if after.clusters[stack.name].trust != stack.configured]
    await run_waves("Take the step that all are ready for", waiting, deploy, parallel=parallel, board=board)


async def deploy(stack: Stack, teller: Teller) -> None:
    """Deploy one stack."""
    await asyncio.to_thread(stack.up, teller.write)


async def deploy_anchor(fleet: Fleet, title: str, board: Board) -> None:
    """Deploy the anchor stack.

    Raises:
        FleetError: It cannot be deployed.
    """
    await run_all(title, [fleet.anchor], deploy, parallel=1, board=board)


async def pass_on(fleet: Fleet, *, parallel: int, board: Board) -> FleetState:
    """Have the anchor stack sign what clusters have asked for, and pass on what they have pledged, where it is new.

    Returns:
        What was deployed before that.

    Raises:
        FleetError: The anchor stack cannot be deployed.
        StackError: The outputs of a stack cannot be read.
    """
    state = await read_state(fleet, parallel)
    if state.to_sign:
        await deploy_anchor(fleet, f"Sign the intermediates of {_name(state.to_sign)}", board)
    elif state.to_pass_on:
        await deploy_anchor(fleet, f"Pass on what was told by {_name(state.to_pass_on)}", board)
    return state


def _name(stacks: Sequence[str]) -> str:
    return ", ".join(stacks) if len(stacks) <= _NAMED else f"{len(stacks)} clusters"


def _has_asked(stack: Stack, state: FleetState) -> bool:
    """Whether a cluster was deployed before, or has announced itself as it is configured."""
    deployed = state.clusters[stack.name]
    return deployed.trust is not None or deployed.pledge.anchors == stack.configured.anchors
