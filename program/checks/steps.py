"""The decision about a step of a rotation, by the evidence in the cluster and the pledges of its fleet."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NoReturn

import pulumi

from meshtrust.cluster.api import Api
from meshtrust.pki.chain import find_chain
from meshtrust.pki.pem import read_bundle
from meshtrust.rotation.drift import find_drift, find_left_behind
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.goal import Way
from meshtrust.rotation.known_roots import Held
from meshtrust.rotation.overrides import number_refusal
from meshtrust.rotation.pledge import Pledge, blocks_joining, find_fleet_blockers
from meshtrust.rotation.reconcile import decide_run
from meshtrust.rotation.replacement import blocks_replace_in_fleet
from meshtrust.rotation.steps import PLEDGE_ONLY, Step
from meshtrust.stacks.audit import name_actor
from meshtrust.stacks.outputs import StackOutputs
from program.checks.evidence import acknowledgements, look
from program.checks.issuance import known_roots
from program.checks.overrides import describe_blockers, given_reason, list_blockers, override_or_refuse
from program.checks.plan import CheckedStep
from program.checks.upgrade import find_upgrades, refuse_upgrade
from program.checks.way import settings_at, until_signed
from program.configuration.settings import Settings
from program.membership import Membership


@dataclass(frozen=True, kw_only=True)
class StepDecision:
    """The part of the way to the goal that a run takes.

    Attributes:
        settings: The settings that the run deploys; if it takes no step, at the generations of the last deployment.
        pledge: The pledge of the cluster to its fleet from this run on; None if it is in no fleet.
        step: The step that the run takes; None if it takes none.
        waiting: What the next step waits for; empty if the run takes it.
        entries: The run's entries in the audit trail: the step's, and those of what goes ahead by an override.
        checked_step: The step that is checked again right before it is taken; None if no evidence decided.
    """

    settings: Settings
    pledge: Pledge | None
    step: Step | None = None
    waiting: Sequence[Blocker] = ()
    entries: Sequence[dict[str, Any]] = ()
    checked_step: CheckedStep | None = None


async def decide_step(
    api: "Api | None", settings: Settings, last: StackOutputs, way: Way, fleet: Membership | None, *, held: Held
) -> StepDecision:
    """Decide about the next step to the goal, by the evidence in the cluster and by the pledges of its fleet.

    A cluster of a fleet that is ready for a step, and has not pledged so yet, does only that in its next run. Where the
    environment has MESHTRUST_PLEDGE_ONLY=1, a run does nothing else, whatever overrides and gate.mode say.

    Args:
        api: Client of the cluster; None offline, where no cluster is asked.
        settings: The stack's settings, which have the goal.
        last: The outputs of its last deployment.
        way: The way to the goal.
        fleet: The cluster's place in its fleet; None if it is in none.
        held: The trust that the cluster holds.

    Raises:
        pulumi.RunError: The step is not safe, the configuration does not say that it is taken nevertheless, and the run
            cannot wait: in mode ``step``, and before the first deployment.
        IllegalStepError: What the deployed signer needs is not configured any more.
        ClusterError: The cluster cannot be read.
    """
    only_pledges = _only_pledges(last, fleet)
    step = way.next
    stage = settings_at(settings, last, step.after if step else way.goal)
    stage = until_signed(stage, last, fleet)
    if step is None:
        if only_pledges:
            _refuse_pledge_without_step()
        drift = await _check_drift(api, stage, last, None, held)
        pledge = await _keep(api, stage, last, fleet) if fleet else None
        return StepDecision(settings=stage, pledge=pledge, entries=drift)
    waits = settings.rotation.mode == "reconcile" and last.trust is not None
    upgrades = find_upgrades(stage, last, step, only_pledges=only_pledges)
    if upgrades and (only_pledges or not waits):
        refuse_upgrade(upgrades, step)
    if step.kind in ("deploy", "introduce", "replace"):
        _refuse_ended(stage, step)
    drift = await _check_drift(api, stage, last, step, held)
    if fleet:
        _refuse_strangers(stage, step, fleet)
        if last.trust and step.kind == "replace" and not fleet.has_signed(stage):
            stays = settings_at(settings, last, last.trust)
            return replace(_request_first(stays, step, fleet), entries=drift)
    blockers = [*await _look(api, stage, last, step), *map(_as_blocker, upgrades)]
    if fleet and only_pledges and last.trust:
        return replace(_pledge(settings_at(settings, last, last.trust), step, blockers, fleet), entries=drift)
    blocking = [*blockers, *(_fleet_blockers(step, last, fleet) if fleet else [])]
    decision = decide_run(
        way,
        blockers=blocking if step.kind == "replace" else blockers,
        fleet=fleet.view(stage, reconciles=waits) if fleet else None,
        # An override and the mode of the gate are about what is not ready, and never have an upgrade go along.
        is_forced=bool(not upgrades and blocking and given_reason(settings, last, step, blocking)),
        is_lenient=not upgrades and settings.gate.mode == "warn",
    )
    if decision.step is None and last.trust:
        if fleet and decision.has_pledged:
            _report_pledge(step, fleet, decision.waiting)
        elif waits:
            _report_waiting(settings, last, step, decision.waiting, fleet, upgrades=upgrades)
        if decision.has_pledged or waits:
            stays = settings_at(settings, last, last.trust)
            drift = await _check_drift(api, stays, last, None, held)
            _report_way_back(stays, last, held)
            return StepDecision(settings=stays, pledge=decision.pledge, waiting=decision.waiting, entries=drift)
    gate = _take(settings, last, step, blocking, fleet, asked=api is not None)
    checked = None
    if api is not None and step.kind in ("switch", "retire") and gate["gate"] != "warned":
        checked = CheckedStep(step=step, accepted=tuple(blocking))
    entries = [*drift, _entry(step) | gate]
    return StepDecision(settings=stage, pledge=decision.pledge, step=step, entries=entries, checked_step=checked)


def _only_pledges(last: StackOutputs, fleet: Membership | None) -> bool:
    """Return whether the run may only pledge.

    Raises:
        pulumi.RunError: The environment says so, and the stack has nobody to pledge to, or nothing deployed.
    """
    if os.environ.get(PLEDGE_ONLY) != "1":
        return False
    if fleet is None:
        msg = f"{PLEDGE_ONLY}=1 is for clusters of a fleet, and this stack is in none. Unset it.\nNothing was changed."
        raise pulumi.RunError(msg)
    if last.trust is None:
        msg = (
            f"{PLEDGE_ONLY}=1 is for clusters that are deployed, and this run would deploy the first time. Unset it.\n"
            "Nothing was changed."
        )
        raise pulumi.RunError(msg)
    return True


def _refuse_pledge_without_step() -> NoReturn:
    msg = (
        f"{PLEDGE_ONLY}=1 is for a run that pledges to the fleet what its cluster is ready for, and no step is "
        "configured here. Unset it to deploy whatever else has changed, or configure the step.\nNothing was changed."
    )
    raise pulumi.RunError(msg)


def _request_first(stays: Settings, step: Step, fleet: Membership) -> StepDecision:
    """Return the decision of a run that requests an intermediate under a root which replaces those that have ended."""
    signer, anchor = step.after.signer, fleet.anchor_stack
    pulumi.log.warn(
        f"All anchors have ended. This run asks the anchor stack to sign under {signer}, and changes nothing else yet. "
        f"Next run: pulumi up --stack {anchor}; then again: pulumi up --stack {pulumi.get_stack()}"
    )
    reason = f"it has not signed under {signer} yet. Deploy it"
    waiting = [Blocker(subject="the anchor stack", reason=reason, curable=False)]
    return StepDecision(settings=stays, pledge=fleet.pledge.stamped(fleet.pledge), waiting=waiting)


def _as_blocker(upgrade: str) -> Blocker:
    return Blocker(
        subject="this run",
        reason=f"it upgrades, and one run takes one step ({upgrade}). The next run goes on",
        curable=False,
    )


def _report_waiting(
    settings: Settings,
    last: StackOutputs,
    step: Step,
    waiting: Sequence[Blocker],
    fleet: Membership | None,
    *,
    upgrades: Sequence[str],
) -> None:
    """Write to the engine's log what a step waits for, and how it goes on."""
    number = number_refusal(step, waiting, len(last.transitions))
    restarts = settings.rotation.restart == "workloads"
    cure = (
        ""
        if not any(blocker.curable and blocker.workload for blocker in waiting)
        else ("This run restarts what a restart cures, once Linkerd is ready. " if restarts else f"{_cure(fleet)} ")
    )
    override = (
        ""
        if upgrades
        else " To go on at once, give a reason: pulumi config set --path "
        f'gate.overrides.{step.name} "{number} <reason>"'
    )
    pulumi.log.warn(
        f"{describe_blockers(step, waiting, in_fleet=fleet is not None)}\nThis run leaves anchors and signer as "
        f"they are ({step.before}). {cure}The next run goes on by itself when that is done.{override}"
    )


