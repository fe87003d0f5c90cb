"""A rotation of the trust anchor over a fleet: all introduce, then all switch, then all retire.

As in `meshtrust.stacks.rotator`, all state of it is in stacks and clusters: each run sees from them what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshtrust.fleet.members import Fleet, link_name
from meshtrust.fleet.state import FleetState, read_state
from meshtrust.fleet.up import deploy_anchor, pass_on
from meshtrust.fleet.waves import Board, Teller, Work, run_waves
from meshtrust.linkerd.links import read_links
from meshtrust.linkerd.rollout import Limits
from meshtrust.rotation.steps import Kind, Step, plan_rotation
from meshtrust.stacks import rotator as rotation
from meshtrust.stacks.rotator import Way
from meshtrust.stacks.stack import Stack, StackError
from meshtrust.stacks.target import Selection, Target, open_target

# The steps that are told of in a plan, and that a cluster is gone over for.
_TOLD: tuple[Kind, ...] = ("switch", "retire")


@dataclass(frozen=True, kw_only=True)
class FleetWay:
    """How a fleet is rotated.

    Attributes:
        parallel: Clusters at a time.
        lazy: Restart nothing: wait for pods to be replaced, and for leaves to be renewed, by themselves.
        limits: How gently to restart in each cluster.
    """

    parallel: int = 4
    lazy: bool = False
    limits: Limits = field(default_factory=Limits)


async def rotate_fleet(fleet: Fleet, to: str, way: FleetWay, board: Board) -> None:
    """Rotate a fleet's trust anchor to a generation, from wherever it stands.

    Args:
        fleet: The fleet.
        to: The generation.
        way: How.
        board: Who is told.

    Raises:
        FleetError: It did not end well for one of the stacks.
        IllegalStepError: The generation cannot be introduced.
        StackError: A stack cannot be read, or has not been deployed.
    """
    state = await read_state(fleet, way.parallel)
    _check_deployed(fleet, state)
    rotation.check_goal(fleet.anchor, state.anchor, to)
    if to not in state.anchor.anchors:
        await _configure_anchor(fleet, (*fleet.anchor.configured.anchors, to), f"Introduce {to}", board)

    known = frozenset(map(link_name, fleet.clusters))

    async def introduce(stack: Stack, teller: Teller) -> None:
        await _warn_of_strangers(stack, known, to, teller)
        await _take(stack, "introduce", to, _way(way, teller), teller)
        await _get_ready(stack, "switch", to, _way(way, teller), teller)

    async def switch(stack: Stack, teller: Teller) -> None:
        await _take(stack, "switch", to, _way(way, teller), teller)

    async def settle(stack: Stack, teller: Teller) -> None:
        await _get_ready(stack, "retire", to, _way(way, teller), teller)

    async def retire(stack: Stack, teller: Teller) -> None:
        await _take(stack, "retire", to, _way(way, teller), teller)

    async def over(title: str, stacks: Sequence[Stack], work: Work) -> None:
        await run_waves(title, stacks, work, parallel=way.parallel, board=board)

    switching, retiring = ([stack for stack in fleet.clusters if _has_to(kind, state, stack, to)] for kind in _TOLD)
    await over(f"Trust {to} in every cluster", switching, introduce)
    await pass_on(fleet, parallel=way.parallel, board=board)
    await over(f"Switch the signer to {to}", switching, switch)
    await over(f"Bring every certificate under {to}", retiring, settle)
    await pass_on(fleet, parallel=way.parallel, board=board)
    await over("Retire what was trusted before", retiring, retire)
    if state.anchor.anchors != (to,):
        if (await read_state(fleet, way.parallel)).anchor.protected - {to}:
            # After a step that was taken against the gate: the engine still protects what signed before.
            await deploy_anchor(fleet, f"Protect {to} instead of what signed before", board)
        await _configure_anchor(fleet, (to,), "Drop what no cluster trusts any more", board)


async def _configure_anchor(fleet: Fleet, anchors: tuple[str, ...], title: str, board: Board) -> None:
    if fleet.anchor.configured.anchors != tuple(dict.fromkeys(anchors)):
        fleet.anchor.configure_anchors(tuple(dict.fromkeys(anchors)))
    await deploy_anchor(fleet, title, board)


async def _warn_of_strangers(stack: Stack, known: frozenset[str], to: str, teller: Teller) -> None:
    """Name the Links of a cluster that lead out of the fleet, before anything is switched: nobody here waits for those.

    Args:
        stack: The cluster's stack.
        known: What Links call the clusters of the fleet.
        to: The generation that is to sign.
        teller: Who is told.
    """
    target = await open_target(Selection(stack=stack.name, directory=stack.directory))
    links = await read_links(target.api)
    if links.error:
        teller.warn(f"whether Links lead out of this fleet is not known: {links.error}")
    for link in links.found:
        if link.target not in known:
            teller.warn(
                f"{link} leads to {link.target}, which is no cluster of this fleet: what goes over it is refused from "
                f"the switch on, unless that cluster trusts {to} by then"
            )


async def _take(stack: Stack, kind: Kind, to: str, way: Way, teller: Teller) -> None:
    """Take the step of a kind, where it is the next one."""
    target, step = await _next_step(stack, to, teller)
    if step and step.kind == kind:
        await rotation.take(target, step, way, teller)


async def _get_ready(stack: Stack, kind: Kind, to: str, way: Way, teller: Teller) -> None:
    """Bring a cluster to where the step of a kind is safe in it, where it is the next one, and have it tell the others.

    The cluster is looked into even where it has told that before: who goes on with a rotation sees what has changed.
    """
    target, step = await _next_step(stack, to, teller)
    if step is None or step.kind != kind:
        return
    deployed = target.deployed
    if deployed and deployed.pledge.ready_for(step) == deployed.pledge:
        await rotation.prepare(target, step, way, teller)
    else:
        await rotation.get_ready(target, step, way, teller, only_pledges=True)


async def _next_step(stack: Stack, to: str, teller: Teller) -> tuple[Target, Step | None]:
    """Return the step that a cluster has to take next; what is configured and leads elsewhere is taken back."""
    target = await open_target(Selection(stack=stack.name, directory=stack.directory))
    step = rotation.next_step(target, to)
    deployed = target.deployed.trust if target.deployed else None
    if step and deployed and not _leads_to(step, to):
        rotation.set_back(target, teller)
        step = rotation.next_step(target, to)
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


def _way(way: FleetWay, teller: Teller) -> Way:
    return Way(lazy=way.lazy, limits=way.limits, write=teller.write)
