"""The guard's part for steps of a rotation: whether what clusters hold and have pledged makes the next one safe."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pulumi

from meshtrust.actor import name_actor
from meshtrust.cluster import Api
from meshtrust.deployment import Deployment
from meshtrust.fleet.pledge import Pledge, blocks_joining, decide
from meshtrust.gate import Blocker, find_blockers
from meshtrust.pem import read_bundle
from meshtrust.rotation import Step
from program.membership import Membership
from settings import Settings

# A refusal names so many of what blocks; `meshtrust plan` lists all.
_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run may do of the step that is configured.

    Attributes:
        settings: What the run deploys: where it only pledges, with the generations of the last deployment.
        pledge: What the cluster has pledged to its fleet from this run on; nothing where it is in none.
        entry: The step's entry in the audit trail; nothing where the run takes none.
    """

    settings: Settings
    pledge: Pledge | None
    entry: dict[str, Any] | None = None


async def judge(
    api: "Api | None", settings: Settings, last: Deployment, step: Step | None, fleet: Membership | None
) -> Verdict:
    """Judge the configured step by what the own cluster holds, and by what the others of the fleet have pledged.

    A cluster of a fleet that is ready for a step, and has not told so yet, does only that in its next run.

    Args:
        api: Client of the cluster; nothing offline, where the cluster is taken to be ready.
        settings: What the stack says.
        last: What it last deployed.
        step: The step; nothing where none is configured.
        fleet: The cluster's place in its fleet, if any.

    Raises:
        pulumi.RunError: The step is not safe, and the configuration does not say that it is taken all the same.
        ClusterError: The cluster cannot be read.
    """
    if step is None:
        return Verdict(settings=settings, pledge=await _keep(api, settings, last, fleet) if fleet else None)
    entry: dict[str, Any] = {
        "step": step.kind,
        "generations": list(step.generations),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": name_actor(os.environ),
        "gate": "none",
    }
    if step.kind in ("deploy", "introduce", "replace"):
        _refuse_ended(settings, step)
    if fleet and last.trust and step.kind == "replace" and not fleet.has_signed(settings):
        pulumi.log.warn(
            f"All anchors have ended. This run asks the anchor stack to sign under {settings.anchor.signer}, and "
            f"changes nothing else yet. Next run: pulumi up --stack {fleet.anchor_stack}; then again: pulumi up "
            f"--stack {pulumi.get_stack()}"
        )
        return Verdict(settings=settings.staying_at(last.trust), pledge=fleet.pledge.stamped(fleet.pledge))
    blockers = await _look(api, settings, last, step)
    pledge = None
    if fleet:
        _refuse_strangers(settings, step, fleet)
        is_forced = settings.gate.mode == "warn" or step.name in settings.gate.overrides
        decision = decide(
            fleet.name, fleet.pledge, step, fleet.anchor.pledges, is_ready=not blockers, is_forced=is_forced
        )
        pledge = decision.pledge
        if last.trust and not decision.takes_step:
            _tell_pledge(step, fleet, decision.blockers)
            return Verdict(settings=settings.staying_at(last.trust), pledge=pledge)
        blockers += decision.blockers
    return Verdict(settings=settings, pledge=pledge, entry=entry | _take(settings, step, blockers, fleet))


async def _keep(api: "Api | None", settings: Settings, last: Deployment, fleet: Membership) -> Pledge:
    """Return the pledge of a run that takes no step; what signs is accepted as soon as it can be."""
    trust, pledge = settings.trust, fleet.pledge
    if api and trust.signer not in pledge.accepts:
        signing = Step(kind="switch", generations=(trust.signer,), before=trust, after=trust)
        if not await _look(api, settings, last, signing):
            pledge = pledge.accepting(trust.signer)
    return pledge.stamped(fleet.pledge)


async def _look(api: "Api | None", settings: Settings, last: Deployment, step: Step) -> list[Blocker]:
    if api is None:
        return []
    acknowledged = settings.gate.acknowledged.get(step.name, {})
    for subject, reason in acknowledged.items():
        pulumi.log.info(f"{subject} is not waited for, because meshtrust:gate.acknowledged says: {reason}")
    return await find_blockers(
        api,
        settings.linkerd.namespace,
        step,
        last.certificates,
        acknowledged=acknowledged,
        in_fleet=bool(settings.anchor_stack),
    )


