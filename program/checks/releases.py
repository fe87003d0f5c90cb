"""The check of Helm releases: each that is there already is this stack's, left by a run that was killed.

The providers of the real engine are in process groups of their own: Helm goes on where the engine was killed, and
finishes a release that the state then knows nothing of. Helm itself refuses a second one of that name. Only a hook of
the resource reports that the engine is about to create it.
"""

from typing import Any

import pulumi

from components.charts import ReleaseOwner
from meshtrust.cluster.api import Api
from meshtrust.cluster.helm_release import forget_release, read_releases
from meshtrust.cluster.pending_release import check_owner, find_pending
from meshtrust.linkerd.cli_install import convert_issuer_secret, mark_for_helm
from meshtrust.names import LINKERD_CONTROL_PLANE, LINKERD_CRDS
from meshtrust.stacks.takeover.orphaned_release import check_takeover
from meshtrust.stacks.takeover.present_mesh import PresentMesh
from program.checks.plan import RunPlan
from program.checks.replacement import refuse_replacement
from program.configuration.settings import Settings
from program.refusal import PENDING


def release_owner(plan: RunPlan) -> ReleaseOwner:
    """Return the owner of this stack's releases, with the hook that looks for an orphaned one before each is created.

    Args:
        plan: The plan of the run.
    """
    if plan.api is None:
        return ReleaseOwner(owner_id=owner_id())
    api, access = plan.api, plan.settings.cluster.access

    async def look(args: pulumi.ResourceHookArgs) -> None:
        inputs = {key: await _known(value) for key, value in (args.new_inputs or {}).items()}
        namespace, name = str(inputs["namespace"]), str(inputs["name"])
        releases = await read_releases(api, namespace, name)
        if not releases and plan.taken_over and name in (LINKERD_CRDS, LINKERD_CONTROL_PLANE):
            await _take_over(api, plan.taken_over, namespace, name)
        for found in releases:
            check_takeover(found, owner_id(), inputs.get("values") or {}, access.helm)
            what = f"Helm release {namespace}/{name}"
            await refuse_replacement(api, plan.last, namespace, name=name, what=what, kubectl=access.kubectl)
            # An interrupted run leaves it so, and a state that was lost with its outputs.
            left = f"Helm release {namespace}/{name} is this stack's, which has no record of it"
            if pulumi.runtime.is_dry_run():
                pulumi.log.warn(f"{left}. The next update takes it over.")
            else:
                await forget_release(api, found)
                pulumi.log.info(f"{left}; it is taken over, and this run goes on. {PENDING}")

    hook = pulumi.ResourceHook("release-is-free", look, pulumi.ResourceHookOptions(on_dry_run=True))
    return ReleaseOwner(owner_id=owner_id(), before_create=hook)


async def _take_over(api: Api, present: PresentMesh, namespace: str, release: str) -> None:
    """Have Helm take over what `linkerd install` has made, right before it installs the release.

    Raises:
        ClusterError: An object cannot be read or changed.
    """
    if pulumi.runtime.is_dry_run():
        pulumi.log.info(f"The next update has Helm release {namespace}/{release} take over what is installed.")
        return
    if release == LINKERD_CONTROL_PLANE:
        await convert_issuer_secret(api, namespace, present.signing_root)
    marked = await mark_for_helm(api, namespace, release)
    pulumi.log.info(f"Helm release {namespace}/{release} takes over {marked} objects that are installed.")


def owner_id() -> str:
    """Return the name of this stack, as each of its releases keeps it in its description."""
    return f"meshtrust {pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"


def declared_releases(settings: Settings) -> list[tuple[str, str]]:
    """Return namespace and name of each release that a stack deploys."""
    releases = [(settings.linkerd.namespace, LINKERD_CRDS), (settings.linkerd.namespace, LINKERD_CONTROL_PLANE)]
    if settings.cert_manager:
        releases.append((settings.cert_manager.namespace, "cert-manager"))
    if settings.trust_bundle.trust_manager:
        releases.append((settings.trust_bundle.trust_manager.namespace, "trust-manager"))
    return releases


async def check_pending(api: Api, settings: Settings) -> None:
    """Make sure that no release of another owner is half done; a preview warns of this stack's own.

    Args:
        api: Client of the cluster.
        settings: What the stack says.

    Raises:
        ClusterError: A release of another owner is half done; or the releases cannot be read.
    """
    for revision in await find_pending(api, declared_releases(settings)):
        await check_owner(api, revision, owner_id(), settings.cluster.access.helm)
        if pulumi.runtime.is_dry_run():
            pulumi.log.warn(
                f"An interrupted run has left release {revision.namespace}/{revision.release} half done. The next "
                f"update clears that ({revision.secret}) and goes on."
            )


async def _known(value: Any) -> Any:
    """Return a value without the mark of a secret; None if a preview does not know it."""
    return await pulumi.Output.from_input(value).future()
