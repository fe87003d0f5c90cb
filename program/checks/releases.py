"""The check of Helm releases: each that is there already is this stack's, left by a run that was killed.

The providers of the real engine are in process groups of their own: Helm goes on where the engine was killed, and
finishes a release that the state then knows nothing of. Helm itself refuses a second one of that name. Only a hook of
the resource reports that the engine is about to create it.
"""

from typing import Any

import pulumi

from components.charts import ReleaseOwner
from meshtrust.cluster.api import Api, ClusterError
from meshtrust.cluster.helm_release import forget_release, read_releases
from meshtrust.cluster.pending_release import check_owner, find_pending
from meshtrust.linkerd.cli_install import convert_issuer_secret, mark_for_helm
from meshtrust.names import CONTROL_PLANE_CHARTS, CRDS_CHARTS
from meshtrust.stacks.outputs import StackOutputs
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
        linkerd = plan.settings.linkerd.releases
        if not releases and plan.taken_over and name in linkerd:
            await _take_over(api, plan.taken_over, namespace, name, is_control_plane=name == linkerd[1])
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


async def _take_over(api: Api, present: PresentMesh, namespace: str, release: str, *, is_control_plane: bool) -> None:
    """Have Helm take over what `linkerd install` has made, right before it installs the release.

    Raises:
        ClusterError: An object cannot be read or changed.
    """
    if pulumi.runtime.is_dry_run():
        pulumi.log.info(f"The next update has Helm release {namespace}/{release} take over what is installed.")
        return
    if is_control_plane:
        await convert_issuer_secret(api, namespace, present.signing_root)
    marked = await mark_for_helm(api, namespace, release, is_control_plane=is_control_plane)
    pulumi.log.info(f"Helm release {namespace}/{release} takes over {marked} objects that are installed.")


def owner_id() -> str:
    """Return the name of this stack, as each of its releases keeps it in its description."""
    return f"meshtrust {pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"


def declared_releases(settings: Settings) -> list[tuple[str, str]]:
    """Return namespace and name of each release that a stack deploys."""
    releases = [(settings.linkerd.namespace, name) for name in settings.linkerd.releases]
    if settings.cert_manager:
        releases.append((settings.cert_manager.namespace, "cert-manager"))
    if settings.trust_bundle.trust_manager:
        releases.append((settings.trust_bundle.trust_manager.namespace, "trust-manager"))
    return releases


def check_names(settings: Settings, last: StackOutputs) -> None:
    """Make sure that Linkerd's releases have the names of the last deployment.

    Args:
        settings: What the stack says.
        last: What it has deployed last.

    Raises:
        ClusterError: One has another name. Helm would install it beside the old one, and then delete that.
    """
    if last.trust is None:
        return
    keys = ("linkerd.crdsRelease", "linkerd.controlPlaneRelease")
    for key, name, deployed in zip(keys, settings.linkerd.releases, last.linkerd_releases, strict=True):
        if name != deployed:
            msg = (
                f'meshtrust:{key} is "{name}", and this stack has deployed that release as "{deployed}". Helm renames '
                f"no release. Set it back: pulumi config rm --path {key}"
            )
            raise ClusterError(msg)


async def check_others(api: Api, settings: Settings, last: StackOutputs) -> None:
    """Make sure that no release of Linkerd's charts has another name before a first deployment.

    Helm would fail in the middle of the run, since each object belongs to one release.

    Args:
        api: Client of the cluster.
        settings: What the stack says.
        last: What it has deployed last.

    Raises:
        ClusterError: There is one; or the releases cannot be read.
    """
    if last.trust is not None:
        return
    kinds = (("linkerd.crdsRelease", CRDS_CHARTS), ("linkerd.controlPlaneRelease", CONTROL_PLANE_CHARTS))
    for found in await read_releases(api, settings.linkerd.namespace):
        for (key, charts), name in zip(kinds, settings.linkerd.releases, strict=True):
            if found.chart in charts and found.name != name:
                msg = (
                    f'meshtrust:{key} would be "{name}", and chart {found.chart} is installed as Helm release '
                    f"{found.namespace}/{found.name}. Name that: pulumi config set --path {key} {found.name}"
                )
                raise ClusterError(msg)


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
