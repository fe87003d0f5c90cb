"""The way to the goal that a stack's configuration declares, and the settings of one state on it."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

import pulumi

from components.identity_issuer import IssuerPolicy, IssuerReference
from components.trust_anchor import TrustAnchorArgs
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, SIGNING_MODES
from meshtrust.pki.pem import to_pem
from meshtrust.rotation.goal import Way, find_way
from meshtrust.rotation.steps import IllegalStepError, Trust, find_step
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.anchors import external_roots
from program.configuration.settings import Settings
from program.membership import Membership


def plan_way(settings: Settings, last: StackOutputs) -> Way:
    """Return the way from the last deployment to the configured goal.

    With ``rotation.mode: step`` the goal has to be one step away.

    Args:
        settings: The stack's settings.
        last: The outputs of its last deployment.

    Raises:
        IllegalStepError: The goal cannot be reached, or is more than one step away in mode ``step``.
    """
    ended = last.ended(datetime.now(UTC))
    external = external_roots(settings.anchor)
    if settings.rotation.mode == "reconcile":
        return find_way(
            last.trust, settings.trust, roots=last.roots, retired=last.retired, external=external, ended=ended
        )
    step = find_step(last.trust, settings.trust, roots=last.roots, retired=last.retired, external=external, ended=ended)
    return Way(goal=settings.trust, steps=(step,) if step else ())


def settings_at(settings: Settings, last: StackOutputs, trust: Trust) -> Settings:
    """Return the settings of a state on the way to the goal.

    Until the signer is switched, the identity issuer is signed as it was deployed: by the same mode, and by the same
    issuer of cert-manager.

    Args:
        settings: The stack's settings, which have the goal.
        last: The outputs of its last deployment.
        trust: The state.

    Raises:
        IllegalStepError: What the deployed signer needs is not configured any more.
    """
    if trust == settings.trust:
        return settings
    anchor = anchor_at(settings.anchor, last, trust.anchors, signers={trust.signer})
    stage = replace(settings, anchor=replace(anchor, signer=trust.signer))
    if trust.signer == settings.trust.signer:
        return stage
    stage = replace(stage, issuer=_deployed_policy(settings.issuer, last))
    _check_signer(stage, last)
    return stage


def anchor_at(
    anchor: TrustAnchorArgs, last: StackOutputs, generations: tuple[str, ...], *, signers: Collection[str]
) -> TrustAnchorArgs:
    """Return what the trust anchor of a state on the way to the goal is made from.

    An external root that is deployed is taken from the outputs if the configuration no longer has it: it is not a
    secret, and nobody needs to keep it in the stack's file.

    Args:
        anchor: What the trust anchor of the goal is made from.
        last: The outputs of the last deployment.
        generations: The generations of the state.
        signers: The generations that sign, of which those of the state are protected, if any are to be.
    """
    deployed = {
        name: to_pem(last.certificates[name])
        for name in generations
        if name not in anchor.certificates and name in last.certificates and last.roots[name].external
    }
    return replace(
        anchor,
        generations=generations,
        certificates={**anchor.certificates, **deployed},
        protected=frozenset(generations).intersection(signers) if anchor.protected else frozenset(),
    )


def until_signed(stage: Settings, last: StackOutputs, fleet: Membership | None) -> Settings:
    """Return the settings of a state in which the deployed issuer stays until the anchor stack has signed the next one.

    A stack that leaves another mode for ``intermediate`` has requested nothing before, so that this run requests it.

    Args:
        stage: The settings of the state.
        last: The outputs of the last deployment.
        fleet: The cluster's place in its fleet; None if it is in none.
    """
    signs_on = last.trust is not None and last.trust.signer == stage.anchor.signer
    mode = last.issuer.get("mode") or "intermediate"
    if fleet is None or not signs_on or fleet.has_signed(stage) or mode == "intermediate":
        return stage
    pulumi.log.warn(
        f'meshtrust:issuer.mode is "intermediate", and the anchor stack "{fleet.anchor_stack}" has not signed this '
        f"stack's intermediate under {stage.anchor.signer} yet. This run asks for it, and leaves mode "
        f'"{mode}" as it is. Next run: pulumi up --stack {fleet.anchor_stack}; then again: pulumi up '
        f"--stack {pulumi.get_stack()}"
    )
    return replace(stage, issuer=_deployed_policy(stage.issuer, last))


def report_way(settings: Settings, way: Way) -> None:
    """Write the steps to the goal to the engine's log, if there is more than one, and what the goal gives up."""
    if settings.rotation.mode != "reconcile" or way.next is None or way.next.before is None:
        return
    if way.aborted:
        listed = ", ".join(way.aborted)
        pulumi.log.warn(
            f"This run aborts the rotation to {listed}: meshtrust:anchors and meshtrust:signer are set back to "
            f"{way.goal}. Once {listed} is retired, its name cannot be used again."
        )
    if len(way.steps) > 1:
        steps = ", then ".join(map(str, way.steps))
        pulumi.log.info(f"The goal is {way.goal}. One run takes one step: {steps}.")


def _deployed_policy(policy: IssuerPolicy, last: StackOutputs) -> IssuerPolicy:
    """Return a policy by which the identity issuer is signed as it was in the last deployment."""
    deployed = last.issuer
    if not deployed.get("mode"):
        return policy
    reference = deployed.get("reference")
    return replace(
        policy,
        mode=deployed["mode"],
        reference=IssuerReference(**reference) if reference else None,
        serial=str(deployed.get("serial") or policy.serial),
    )


def _check_signer(stage: Settings, last: StackOutputs) -> None:
    mode, signer = stage.issuer.mode, stage.anchor.signer
    if mode in CERT_MANAGER_MODES and not stage.cert_manager and last.has_installed("certManager"):
        msg = (
            f'meshtrust:issuer.mode no longer needs cert-manager, and {signer} signs by mode "{mode}" until the signer '
            f'is switched. Set meshtrust:issuer.mode to "{mode}" until then, or meshtrust:signer to "{signer}" first'
        )
        raise IllegalStepError(msg)
    root = last.roots.get(signer)
    needs_key = mode in SIGNING_MODES and not stage.anchor_stack and root is not None and root.external
    if needs_key and signer not in stage.anchor.keys:
        msg = (
            f"{signer} signs until the signer is switched, and its key is not in meshtrust:anchorKeys any more. Keep "
            f"meshtrust:anchorKeys and meshtrust:anchorCertificates of {signer} until {signer} is retired"
        )
        raise IllegalStepError(msg)
