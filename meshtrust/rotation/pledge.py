"""Pledges of the clusters of a fleet to each other, and the steps that they make safe.

A proxy in one cluster accepts a certificate of another only if it trusts the anchor above it. So a step of one cluster
rests on facts of all the others. No cluster looks into another for them: each stack's run looks into its own cluster,
and writes what it saw into its outputs, as a promise. For each generation it trusts, a cluster pledges at most one of:

- it accepts it: every proxy in it trusts the generation, and the generation will not leave its bundle;
- it has released it: no certificate in it is under the generation, and none will be.

The anchor stack reads the pledges and passes them on. A cluster may sign with a generation that all accept, and drop
one that all have released. It does neither against its own pledge, nor before the anchor stack has passed that on: then
no run that is under way anywhere relies on an earlier one. docs/fleet.md has the argument.
"""

import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import Step, Trust

_SUBJECT = "its stack"


@dataclass(frozen=True, kw_only=True)
class Pledge:
    """The pledge of one cluster.

    Attributes:
        stamp: Names this pledge; no other one of any cluster has it. Empty where nothing was ever pledged.
        anchors: The generations that it trusts, or is to trust from its first deployment on, oldest first.
        signer: The generation that signs in it; empty before its first deployment.
        accepts: The generations that it accepts.
        released: The generations that it has released.
    """

    stamp: str = ""
    anchors: tuple[str, ...] = ()
    signer: str = ""
    accepts: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()

    @staticmethod
    def of(described: Mapping[str, Any] | None, trust: Trust | None) -> "Pledge":
        """Return the pledge in a stack's outputs.

        Args:
            described: The pledge, as `as_outputs` wrote it; None if there is none.
            trust: What the stack has deployed.
        """
        found = described or {}
        return Pledge(
            stamp=str(found.get("stamp") or ""),
            anchors=trust.anchors if trust else tuple(map(str, found.get("anchors") or ())),
            signer=trust.signer if trust else str(found.get("signer") or ""),
            accepts=frozenset(map(str, found.get("accepts") or ())),
            released=frozenset(map(str, found.get("released") or ())),
        )

    def as_outputs(self) -> dict[str, Any]:
        """Return it as an output."""
        return {
            "stamp": self.stamp,
            "anchors": list(self.anchors),
            "signer": self.signer,
            "accepts": sorted(self.accepts),
            "released": sorted(self.released),
        }

    def accepting(self, generation: str) -> "Pledge":
        """Return it with a generation accepted, which may be signed with from then on."""
        return dataclasses.replace(self, accepts=self.accepts | {generation}, released=self.released - {generation})

    def releasing(self, generations: Iterable[str]) -> "Pledge":
        """Return it with generations released, which may be dropped from then on."""
        given = frozenset(generations)
        return dataclasses.replace(self, accepts=self.accepts - given, released=self.released | given)

    def ready_for(self, step: Step) -> "Pledge":
        """Return what a cluster has to have pledged before it takes a step."""
        if step.kind in ("deploy", "switch"):
            return self.accepting(step.after.signer)
        if step.kind == "retire":
            return self.releasing(step.generations)
        return self

    def after(self, step: Step) -> "Pledge":
        """Return what a cluster has pledged once it has taken a step.

        Nothing is under a generation that was just introduced: it is released until the pods are seen to trust it.
        """
        kept = frozenset(step.after.anchors)
        released = self.released & kept - {step.after.signer}
        if step.kind == "introduce":
            released |= frozenset(step.generations)
        return dataclasses.replace(
            self, anchors=step.after.anchors, signer=step.after.signer, accepts=self.accepts & kept, released=released
        )

    def stamped(self, last: "Pledge") -> "Pledge":
        """Return it under the stamp of the last one where it promises the same, else under one of its own."""
        same = (self.anchors, self.accepts, self.released) == (last.anchors, last.accepts, last.released)
        return dataclasses.replace(self, stamp=last.stamp if same and last.stamp else uuid.uuid4().hex)


