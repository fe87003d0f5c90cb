"""The program of an anchor stack: the trust anchor of a fleet, and what it signs for the clusters."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pulumi

from components.signed_intermediates import SignedIntermediates, SignedIntermediatesArgs, SigningRequest
from meshtrust.pki.intermediates import RequestError, check_request, choose_signed
from meshtrust.pki.pem import to_pem
from meshtrust.rotation.goal import AnchorPlan, Way, plan_anchor_stack
from meshtrust.rotation.known_roots import Held
from meshtrust.rotation.report import RotationReport, report_rotation
from meshtrust.rotation.steps import IllegalStepError, Step, Trust, check_roots
from meshtrust.stacks.outputs import MEMORY, StackOutputs
from program.checks.way import anchor_at
from program.configuration.anchors import external_roots
from program.configuration.settings import AnchorSettings
from program.declare.outputs import describe_ends
from program.declare.trust_anchor import declare_trust_anchor
from program.stack_outputs import read_deployment


async def run_anchor_stack(settings: AnchorSettings, last: StackOutputs) -> pulumi.Inputs:
    """Run the stack and return its outputs.

    Args:
        settings: What the stack says.
        last: What it last deployed.

    Raises:
        pulumi.RunError: A generation would go that a cluster still trusts, or would get another root; or a cluster asks
            for what must not be signed.
    """
    clusters = await _read_clusters(settings.clusters)
    plan = _plan(settings, last, clusters)
    wanted = plan.generations
    anchor_args = anchor_at(settings.anchor, last, wanted, signers=_signers(clusters))
    elsewhere = [
        (stack, generation, root)
        for stack, deployed in clusters.items()
        # One that has not joined yet has roots of its own, whatever their names.
        if deployed.is_in_fleet
        for generation, root in deployed.roots.items()
    ]
    anchor = await declare_trust_anchor(anchor_args, last, Held(), elsewhere)
    requests = [
        request
        for request in _requests(clusters, last)
        if request.generation in wanted and anchor.signers[request.generation].private_key_pem is not None
    ]
    signed = SignedIntermediates("intermediates", SignedIntermediatesArgs(requests=requests, signers=anchor.signers))
    return {
        "about": {
            "anchors": anchor.roots.apply(describe_ends),
            "next": f"meshtrust fleet status --anchor-stack {pulumi.get_stack()}",
        },
        "anchors": list(wanted),
        "trustAnchors": anchor.bundle,
        "transitions": [*last.transitions, *_entries(wanted, last)],
        "rotation": _report(settings, last, plan, clusters).as_outputs(),
        "clusters": list(settings.clusters),
        MEMORY: {
            "trustAnchorsSha256": anchor.bundle_sha256,
            "roots": anchor.roots,
            "retired": last.retired_by(wanted),
            "protected": sorted(anchor_args.protected),
            "intermediates": signed.certificates,
            "pledges": _pledges(clusters),
            "linkNames": {stack: deployed.link_name for stack, deployed in clusters.items() if deployed.link_name},
        },
    }


async def _read_clusters(stacks: Sequence[str]) -> dict[str, StackOutputs]:
    """Return what the clusters' stacks have deployed, all read side by side."""
    return dict(zip(stacks, await asyncio.gather(*map(read_deployment, stacks)), strict=True))


def _pledges(clusters: Mapping[str, StackOutputs]) -> dict[str, Any]:
    """Return what the clusters have pledged, for all of them to read; one that has not announced itself has no part."""
    return {
        stack: deployed.pledge.as_outputs()
        for stack, deployed in clusters.items()
        if deployed.trust or deployed.pledge.stamp
    }


def _plan(settings: AnchorSettings, last: StackOutputs, clusters: Mapping[str, StackOutputs]) -> AnchorPlan:
    """Return the generations that this run deploys: those of the goal, and those that a cluster still trusts.

    Raises:
        pulumi.RunError: A generation would get another root; or, in mode ``step``, one would go that must stay for now.
    """
    anchor = settings.anchor
    try:
        check_roots(anchor.generations, roots=last.roots, retired=last.retired, external=external_roots(anchor))
    except IllegalStepError as error:
        msg = f"meshtrust:anchors cannot be deployed: {error}.\nNothing was changed."
        raise pulumi.RunError(msg) from None
    trusted = {stack: deployed.anchors for stack, deployed in clusters.items()}
    plan = plan_anchor_stack(anchor.generations, last.anchors, trusted, last.protected)
    if plan.trusted:
        _wait_or_refuse(
            settings,
            f"meshtrust:anchors no longer has {', '.join(plan.trusted)}, which clusters still trust:\n"
            + "\n".join(f"  - {line}" for line in _waiting(plan, clusters)),
            "Retire it there first, or let `meshtrust fleet rotate` do it; take clusters that are gone off "
            "meshtrust:clusters.",
        )
    if plan.protected:
        listed = ", ".join(plan.protected)
        _wait_or_refuse(
            settings,
            f"meshtrust:anchors no longer has {listed}, which clusters signed with when this stack was last deployed, "
            "so that it is protected.",
            f"Deploy this stack once with {listed}, which lifts that, and then without.",
        )
    return plan


