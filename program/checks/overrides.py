"""The refusal of a step that is not safe, and the override by which the step is taken nevertheless."""

from collections.abc import Sequence
from typing import Any

import pulumi

from meshtrust.rotation.acknowledgements import reason_for
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.overrides import number_refusal
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings

# A refusal names so many of what blocks; `meshtrust plan` lists all.
NAMED = 20


def given_reason(settings: Settings, last: StackOutputs, step: Step, blockers: Sequence[Blocker]) -> str:
    """Return the reason that the configuration gives for exactly this refusal; empty if there is none.

    Args:
        settings: What the stack says.
        last: What it last deployed.
        step: The step.
        blockers: What blocks it.
    """
    number = number_refusal(step, blockers, len(last.transitions))
    return reason_for(settings.gate.overrides.get(step.name, ""), number)


def override_or_refuse(
    settings: Settings,
    last: StackOutputs,
    step: Step,
    blockers: list[Blocker],
    cure: str,
    *,
    in_fleet: bool = False,
) -> dict[str, Any]:
    """Refuse a step that is not safe, or return the entry of the audit trail if it is taken nevertheless.

    Args:
        settings: What the stack says.
        last: What it last deployed: an override is for one step, and one use.
        step: The step.
        blockers: What makes it unsafe.
        cure: What makes it safe, in sentences.
        in_fleet: Whether some of it may be in other clusters of a fleet.

    Raises:
        pulumi.RunError: No override in the configuration allows the step.
    """
    unsafe = describe_blockers(step, blockers, in_fleet=in_fleet)
    reason = given_reason(settings, last, step, blockers)
    if reason:
        pulumi.log.warn(f"{unsafe}\nIt is taken, because meshtrust:gate.overrides says: {reason}")
        return {"gate": "overridden", "reason": reason, "blockers": len(blockers)}
    if settings.gate.mode == "warn":
        pulumi.log.warn(f"{unsafe}\nIt is taken, because meshtrust:gate.mode is warn.")
        return {"gate": "warned", "blockers": len(blockers)}
    number = number_refusal(step, blockers, len(last.transitions))
    stale = (
        f" The reason in meshtrust:gate.overrides for {step.name} was given for another refusal, or was used already."
        if step.name in settings.gate.overrides
        else ""
    )
    msg = (
        f"{unsafe}\n{cure}{stale} To take the step nevertheless, give a reason with the number of this refusal: "
        f'pulumi config set --path gate.overrides.{step.name} "{number} <reason>"\nNothing was changed.'
    )
    raise pulumi.RunError(msg)


def describe_blockers(step: Step, blockers: Sequence[Blocker], *, in_fleet: bool = False) -> str:
    """Return what makes a step unsafe, as sentences and a list.

    Args:
        step: The step.
        blockers: What blocks it.
        in_fleet: Whether some of it may be in other clusters of a fleet.
    """
    one = len(blockers) == 1
    if all(blocker.workload for blocker in blockers):
        what = "1 pod would lose mesh connectivity" if one else f"{len(blockers)} pods would lose mesh connectivity"
    else:
        place = "fleet" if in_fleet else "cluster"
        what = f"1 thing in the {place} blocks it" if one else f"{len(blockers)} things in the {place} block it"
    return f"It is not safe yet to {step}: {what}.{list_blockers(blockers)}"


def list_blockers(blockers: Sequence[Blocker]) -> str:
    """Return the first blockers, each after a line break, and how many more there are."""
    named = "".join(f"\n  - {blocker}" for blocker in blockers[:NAMED])
    return named + (f"\n  and {len(blockers) - NAMED} more" if len(blockers) > NAMED else "")
