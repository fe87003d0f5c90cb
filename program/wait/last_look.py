"""The last look at the evidence: right before a step is taken, and after a switch, which may have been overtaken.

The first look may be minutes old: a run upgrades nothing in between, but it waits for cert-manager and its issuers.
What comes up between the last look and the change is seen after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pulumi

from components.charts import Resources
from components.identity_issuer import IdentityIssuer
from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import Api
from meshtrust.rotation.gate import Blocker, find_overtaken
from meshtrust.rotation.overrides import name_subject
from program.checks.evidence import look
from program.checks.overrides import describe_blockers
from program.checks.plan import CheckedStep, RunPlan
from program.refusal import end, ending, notify_at

_LEFT = "The step was not taken: what signs and what is trusted was left as it is. Run the same again."
_OVERTAKEN = (
    "This has come up while the run switched. Their certificates are still under the old anchor, and so are those of "
    "most others, until they are renewed: at 70 % of their life, of a day by default. Restart what is listed before "
    "that (kubectl rollout restart, or `meshtrust rotate`, which does it), then run the same again."
)


def look_before_switch(plan: RunPlan, issuer: IdentityIssuer) -> Resources:
    """Return what the identity issuer waits for before another generation signs it, and the last look after that.

    Args:
        plan: The plan of the run.
        issuer: The identity issuer.
    """
    signed_by = issuer.signed_by
    if (awaited := _awaited(plan, "switch")) is None:
        return list(signed_by)
    api, checked = awaited

    async def wait_and_look(_: Mapping[str, Any]) -> list[pulumi.Resource]:
        linkerd = plan.settings.linkerd
        if issuer.ca_issuer:
            with ending(f"\n{_LEFT}"):
                await cert_manager.wait_issuer_ready(
                    api, linkerd.namespace, issuer.ca_issuer, linkerd.timeout_seconds, notify_at(issuer)
                )
        await look_again(plan, checked, api)
        return list(signed_by)

    return pulumi.Output.all(**_urns(signed_by)).apply(wait_and_look)


def look_before_retirement(
    plan: RunPlan, bundle: pulumi.Output[str], changed_before: Sequence[pulumi.Resource]
) -> pulumi.Output[str]:
    """Return the bundle after the last look, for what trusts a generation no longer.

    Args:
        plan: The plan of the run.
        bundle: The bundle as PEM.
        changed_before: The resources after which it is looked.
    """
    if (awaited := _awaited(plan, "retire")) is None:
        return bundle
    api, checked = awaited

    async def wait_and_look(resolved: Mapping[str, Any]) -> str:
        await look_again(plan, checked, api)
        return str(resolved["bundle"])

    return pulumi.Output.all(bundle=bundle, **_urns(changed_before)).apply(wait_and_look)


async def look_again(plan: RunPlan, checked: CheckedStep, api: Api) -> None:
    """Check a step again.

    Args:
        plan: The plan of the run.
        checked: The step, and what was accepted at the first look.
        api: The client of the cluster.

    Raises:
        SystemExit: Something blocks it that was not there at the first look; or the cluster cannot be read.
    """
    with ending(f"\n{_LEFT}"):
        found = await look(api, plan.settings, plan.last, checked.step)
    blockers = _unaccepted(found, checked)
    if blockers:
        end(f"{describe_blockers(checked.step, blockers)}\nThis has come up since the run began. {_LEFT}")


async def look_after_switch(plan: RunPlan) -> None:
    """Look for proxies that do not trust what signs now, before the run records that it does.

    The run ends without its outputs then, as one that was interrupted: the next one has the switch checked again.

    Args:
        plan: The plan of the run.

    Raises:
        SystemExit: There are some, other than those that were accepted; or the cluster cannot be read.
    """
    if (awaited := _awaited(plan, "switch")) is None:
        return
    api, checked = awaited
    signer = checked.step.after.signer
    with ending(
        f"\nThe anchor {signer} signs, and whether all trust it was not seen. Run the same again within the hour."
    ):
        root = plan.last.certificates[signer]
        found = await find_overtaken(api, plan.settings.linkerd.namespace, root, signer)
    blockers = _unaccepted(found, checked)
    if blockers:
        end(f"{describe_blockers(checked.step, blockers)}\n{_OVERTAKEN}")


def _awaited(plan: RunPlan, kind: str) -> tuple[Api, CheckedStep] | None:
    """Return the client, and the step to check again if it is of a kind; None in previews, and if there is none."""
    checked = plan.checked_step
    if plan.api is None or checked is None or checked.step.kind != kind or pulumi.runtime.is_dry_run():
        return None
    return plan.api, checked


def _unaccepted(found: Iterable[Blocker], checked: CheckedStep) -> list[Blocker]:
    accepted = set(map(name_subject, checked.accepted))
    return [blocker for blocker in found if name_subject(blocker) not in accepted]


def _urns(resources: Sequence[pulumi.Resource]) -> dict[str, pulumi.Output[str]]:
    return {str(position): resource.urn for position, resource in enumerate(resources)}