def _wait_or_refuse(settings: AnchorSettings, why: str, cure: str) -> None:
    if settings.rotation.mode == "step":
        msg = f"{why}\n{cure}\nNothing was changed."
        raise pulumi.RunError(msg)
    pulumi.log.warn(f"{why}\nIt stays for now. A later run of this stack retires it by itself.")


def _waiting(plan: AnchorPlan, clusters: Mapping[str, StackOutputs]) -> list[str]:
    """Return what a generation that is to be retired waits for, a line for each stack."""
    trusting = dict.fromkeys(stack for stacks in plan.trusted.values() for stack in stacks)
    return [
        f"{stack} trusts {', '.join(name for name, stacks in plan.trusted.items() if stack in stacks)}"
        + _last_report(clusters[stack])
        for stack in trusting
    ]


def _last_report(deployed: StackOutputs) -> str:
    """Return what a cluster's last run had for a goal and since when it stands there: nobody may run that stack."""
    report = deployed.rotation
    if report is None:
        return ""
    return f" (by its last run its goal is {report.goal_text}: {', '.join(report.state_texts)})"


def _report(
    settings: AnchorSettings, last: StackOutputs, plan: AnchorPlan, clusters: Mapping[str, StackOutputs]
) -> RotationReport:
    goal = Trust(anchors=settings.anchor.generations, signer="")
    before = Trust(anchors=plan.generations, signer="")
    dropped = tuple(name for name in plan.generations if name not in goal.anchors)
    steps = (Step(kind="retire", generations=dropped, before=before, after=goal),) if dropped else ()
    signers = _signers(clusters)
    oldest = next((name for name in plan.generations if name in signers), plan.generations[-1])
    deployed = Trust(anchors=plan.generations, signer=oldest)
    waiting = _waiting(plan, clusters)
    return report_rotation(Way(goal=goal, steps=steps), deployed, waiting, last.rotation, datetime.now(UTC))


def _signers(clusters: Mapping[str, StackOutputs]) -> frozenset[str]:
    """Return the generations that sign in some cluster."""
    return frozenset(deployed.trust.signer for deployed in clusters.values() if deployed.trust)


def _requests(clusters: Mapping[str, StackOutputs], last: StackOutputs) -> Iterator[SigningRequest]:
    """Yield what the clusters ask for and may get; what must not be signed is named, and stops none of the others."""
    for stack, deployed in clusters.items():
        # A stack that was renamed asks by the request that it had, of whose key the old name is known.
        known = [name for name in last.signed_for if name == stack or name not in clusters]
        signed = [pem for name in known for pem in last.intermediates_of(name).values()]
        if not isinstance(deployed.outputs.get("requests") or {}, Mapping):
            _tell_unsigned(stack, "intermediates", "its output requests is no map of requests by generation")
            continue
        for generation, pem in deployed.requests.items():
            try:
                check_request(pem, stack, generation, signed)
            except RequestError as error:
                _tell_unsigned(stack, f"an intermediate under {generation}", str(error))
                continue
            mine = last.intermediates_of(stack).get(generation, "")
            root = last.certificates.get(generation)
            is_signed = bool(mine and root and choose_signed([mine], pem, to_pem(root)))
            yield SigningRequest(stack=stack, generation=generation, pem=pem, is_signed=is_signed)


def _tell_unsigned(stack: str, what: str, why: str) -> None:
    pulumi.log.warn(
        f"Stack {stack} asks for {what}, which is not signed: {why}. See who wrote that stack's outputs. The other "
        "clusters get theirs."
    )


def _entries(wanted: tuple[str, ...], last: StackOutputs) -> Iterator[dict[str, Any]]:
    """Yield this run's entries in the audit trail."""
    added = [generation for generation in wanted if generation not in last.anchors]
    dropped = [generation for generation in last.anchors if generation not in wanted]
    kinds = {"introduce" if last.anchors else "deploy": added, "retire": dropped}
    for kind, generations in kinds.items():
        if generations:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            yield {"step": kind, "generations": generations, "at": now, "gate": "open" if kind == "retire" else "none"}
