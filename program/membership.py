"""A cluster's place in a fleet: the roots and the signed intermediates of the anchor stack, and the other clusters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import pulumi

from components.intermediate_requests import IntermediateRequests
from components.signed_certificate import SignedPair
from meshtrust.pki.intermediates import choose_signed
from meshtrust.pki.pem import to_pem
from meshtrust.rotation.pledge import Pledge, announce
from meshtrust.rotation.reconcile import FleetView
from meshtrust.stacks.outputs import MEMORY, StackOutputs
from program.configuration.settings import Settings
from program.stack_outputs import own_name, qualify, read_deployment


@dataclass(frozen=True, kw_only=True)
class Membership:
    """A cluster's place in its fleet.

    Attributes:
        anchor_stack: The anchor stack, as the configuration names it.
        anchor: What it has deployed.
        name: What it calls this cluster.
        roots: The fleet's roots, PEM by generation.
        signed: The intermediates of this cluster that are signed, PEM by generation.
        pledge: The pledge of this cluster; if it needs enrolment, the one that it makes now.
        needs_enrolment: Whether the anchor stack has to know this cluster, and to sign its first intermediate, before
            anything else.
    """

    anchor_stack: str
    anchor: StackOutputs
    name: str
    roots: Mapping[str, str]
    signed: Mapping[str, str]
    pledge: Pledge
    needs_enrolment: bool

    def has_signed(self, settings: Settings) -> bool:
        """Whether the anchor stack has signed what would sign the identity issuer, where it signs that at all."""
        return settings.issuer.mode != "intermediate" or settings.anchor.signer in self.signed

    def view(self, settings: Settings, *, reconciles: bool) -> FleetView:
        """Return the fleet as the decision about a run sees it; one that cannot wait is refused by `check_signed`."""
        return FleetView(
            name=self.name,
            own=self.pledge,
            pledges=self.anchor.pledges,
            generations=self.anchor.certificates,
            signed=self.signed if reconciles and settings.issuer.mode == "intermediate" else None,
        )

    def check_signed(self, settings: Settings) -> None:
        """Make sure that what would sign the identity issuer is signed itself.

        Args:
            settings: What is to be deployed.

        Raises:
            pulumi.RunError: It is not.
        """
        signer = settings.anchor.signer
        if not self.has_signed(settings):
            _refuse(
                f'The anchor stack "{self.anchor_stack}" has not signed the intermediate of this stack under {signer} '
                f"yet. First run: pulumi up --stack {self.anchor_stack}"
            )

    def intermediate(self, requests: IntermediateRequests, signer: str) -> SignedPair:
        """Return the intermediate CA under a generation: the key of this stack, and what the anchor stack signed."""
        return SignedPair(
            certificate_pem=pulumi.Output.from_input(self.signed[signer]),
            private_key_pem=requests.pairs[signer].private_key_pem,
        )


async def read_membership(settings: Settings, last: StackOutputs) -> Membership | None:
    """Return a cluster's place in its fleet; None if it owns its trust anchor.

    Args:
        settings: What the stack says.
        last: What it last deployed.

    Raises:
        pulumi.RunError: The anchor stack has not been deployed, does not list this stack, or lacks a generation; the
            stack was deployed under another trust anchor; or what it would sign with is not signed yet.
    """
    stack = settings.anchor_stack
    before = str(last.outputs.get("anchorStack") or "")
    if last.trust and before != stack:
        owner = f"that of {before}" if before else "its own"
        now = f"that of {stack}" if stack else "its own"
        _refuse(
            f"meshtrust:anchorStack cannot change: this stack was deployed under {owner}, and would be under {now}, "
            "whose roots nobody trusts. Deploy the cluster by a new stack, or set it back"
        )
    if not stack:
        return None
    anchor = await read_deployment(stack)
    if not anchor.anchors:
        _refuse(f'The anchor stack "{stack}" has not been deployed yet. Run: pulumi up --stack {stack}')
    name = next((entry for entry in anchor.clusters if qualify(entry) == own_name()), "")
    if not name:
        _refuse(
            f'The anchor stack "{stack}" does not list this stack. Add {pulumi.get_stack()} to its meshtrust:clusters '
            f"and run: pulumi up --stack {stack}"
        )
    # A run that has a state to stay at waits until the anchor stack has the generation.
    waits = last.trust is not None and settings.rotation.mode == "reconcile"
    for generation in settings.anchor.generations:
        if generation not in anchor.certificates and not waits:
            _refuse(
                f'meshtrust:anchors has "{generation}", which the anchor stack "{stack}" does not have (it has '
                f"{', '.join(anchor.anchors)}). Add it there first, and run: pulumi up --stack {stack}"
            )
    known = {**last.certificates, **anchor.certificates}
    # Those of the last deployment too: a run that only pledges stays at them.
    wanted = dict.fromkeys((*settings.anchor.generations, *last.anchors))
    roots = {generation: to_pem(known[generation]) for generation in wanted if generation in known}
    signed = _signed(anchor.intermediates_of(name), last, roots)
    pledge, needs_enrolment = last.pledge, False
    if last.trust is None:
        pledge = announce(settings.anchor.generations, last.pledge)
        is_known = anchor.pledges.get(name, Pledge()).stamp == pledge.stamp
        lacks_signer = settings.issuer.mode == "intermediate" and settings.anchor.signer not in signed
        needs_enrolment = not is_known or lacks_signer
    return Membership(
        anchor_stack=stack,
        anchor=anchor,
        name=name,
        roots=roots,
        signed=signed,
        pledge=pledge,
        needs_enrolment=needs_enrolment,
    )


def enrol(membership: Membership, requests: IntermediateRequests | None, link_name: str) -> pulumi.Inputs:
    """Return the outputs of a run that only announces its stack to the fleet, and log which run comes next."""
    stack, anchor = pulumi.get_stack(), membership.anchor_stack
    signing = " and asks it to sign its intermediates" if requests else ""
    pulumi.log.warn(
        f'Stack {stack} announces itself to the anchor stack "{anchor}"{signing}, and does nothing else yet. Next '
        f"run: pulumi up --stack {anchor}; then again: pulumi up --stack {stack}"
    )
    return {
        "anchorStack": anchor,
        MEMORY: {
            "requests": requests.requests if requests else {},
            "pledge": membership.pledge.as_outputs(),
            **({"linkName": link_name} if link_name else {}),
        },
    }


def _signed(signed: Mapping[str, str], last: StackOutputs, roots: Mapping[str, str]) -> dict[str, str]:
    """Return what was signed for this stack's present keys, by generation.

    What was signed before counts too where the anchor stack no longer has it, so that a cluster outlives its loss.
    """
    chosen = {
        generation: choose_signed(
            (signed.get(generation, ""), last.intermediates.get(generation, "")),
            last.requests.get(generation, ""),
            root,
        )
        for generation, root in roots.items()
    }
    return {generation: pem for generation, pem in chosen.items() if pem}


def _refuse(message: str) -> NoReturn:
    raise pulumi.RunError(f"{message}.\nNothing was changed.")