def announce(anchors: tuple[str, ...], last: Pledge) -> Pledge:
    """Return the pledge of a cluster that joins: it accepts what it is to trust, for it is deployed with that."""
    return Pledge(anchors=anchors, accepts=frozenset(anchors)).stamped(last)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Decision of a run of a cluster's stack about the configured step.

    Attributes:
        pledge: What the cluster has pledged from this run on.
        takes_step: Whether it takes the step, once nothing blocks it; otherwise it only pledges to be ready.
        blockers: What in the rest of the fleet makes the step unsafe, as far as is known.
    """

    pledge: Pledge
    takes_step: bool
    blockers: list[Blocker]


def decide(
    name: str, own: Pledge, step: Step, pledges: Mapping[str, Pledge], *, is_ready: bool, is_forced: bool = False
) -> Decision:
    """Decide what a run of a cluster's stack does of the step that is configured.

    Args:
        name: What the anchor stack calls the cluster.
        own: Its own pledge.
        step: The step.
        pledges: All pledges, as the anchor stack has passed them on, by cluster.
        is_ready: Whether nothing in the cluster itself makes the step unsafe.
        is_forced: Whether an override was given for all that blocks the step, so that the others are not asked first.
    """
    ready = own.ready_for(step) if is_ready else own
    if step.before is not None and ready != own and not is_forced:
        others = [blocker for blocker in find_fleet_blockers(name, own, step, pledges) if blocker.stack]
        return Decision(pledge=ready.stamped(own), takes_step=False, blockers=others)
    blockers = find_fleet_blockers(name, own, step, pledges)
    return Decision(pledge=ready.after(step).stamped(own), takes_step=True, blockers=blockers)


def find_fleet_blockers(name: str, own: Pledge, step: Step, pledges: Mapping[str, Pledge]) -> list[Blocker]:
    """Return what in the rest of a fleet makes a step of one cluster unsafe, as far as is known.

    Args:
        name: What the anchor stack calls the cluster.
        own: Its own pledge.
        step: The step.
        pledges: All pledges, as the anchor stack has passed them on, by cluster.
    """
    if step.kind not in ("deploy", "switch", "retire"):
        return []
    others = {stack: pledge for stack, pledge in pledges.items() if stack != name}
    blockers = list(_blocks(step, others))
    if pledges.get(name, Pledge()).stamp != own.stamp or not own.stamp:
        reason = "it has not passed on what this cluster has pledged. Deploy it"
        blockers.append(Blocker(subject="the anchor stack", reason=reason, curable=False))
    if own.ready_for(step) != own:
        reason = f"it has not pledged to the others that it is ready to {step}. Its next run does, with that configured"
        blockers.append(Blocker(subject="this stack", reason=reason, curable=False))
    return blockers


def _blocks(step: Step, others: Mapping[str, Pledge]) -> Iterator[Blocker]:
    for stack, pledge in others.items():
        for reason in _reasons(step, pledge):
            yield Blocker(subject=_SUBJECT, reason=reason, curable=False, stack=stack)


def _reasons(step: Step, pledge: Pledge) -> Iterator[str]:
    if step.kind == "retire":
        for generation in step.generations:
            if generation in pledge.anchors and generation not in pledge.released:
                yield f"it has not pledged that nothing in it is under {generation} any more"
        return
    signer = step.after.signer
    if signer not in pledge.accepts:
        yield f"it has not pledged that all its pods trust {signer}"


def blocks_joining(name: str, trust: Trust, pledges: Mapping[str, Pledge]) -> list[str]:
    """Return why a cluster that joins could not speak with those that are there.

    Args:
        name: What the anchor stack calls the cluster.
        trust: What it would trust, and what would sign in it.
        pledges: All pledges, as the anchor stack has passed them on, by cluster.
    """
    reasons = []
    for stack, there in pledges.items():
        if stack == name:
            continue
        for generation in there.anchors:
            if generation not in trust.anchors and generation not in there.released:
                signs = "signs" if generation == there.signer else "may sign"
                reasons.append(f"{stack} {signs} with {generation}, which this cluster would not trust")
        if trust.signer not in there.anchors:
            reasons.append(f"{stack} does not trust {trust.signer}, with which this cluster would sign")
    return reasons
