"""Deployment of a fleet as its files say, also for the first time."""

import asyncio
from collections.abc import Sequence

from meshtrust.fleet.members import Fleet
from meshtrust.fleet.state import FleetState, read_state
from meshtrust.fleet.waves import run_all, run_waves
from meshtrust.stacks.progress import Progress, StackProgress
from meshtrust.stacks.stack import Stack

# The most clusters that a heading names.
_NAMED = 5


async def deploy_fleet(fleet: Fleet, *, parallel: int, progress: Progress, secrets_provider: str = "") -> None:
    """Deploy a fleet: the anchor stack, the intermediates that the clusters request, then the clusters in waves.

    If a step of a rotation is configured, the clusters first pledge that they are ready, and then take it.

    Args:
        fleet: The fleet.
        parallel: How many stacks at a time.
        progress: Where the work is reported.
        secrets_provider: What encrypts the secrets of a new stack; empty for the backend's own.

    Raises:
        FleetError: A stack cannot be created or deployed.
        StackError: The outputs of one cannot be read.
    """
    state = await read_state(fleet, parallel)

    async def make(stack: Stack, _: StackProgress) -> None:
        await asyncio.to_thread(stack.init, secrets_provider)

    missing = [stack for stack in fleet.stacks if stack.name in state.missing]
    await run_all("Make the stacks", missing, make, parallel=parallel, progress=progress)
    await deploy_anchor(fleet, "Deploy the trust anchor", progress)

    # The anchor stack reads requests from the clusters' outputs, and the clusters read certificates from its outputs.
    asking = [stack for stack in fleet.clusters if not _has_asked(stack, state)]
    await run_all("Ask for intermediates", asking, deploy, parallel=parallel, progress=progress)
    await pass_on(fleet, parallel=parallel, progress=progress)
    await run_waves("Deploy the clusters", fleet.clusters, deploy, parallel=parallel, progress=progress)
    after = await pass_on(fleet, parallel=parallel, progress=progress)
    waiting = [stack for stack in fleet.clusters if after.clusters[stack.name].trust != stack.configured]
    await run_waves("Take the step that all are ready for", waiting, deploy, parallel=parallel, progress=progress)


async def deploy(stack: Stack, progress: StackProgress) -> None:
    """Deploy one stack.

    Raises:
        StackError: It cannot be deployed.
    """
    await asyncio.to_thread(stack.up, progress.write_engine_line)


async def deploy_anchor(fleet: Fleet, title: str, progress: Progress) -> None:
    """Deploy the anchor stack.

    Raises:
        FleetError: It cannot be deployed.
    """
    await run_all(title, [fleet.anchor], deploy, parallel=1, progress=progress)


async def pass_on(fleet: Fleet, *, parallel: int, progress: Progress) -> FleetState:
    """Deploy the anchor stack if there are new requests to sign or new pledges to pass on.

    Returns:
        The outputs of the fleet's stacks before that.

    Raises:
        FleetError: The anchor stack cannot be deployed.
        StackError: The outputs of a stack cannot be read.
    """
    state = await read_state(fleet, parallel)
    if state.to_sign:
        await deploy_anchor(fleet, f"Sign the intermediates of {_name(state.to_sign)}", progress)
    elif state.to_pass_on:
        await deploy_anchor(fleet, f"Pass on the pledges of {_name(state.to_pass_on)}", progress)
    return state


def _name(stacks: Sequence[str]) -> str:
    return ", ".join(stacks) if len(stacks) <= _NAMED else f"{len(stacks)} clusters"


def _has_asked(stack: Stack, state: FleetState) -> bool:
    """Whether a cluster was deployed before, or has requested intermediates for its configured anchors."""
    deployed = state.clusters[stack.name]
    return deployed.trust is not None or deployed.pledge.anchors == stack.configured.anchors