def _report_way_back(stays: Settings, last: StackOutputs, held: Held) -> None:
    """Write to the engine's log that a run that waits takes back what a run that was killed has left in the cluster."""
    for move in _find_drift(stays, last, held):
        if move.kind == "switch":
            pulumi.log.warn(
                f"The identity issuer in the cluster is not under {stays.trust.signer}, which signs by this stack's "
                f"outputs, as after a switch that was killed. This run has {stays.trust.signer} sign again."
            )


def _entry(step: Step) -> dict[str, Any]:
    """Return a step's entry in the audit trail, as it is where no gate was asked."""
    return {
        "step": step.kind,
        "generations": list(step.generations),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": name_actor(os.environ),
        "gate": "none",
    }


def _pledge(stays: Settings, step: Step, blockers: list[Blocker], fleet: Membership) -> StepDecision:
    """Return the decision of a run that only pledges.

    Raises:
        pulumi.RunError: The cluster is not ready for the step; no override and no mode of the gate makes it so.
    """
    if blockers:
        msg = (
            f"{describe_blockers(step, blockers)}\nThis run was to pledge to the fleet that this cluster is ready for "
            f"it ({PLEDGE_ONLY}=1), which no override says in its place. {_cure(fleet)}\nNothing was changed."
        )
        raise pulumi.RunError(msg)
    pledge = fleet.pledge.ready_for(step).stamped(fleet.pledge)
    others = find_fleet_blockers(fleet.name, pledge, step, fleet.anchor.pledges)
    _report_pledge(step, fleet, [blocker for blocker in others if blocker.stack])
    return StepDecision(settings=stays, pledge=pledge, waiting=others)


