"""A rotation of a fleet's trust anchor: all clusters introduce the new one, then all switch, then all retire the old.

The goal is declared in every stack first. The stacks are then run in an order in which no cluster is ahead of the
others by a step. As in `meshtrust.stacks.rotator`, the rotation keeps no state of its own: each run reads from the
stacks what is left.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from meshtrust.cluster.api import ClusterError
from meshtrust.fleet.members import Fleet
from meshtrust.fleet.state import FleetState, read_state
from meshtrust.fleet.up import deploy, deploy_anchor, pass_on
from meshtrust.fleet.waves import Work, run_all, run_waves
from meshtrust.linkerd.evidence import read_mesh
from meshtrust.linkerd.external_peers import read_unseen
from meshtrust.rotation.steps import Kind, Step, Trust, plan_rotation
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import BlockedError, Progress, StackProgress
from meshtrust.stacks.rotator import (
    RotationOptions,
    check_goal,
    deploy_step,
    next_step,
    restart_until_safe,
    run_step,
    set_back,
)
from meshtrust.stacks.stack import Stack, StackError
from meshtrust.stacks.target import Selection, Target, open_target

# Times that the remaining steps are taken: another run may have gone back meanwhile, once.
_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class FleetRotationOptions(RotationOptions):
    """Options of a rotation over a fleet: those of each cluster's, and how many clusters at a time.

    Attributes:
        parallel: Clusters at a time.
    """

    parallel: int = 4


async def rotate_fleet(fleet: Fleet, to: str, options: FleetRotationOptions, progress: Progress) -> None:
    """Rotate a fleet's trust anchor to a generation, from any phase.

    The goal is written into the files of all stacks first, so that whatever runs one of them meanwhile, or after this
    has been killed, goes the same way. A stack with ``rotation.mode: step`` gets one state after the other instead.

    Args:
        fleet: The fleet.
        to: The generation.
        options: Options of the rotation.
        progress: Where the work is reported.

    Raises:
        FleetError: A step failed in one of the stacks, or has to wait there.
        IllegalStepError: The generation cannot be introduced.
        StackError: A stack cannot be read, or has not been deployed.
    """
    state = await read_state(fleet, options.parallel)
    _check_deployed(fleet, state)
    check_goal(fleet.anchor, state.anchor, to)
    for stack in fleet.clusters:
        check_goal(stack, state.clusters[stack.name], to)
    await _set_goals(fleet, to, options, progress)
    for _ in range(_ROUNDS):
        if not _find_left(fleet, state, to):
            return
        await _take_steps(fleet, state, to, options, progress)
        state = await read_state(fleet, options.parallel)

    async def tell(stack: Stack, _: StackProgress) -> None:
        raise BlockedError(_describe_left(stack, state, to), [])

    await run_all(f"See {to} as the only anchor", _find_left(fleet, state, to), tell, parallel=1, progress=progress)


async def _set_goals(fleet: Fleet, to: str, options: FleetRotationOptions, progress: Progress) -> None:
    """Write the goal into the file of each stack that reconciles, before the first of them is run."""
    goal = _goal(to)

    async def set_goal(stack: Stack, own: StackProgress) -> None:
        stack.set_goal(goal.anchors if stack == fleet.anchor else goal)
        own.note(f"{stack.file.name} now has the goal {to}")

    unset = [stack for stack in fleet.stacks if stack.reconciles and not _has_goal(fleet, stack, goal)]
    await run_all(f"Set the goal {to}", unset, set_goal, parallel=options.parallel, progress=progress)


def _goal(to: str) -> Trust:
    return Trust(anchors=(to,), signer=to)


def _has_goal(fleet: Fleet, stack: Stack, goal: Trust) -> bool:
    configured = stack.configured
    return configured.anchors == goal.anchors if stack == fleet.anchor else configured == goal


def _find_left(fleet: Fleet, state: FleetState, to: str) -> list[Stack]:
    """Return the stacks in which a generation is not the only anchor yet."""
    goal = _goal(to)
    left = [stack for stack in fleet.clusters if state.clusters[stack.name].trust != goal]
    return left if state.anchor.anchors == goal.anchors else [fleet.anchor, *left]


def _describe_left(stack: Stack, state: FleetState, to: str) -> str:
    """Return that a stack has not reached a goal, although its steps were taken, and what its last run waited for."""
    deployed = state.clusters.get(stack.name, state.anchor)
    waiting = "; ".join(deployed.rotation.waiting_lines) if deployed.rotation else ""
    return (
        f"It has {', '.join(deployed.anchors)}, and not {to} alone, as after another run that has changed its goal "
        f"meanwhile{f' (it waits for {waiting})' if waiting else ''}. Run the same command again"
    )


async def _take_steps(
    fleet: Fleet, state: FleetState, to: str, options: FleetRotationOptions, progress: Progress
) -> None:
    """Take all clusters through the steps that are left, each step in all of them before the next."""
    if to not in state.anchor.anchors:
        if not fleet.anchor.reconciles:
            _configure_anchors(fleet.anchor, (*fleet.anchor.configured.anchors, to))
        await deploy_anchor(fleet, f"Introduce {to}", progress)

    # A stack in mode step goes by the states of its steps, for which alone the goal is left out.
    options = replace(options, goal=_goal(to))

    async def introduce(stack: Stack, own: StackProgress) -> None:
        await _warn_of_strangers(stack, to, own)
        await _take(stack, "introduce", to, options, own)
        await _get_ready(stack, "switch", to, options, own)

    async def switch(stack: Stack, own: StackProgress) -> None:
        await _take(stack, "switch", to, options, own)

    async def settle(stack: Stack, own: StackProgress) -> None:
        await _get_ready(stack, "retire", to, options, own)

    async def retire(stack: Stack, own: StackProgress) -> None:
        await _take(stack, "retire", to, options, own)

    async def over(title: str, stacks: Sequence[Stack], work: Work) -> None:
        await run_waves(title, stacks, work, parallel=options.parallel, progress=progress)

    # A cluster that has to retire a generation may have switched already.
    switching = [stack for stack in fleet.clusters if _has_to("switch", state, stack, to)]
    retiring = [stack for stack in fleet.clusters if _has_to("retire", state, stack, to)]
    await over(f"Trust {to} in every cluster", switching, introduce)
    await pass_on(fleet, parallel=options.parallel, progress=progress)
    await over(f"Switch the signer to {to}", switching, switch)
    await over(f"Bring every certificate under {to}", retiring, settle)
    await pass_on(fleet, parallel=options.parallel, progress=progress)
    await over("Retire what was trusted before", retiring, retire)
    if state.anchor.anchors != (to,):
        if (await read_state(fleet, options.parallel)).anchor.protected - {to}:
            # A step was taken against the gate, and the engine still protects the generation that signed before it.
            await deploy_anchor(fleet, f"Protect {to} instead of what signed before", progress)

        async def drop(stack: Stack, own: StackProgress) -> None:
            await _drop_others(stack, to, own)

        await run_all("Drop what no cluster trusts any more", [fleet.anchor], drop, parallel=1, progress=progress)


def _configure_anchors(anchor: Stack, anchors: tuple[str, ...]) -> None:
    """Write the next state of an anchor stack in mode ``step``."""
    anchors = tuple(dict.fromkeys(anchors))
    if anchor.configured.anchors != anchors:
        anchor.configure_anchors(anchors)


async def _drop_others(anchor: Stack, to: str, progress: StackProgress) -> None:
    """Deploy an anchor stack with one generation alone.

    Raises:
        BlockedError: It keeps others, because a cluster trusts them again or still.
        StackError: It cannot be edited, deployed or read.
    """
    if not anchor.reconciles:
        _configure_anchors(anchor, (to,))
    await deploy(anchor, progress)
    deployed = StackOutputs(await asyncio.to_thread(anchor.outputs))
    kept = [name for name in deployed.anchors if name != to]
    if kept:
        why = "; ".join(deployed.rotation.waiting_lines) if deployed.rotation else ""
        msg = f"The anchor stack keeps {', '.join(kept)} for now" + (f": {why}" if why else "")
        raise BlockedError(msg, [])


async def _warn_of_strangers(stack: Stack, to: str, progress: StackProgress) -> None:
    """Warn of what a cluster is tied to outside of the fleet, before any switch: its gate wants each acknowledged.

    Args:
        stack: The cluster's stack.
        to: The generation that is to sign.
        progress: Where the work is reported.
    """
    target = await open_target(Selection(stack=stack.name, directory=stack.directory))
    fleet = await target.read_fleet()
    try:
        unseen = await read_unseen(target.api, await read_mesh(target.api, target.namespace))
    except ClusterError as error:
        progress.warn(f"who trusts its roots from outside of this fleet is not known: {error}")
        return
    for subject in (unseen.outside_of(fleet) if fleet else unseen).subjects:
        progress.warn(
            f"{subject} may tie it to what is not of this fleet: such connections are refused from the switch on, "
            f"unless both ends trust {to} by then. The switch waits until you say so"
        )


async def _take(stack: Stack, kind: Kind, to: str, options: RotationOptions, progress: StackProgress) -> None:
    """Take the step of a kind, if it is the next one."""
    target, step = await _next_step(stack, to, progress)
    if step and step.kind == kind:
        await run_step(target, step, options, progress)


async def _get_ready(stack: Stack, kind: Kind, to: str, options: RotationOptions, progress: StackProgress) -> None:
    """Restart workloads until the step of a kind is safe in a cluster, if it is the next one, and pledge that.

    The cluster is looked at even if it has pledged that before: it may have changed before the rotation was resumed.
    """
    target, step = await _next_step(stack, to, progress)
    if step is None or step.kind != kind:
        return
    deployed = target.deployed
    if deployed and deployed.pledge.ready_for(step) == deployed.pledge:
        await restart_until_safe(target, step, options, progress)
    else:
        await deploy_step(target, step, options, progress, only_pledges=True)


async def _next_step(stack: Stack, to: str, progress: StackProgress) -> tuple[Target, Step | None]:
    """Return the next step of a cluster; a configured step that leads to another generation is set back first."""
    target = await open_target(Selection(stack=stack.name, directory=stack.directory))
    step = next_step(target, to)
    deployed = target.deployed.trust if target.deployed else None
    if step and deployed and not _leads_to(step, to):
        set_back(target, progress)
        step = next_step(target, to)
    return target, step


def _leads_to(step: Step, to: str) -> bool:
    return to in step.after.anchors and (step.kind != "switch" or step.after.signer == to)


def _has_to(kind: Kind, state: FleetState, stack: Stack, to: str) -> bool:
    trust = state.clusters[stack.name].trust
    return trust is not None and any(step.kind == kind for step in plan_rotation(trust, to))


def _check_deployed(fleet: Fleet, state: FleetState) -> None:
    waiting = [stack.name for stack in fleet.clusters if state.clusters[stack.name].trust is None]
    if not state.anchor.anchors:
        waiting.insert(0, fleet.anchor.name)
    if waiting:
        msg = f"Not deployed yet: {', '.join(waiting)}. A fleet is rotated as a whole. Run first: meshtrust fleet up"
        raise StackError(msg)
