"""The guard's part right before a step, which is judged again, and after a switch, which may have been overtaken.

The look before the run may be minutes old: a run upgrades nothing else in between, but it waits for cert-manager and
its issuers. What comes up between the last look and the change is seen after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.charts import Resources
from meshtrust.cluster.api import Api
from meshtrust.rotation.gate import Blocker, find_overtaken
from meshtrust.rotation.overrides import name_subject
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings
from program.guard.look import look
from program.guard.overrides import tell
from program.refusal import end, ending

_LEFT = "The step was not taken: what signs and what is trusted was left as it is. Run the same again."
_OVERTAKEN = (
    "This has come up while the run switched. Their certificates are still under the old anchor, and so are those of "
    "most others, until they are renewed: at 70 % of their life, of a day by default. Restart what is listed before "
    "that (kubectl rollout restart, or `meshtrust rotate`, which does it), then run the same again."
)


@dataclass(frozen=True, kw_only=True)
class LastLook:
    """A step that was found safe, and is judged once more before the cluster is changed, and after a switch.

    Attributes:
        api: Client of the cluster.
        settings: What the stack says.
        step: The step: a switch or a retirement.
        last: What the stack last deployed.
        accepted: What blocked it at the first look, and was let pass by an override.
    """

    api: Api
    settings: Settings
    step: Step
    last: StackOutputs
    accepted: Sequence[Blocker] = ()

    async def look(self) -> None:
        """Judge the step.

        Raises:
            SystemExit: Something blocks it that was not there at the first look; or the cluster cannot be read.
        """
        known = set(map(name_subject, self.accepted))
        with ending(f"\n{_LEFT}"):
            found = await look(self.api, self.settings, self.last, self.step)
        blockers = [blocker for blocker in found if name_subject(blocker) not in known]
        if blockers:
            end(f"{tell(self.step, blockers)}\nThis has come up since the run began. {_LEFT}")

    async def look_after(self) -> None:
        """Look for proxies that do not trust what signs now.

        The run ends without its outputs then, as one that was interrupted: the next one has the switch judged again.

        Raises:
            SystemExit: There are some, other than those that were accepted; or the cluster cannot be read.
        """
        known = set(map(name_subject, self.accepted))
        signer, namespace = self.step.after.signer, self.settings.linkerd.namespace
        with ending(
            f"\nThe anchor {signer} signs, and whether all trust it was not seen. Run the same again within the hour."
        ):
            found = await find_overtaken(self.api, namespace, self.last.certificates[signer], signer)
        blockers = [blocker for blocker in found if name_subject(blocker) not in known]
        if blockers:
            end(f"{tell(self.step, blockers)}\n{_OVERTAKEN}")


def before_switch(last_look: LastLook | None, waited_for: Sequence[pulumi.Resource]) -> Resources:
    """Return what the identity issuer waits for before it is signed by another generation, and the look after that.

    Args:
        last_look: The look; None if the run takes no step that was judged.
        waited_for: The resources.
    """
    if last_look is None or last_look.step.kind != "switch" or pulumi.runtime.is_dry_run():
        return list(waited_for)
    looking = last_look

    async def wait_and_look(_: Mapping[str, Any]) -> list[pulumi.Resource]:
        await looking.look()
        return list(waited_for)

    return pulumi.Output.all(**_urns(waited_for)).apply(wait_and_look)


async def after_switch(last_look: LastLook | None) -> None:
    """Look once more at the cluster once another generation signs, before the run records that it does.

    Args:
        last_look: The look; None if the run takes no step that was judged.

    Raises:
        SystemExit: The switch was overtaken.
    """
    if last_look is not None and last_look.step.kind == "switch" and not pulumi.runtime.is_dry_run():
        await last_look.look_after()


def before_retirement(
    last_look: LastLook | None, bundle: pulumi.Output[str], waited_for: Sequence[pulumi.Resource]
) -> pulumi.Output[str]:
    """Return the bundle after the look, for what trusts a generation no longer.

    Args:
        last_look: The look; None if the run takes no step that was judged.
        bundle: The bundle as PEM.
        waited_for: The resources after which it is looked.
    """
    if last_look is None or last_look.step.kind != "retire" or pulumi.runtime.is_dry_run():
        return bundle
    looking = last_look

    async def wait_and_look(resolved: Mapping[str, Any]) -> str:
        await looking.look()
        return str(resolved["bundle"])

    return pulumi.Output.all(bundle=bundle, **_urns(waited_for)).apply(wait_and_look)


def _urns(resources: Sequence[pulumi.Resource]) -> dict[str, pulumi.Output[str]]:
    return {str(position): resource.urn for position, resource in enumerate(resources)}