async def _check_drift(
    api: "Api | None", settings: Settings, last: StackOutputs, step: Step | None, held: Held
) -> list[dict[str, Any]]:
    """Check what a run would change of the cluster's trust although the last deployment says that it is so already.

    A state that was restored from a backup is older than the cluster: what it holds as deployed may be a step back, by
    more than one step, which no configured step shows.

    Returns:
        An entry for the audit trail for each move that goes ahead by an override.

    Raises:
        pulumi.RunError: Pods would lose mesh connectivity.
    """
    if api is None or last.trust is None or (step and step.kind in ("deploy", "replace")):
        return []
    wanted = known_roots(settings, last)
    entries = []
    for move in _find_drift(settings, last, held):
        if move.kind == "switch":
            blockers = await look(api, settings, last, move, wanted)
        else:
            blockers = await find_left_behind(api, settings.linkerd.namespace, list(wanted.values()))
        if blockers:
            cure = _explain_drift(move, last, held)
            entries.append(_entry(move) | override_or_refuse(settings, last, move, blockers, cure))
    return entries


def _explain_drift(move: Step, last: StackOutputs, held: Held) -> str:
    """Return why a cluster is ahead of a stack's outputs, and the ways out."""
    now = datetime.now(UTC)
    signing = [name for name, root in last.certificates.items() if find_chain(held.issuer, [root], now)]
    if move.kind == "switch" and signing:
        return (
            f"The identity issuer in the cluster is under {signing[0]} already, as after a switch that was killed or "
            "that failed at its end. Do what is listed; or finish that switch: set meshtrust:signer to "
            f'"{signing[0]}", and deploy again.'
        )
    return (
        "The cluster is ahead of this stack's state, as after its restoration from a backup. Restore a later state; "
        "or, if there is none, set the stack up again with the root that signs in the cluster, brought along "
        "(docs/runbook.md, A lost key)."
    )


def _find_drift(settings: Settings, last: StackOutputs, held: Held) -> Sequence[Step]:
    """Return the moves of a run in the cluster that the last deployment's outputs have already."""
    if last.trust is None:
        return ()
    external = {name: read_bundle(pem)[0] for name, pem in settings.anchor.certificates.items()}
    # In mode external-issuer the stack decides who signs, too, by the reference in its Certificate.
    signs = settings.issuer.mode != "external-secret"
    known, wanted = {**last.certificates, **external}, known_roots(settings, last)
    return tuple(find_drift(held, known, wanted, settings.trust, last.trust, signs=signs))