def _take(settings: Settings, step: Step, blockers: list[Blocker], fleet: Membership | None) -> dict[str, Any]:
    """Return what the audit trail says of the gate, or refuse the step."""
    judged = step.kind in ("switch", "retire") or (step.kind == "deploy" and fleet is not None)
    if not judged:
        pulumi.log.info(f"This run takes the step: {step}.")
        return {}
    if not blockers:
        pulumi.log.info(f"This run takes the step: {step}. Everything is ready for it.")
        return {"gate": "open"}
    cure = f"Restart what is listed, or let `{'meshtrust fleet rotate' if fleet else 'meshtrust rotate'}` do it."
    if fleet and any(blocker.workload is None for blocker in blockers):
        cure += (
            " A cluster tells that it is ready by a run of its stack with the step configured, and the anchor stack "
            f"passes it on: pulumi up --stack {fleet.anchor_stack}."
        )
    return override_or_refuse(settings, step, blockers, cure, fleet)


def override_or_refuse(
    settings: Settings, step: Step, blockers: list[Blocker], cure: str, fleet: Membership | None = None
) -> dict[str, Any]:
    """Return what the audit trail says of a step that is not safe and goes ahead all the same, or refuse it.

    Args:
        settings: What the stack says.
        step: The step.
        blockers: What makes it unsafe.
        cure: What makes it safe, in sentences.
        fleet: The cluster's place in its fleet, if any.

    Raises:
        pulumi.RunError: The configuration does not say that it goes ahead.
    """
    told = _tell(step, blockers, fleet)
    reason = settings.gate.overrides.get(step.name, "")
    if reason:
        pulumi.log.warn(f"{told}\nIt goes ahead, because meshtrust:gate.overrides says: {reason}")
        return {"gate": "overridden", "reason": reason, "blockers": len(blockers)}
    if settings.gate.mode == "warn":
        pulumi.log.warn(f"{told}\nIt goes ahead, because meshtrust:gate.mode is warn.")
        return {"gate": "warned", "blockers": len(blockers)}
    msg = (
        f"{told}\n{cure} To go ahead all the same, say why: "
        f"pulumi config set --path gate.overrides.{step.name} <reason>\nNothing was changed."
    )
    raise pulumi.RunError(msg)


def _tell_pledge(step: Step, fleet: Membership, waiting: Sequence[Blocker]) -> None:
    listed = "".join(f"\n  - {blocker}" for blocker in waiting[:_NAMED])
    more = f"\n  and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
    pulumi.log.warn(
        f"This run does not {step} yet: it tells the fleet that this cluster is ready for it, and changes nothing of "
        f"the anchors. Next run: pulumi up --stack {fleet.anchor_stack}; then again: pulumi up --stack "
        f"{pulumi.get_stack()}" + (f", once these are ready too:{listed}{more}" if waiting else "")
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
        brought = settings.anchor.certificates.get(name)
        end = read_bundle(brought)[0].not_valid_after_utc if brought else None
        if end is not None and end <= datetime.now(UTC):
            msg = (
                f'meshtrust:anchors has "{name}", whose root ended on {end:%Y-%m-%d}. Bring along '
                "a root that is valid.\nNothing was changed."
            )
            raise pulumi.RunError(msg)


def _tell(step: Step, blockers: list[Blocker], fleet: Membership | None) -> str:
    named = "\n".join(f"  - {blocker}" for blocker in blockers[:_NAMED])
    more = f"\n  and {len(blockers) - _NAMED} more" if len(blockers) > _NAMED else ""
    what = f"{len(blockers)} in the cluster would be cut off"
    if fleet and any(blocker.workload is None for blocker in blockers):
        what = (
            "1 thing in the fleet blocks it" if len(blockers) == 1 else f"{len(blockers)} things in the fleet block it"
        )
    return f"It is not safe yet to {step}: {what}.\n{named}{more}"
