"""The decision about one run on the way to its goal: it takes the next step, pledges that it is ready, or waits.

Decided on values alone, so that a simulation of a fleet runs the very rules that deployments run.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.goal import Way
from meshtrust.rotation.pledge import Pledge, decide, find_fleet_blockers
from meshtrust.rotation.steps import Step


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """The fleet as one cluster's run sees it, by the outputs of the anchor stack.

    Attributes:
        name: Name of the cluster's stack, as the anchor stack has it.
        own: The cluster's own pledge.
        pledges: All pledges, as the anchor stack has passed them on, by stack.
        generations: The generations that the anchor stack has.
        signed: The generations under which the cluster's intermediate is signed; None if the anchor stack signs none.
    """

    name: str
    own: Pledge
    pledges: Mapping[str, Pledge]
    generations: Collection[str]
    signed: Collection[str] | None = None


@dataclass(frozen=True, kw_only=True)
class RunDecision:
    """The decision about a run.

    Attributes:
        step: The step that the run takes; None if it takes none.
        waiting: What the next step waits for; empty if the run takes it, or the goal is reached.
        pledge: The cluster's pledge from this run on; None if it is in no fleet.
        has_pledged: Whether the run pledges that the cluster is ready for the next step, and does nothing else of it.
    """

    step: Step | None = None
    waiting: Sequence[Blocker] = ()
    pledge: Pledge | None = None
    has_pledged: bool = False


def find_missing(way: Way, fleet: FleetView) -> list[Blocker]:
    """Return the generations of a goal that the anchor stack does not have yet.

    Args:
        way: The way to the goal.
        fleet: The fleet.
    """
    step = way.next
    trusted = step.before.anchors if step and step.before else ()
    missing = [name for name in way.goal.anchors if name not in fleet.generations and name not in trusted]
    if not missing:
        return []
    listed = ", ".join(missing)
    reason = f"it does not have {listed} yet. Add {listed} to its meshtrust:anchors, and deploy it"
    return [Blocker(subject="the anchor stack", reason=reason, curable=False)]


def decide_run(
    way: Way,
    *,
    blockers: Sequence[Blocker],
    fleet: FleetView | None = None,
    is_forced: bool = False,
    is_lenient: bool = False,
) -> RunDecision:
    """Return the decision about a run.

    Args:
        way: The way to the goal, from what is deployed.
        blockers: What in the own cluster makes the next step unsafe.
        fleet: The fleet; None if the cluster is in none.
        is_forced: Whether an override was given for all that blocks the next step, so that the cluster pledges nothing
            first.
        is_lenient: Whether a step that is not safe is taken (``gate.mode: warn``); what the cluster can
            pledge it pledges first.
    """
    step, takes_all = way.next, is_forced or is_lenient
    if fleet is None:
        waits = step is None or (blockers and not takes_all)
        return RunDecision(waiting=blockers) if waits else RunDecision(step=step)
    stays = fleet.own.stamped(fleet.own)
    if step is None:
        return RunDecision(pledge=stays)
    if missing := find_missing(way, fleet):
        return RunDecision(waiting=missing, pledge=stays)
    decision = decide(fleet.name, fleet.own, step, fleet.pledges, is_ready=not blockers, is_forced=is_forced)
    if not decision.takes_step:
        others = find_fleet_blockers(fleet.name, decision.pledge, step, fleet.pledges)
        return RunDecision(waiting=others, pledge=decision.pledge, has_pledged=True)
    blocking, unsigned = [*blockers, *decision.blockers], _unsigned(step, fleet)
    if unsigned or (blocking and not takes_all):
        return RunDecision(waiting=[*blocking, *unsigned], pledge=stays)
    return RunDecision(step=step, pledge=decision.pledge)


def _unsigned(step: Step, fleet: FleetView) -> list[Blocker]:
    """Return the intermediate that a switch needs and the anchor stack has not signed."""
    signer = step.after.signer
    if step.kind not in ("switch", "replace") or fleet.signed is None or signer in fleet.signed:
        return []
    reason = f"it has not signed this cluster's intermediate under {signer} yet. Deploy it"
    return [Blocker(subject="the anchor stack", reason=reason, curable=False)]