async def _keep(api: "Api | None", settings: Settings, last: StackOutputs, fleet: Membership) -> Pledge:
    """Return the pledge of a run that takes no step; what signs is accepted as soon as it can be."""
    trust, pledge = settings.trust, fleet.pledge
    if api and trust.signer not in pledge.accepts:
        signing = Step(kind="switch", generations=(trust.signer,), before=trust, after=trust)
        if blockers := await _look(api, settings, last, signing):
            pulumi.log.warn(
                f"This run does not pledge to its fleet that all its pods trust {trust.signer}, which signs here:"
                f"{list_blockers(blockers)}\nUntil one does, no other cluster can switch to {trust.signer}."
            )
        else:
            pledge = pledge.accepting(trust.signer)
    return pledge.stamped(fleet.pledge)


async def _look(api: "Api | None", settings: Settings, last: StackOutputs, step: Step) -> list[Blocker]:
    if api is None:
        return []
    acknowledged = acknowledgements(settings, last, step)
    for subject in acknowledged.given:
        if reason := acknowledged.reason(step, subject):
            pulumi.log.info(f"{subject} is not waited for, because meshtrust:gate.acknowledged says: {reason}")
    blockers = await look(api, settings, last, step)
    for void in acknowledged.find_void(step, {blocker.subject: blocker.is_external for blocker in blockers}):
        pulumi.log.warn(void)
    return blockers


def _fleet_blockers(step: Step, last: StackOutputs, fleet: Membership) -> list[Blocker]:
    pledges = fleet.anchor.pledges
    if step.kind == "replace":
        return blocks_replace_in_fleet(fleet.name, step, pledges, last.certificates, datetime.now(UTC))
    return find_fleet_blockers(fleet.name, fleet.pledge, step, pledges)


def _take(
    settings: Settings,
    last: StackOutputs,
    step: Step,
    blockers: list[Blocker],
    fleet: Membership | None,
    *,
    asked: bool,
) -> dict[str, Any]:
    """Return what the audit trail says of the gate, or refuse the step."""
    judged = step.kind in ("switch", "retire", "replace") or (step.kind == "deploy" and fleet is not None)
    if not judged:
        pulumi.log.info(f"This run takes the step: {step}.")
        return {}
    if not blockers and not asked:
        pulumi.log.info(f"This run takes the step: {step}. No cluster was asked whether it is ready for it.")
        return {"gate": "unasked"}
    if not blockers:
        pulumi.log.info(f"This run takes the step: {step}. Everything is ready for it.")
        return {"gate": "open"}
    cure = _cure(fleet)
    if step.kind == "replace":
        cure = "What is listed loses its connections, which end by themselves by the times above. Wait until then."
    elif fleet and any(blocker.workload is None for blocker in blockers):
        cure += (
            " A cluster pledges that it is ready by a run of its stack with the step configured, and the anchor stack "
            f"passes it on: pulumi up --stack {fleet.anchor_stack}."
        )
    return override_or_refuse(settings, last, step, blockers, cure, in_fleet=fleet is not None)


def _cure(fleet: Membership | None) -> str:
    return f"Restart what is listed, or let `{'meshtrust fleet rotate' if fleet else 'meshtrust rotate'}` do it."


def _report_pledge(step: Step, fleet: Membership, waiting: Sequence[Blocker]) -> None:
    pulumi.log.warn(
        f"This run does not {step} yet: it pledges to the fleet that this cluster is ready for it, and changes "
        f"nothing of the anchors. Next run: pulumi up --stack {fleet.anchor_stack}; then again: pulumi up --stack "
        f"{pulumi.get_stack()}" + (f", once these are ready too:{list_blockers(waiting)}" if waiting else "")
    )


def _refuse_strangers(settings: Settings, step: Step, fleet: Membership) -> None:
    """Refuse a first deployment that could not speak with the clusters that are there."""
    reasons = blocks_joining(fleet.name, settings.trust, fleet.anchor.pledges) if step.kind == "deploy" else []
    if reasons:
        listed = "\n".join(f"  - {reason}" for reason in reasons)
        msg = (
            "meshtrust:anchors and meshtrust:signer do not fit the fleet that this cluster joins:\n"
            f"{listed}\nGive it the anchors and the signer that the others have.\nNothing was changed."
        )
        raise pulumi.RunError(msg)


def _refuse_ended(settings: Settings, step: Step) -> None:
    for name in step.generations:
        external = settings.anchor.certificates.get(name)
        end = read_bundle(external)[0].not_valid_after_utc if external else None
        if end is not None and end <= datetime.now(UTC):
            msg = (
                f'meshtrust:anchors has "{name}", whose root ended on {end:%Y-%m-%d}. Bring along '
                "a root that is valid.\nNothing was changed."
            )
            raise pulumi.RunError(msg)
