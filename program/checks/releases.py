"""Helm releases' part of the guard: one that a killed run has finished is this stack's, and each gets ready in time.

The providers of the real engine are in process groups of their own: Helm goes on where the engine was killed, and
finishes a release that the state then knows nothing of. Helm itself refuses a second one of that name. Only a hook of
the resource tells that the engine is about to create it.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import ReleaseOwner, Resources
from meshtrust.cluster.api import Api
from meshtrust.cluster.helm_release import forget_release, read_releases
from meshtrust.cluster.pending_release import AT_WORK, check_owner, find_pending, forget
from meshtrust.cluster.readiness import wait_ready
from meshtrust.names import LINKERD_CONTROL_PLANE, LINKERD_CRDS
from meshtrust.stacks.orphaned_release import check_takeover
from program.configuration.settings import Settings
from program.refusal import PENDING, ending, telling

_POLL_SECONDS = 2.0


def owner(api: Awaitable[Api] | None, settings: Settings) -> ReleaseOwner:
    """Return whose releases those of this stack are.

    Args:
        api: Client of the cluster; nothing offline.
        settings: What the stack says.
    """
    mark = _mark()
    if api is None:
        return ReleaseOwner(mark=mark)
    client, context = api, settings.cluster.context

    async def look(args: pulumi.ResourceHookArgs) -> None:
        inputs = {key: await _known(value) for key, value in (args.new_inputs or {}).items()}
        namespace, name = str(inputs["namespace"]), str(inputs["name"])
        for found in await read_releases(await client, namespace, name):
            check_takeover(found, mark, inputs.get("values") or {}, context)
            # An interrupted run leaves it so, and a state that was lost.
            left = f"Helm release {namespace}/{name} is this stack's, which has no record of it"
            if pulumi.runtime.is_dry_run():
                pulumi.log.warn(f"{left}. The next update takes it over.")
            else:
                await forget_release(await client, found)
                pulumi.log.info(f"{left}; it is taken over, and this run goes on. {PENDING}")

    def when_ready(release: kubernetes.helm.v3.Release) -> Resources:
        async def wait(place: Sequence[Any]) -> list[pulumi.Resource]:
            namespace, name, seconds = place
            with ending():
                await wait_ready(await client, namespace, name, seconds, telling(release))
            return [release]

        # In every run, since the one that deployed it may have ended before its pods were ready.
        return pulumi.Output.all(release.namespace, release.name, release.timeout).apply(wait)

    hook = pulumi.ResourceHook("release-is-free", look, pulumi.ResourceHookOptions(on_dry_run=True))
    if pulumi.runtime.is_dry_run():
        return ReleaseOwner(mark=mark, before_create=hook)
    return ReleaseOwner(mark=mark, before_create=hook, when_ready=when_ready)


def _mark() -> str:
    """Return what a release of this stack says of who deployed it."""
    return f"meshtrust {pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"


def _installed(settings: Settings) -> list[tuple[str, str]]:
    """Return namespace and name of each release that a stack deploys."""
    releases = [(settings.linkerd.namespace, LINKERD_CRDS), (settings.linkerd.namespace, LINKERD_CONTROL_PLANE)]
    if settings.cert_manager:
        releases.append((settings.cert_manager.namespace, "cert-manager"))
    if settings.trust_bundle.trust_manager:
        releases.append((settings.trust_bundle.trust_manager.namespace, "trust-manager"))
    return releases


async def check_pending(api: Api, settings: Settings) -> None:
    """Make sure that no release is half done which someone else has deployed; a preview tells of this stack's own.

    Args:
        api: Client of the cluster.
        settings: What the stack says.

    Raises:
        ClusterError: Someone else's release is half done; or the releases cannot be read.
    """
    for revision in await find_pending(api, _installed(settings)):
        await check_owner(api, revision, _mark(), settings.cluster.context)
        if pulumi.runtime.is_dry_run():
            pulumi.log.warn(
                f"An interrupted run has left release {revision.namespace}/{revision.release} half done. The next "
                f"update clears that ({revision.secret}) and goes on."
            )


async def resume(api: Awaitable[Api] | None, settings: Settings) -> None:
    """Clear the releases of this stack that an interrupted run has left half done, once the run may change the cluster.

    The engine lets one run at a time update a stack, but Helm may go on after its engine was killed. Helm waits for no
    pods here, so that one which is at work ends within `AT_WORK`; until then this waits for it.

    Args:
        api: Client of the cluster; None offline.
        settings: What the stack says.

    Raises:
        SystemExit: A release became someone else's, or cannot be cleared.
    """
    if api is None or pulumi.runtime.is_dry_run():
        return
    with ending():
        client = await api
        while pending := await find_pending(client, _installed(settings)):
            young = [revision for revision in pending if revision.age < AT_WORK]
            if young:
                listed = ", ".join(f"{revision.namespace}/{revision.release}" for revision in young)
                pulumi.log.info(
                    f"Helm may still be at work on {listed}, since an interrupted run has left it half done less than "
                    f"{AT_WORK.seconds} seconds ago. This run waits until it has ended."
                )
                await asyncio.sleep(_POLL_SECONDS)
                continue
            for revision in pending:
                await check_owner(client, revision, _mark(), settings.cluster.context)
                await forget(client, revision)
                pulumi.log.info(
                    f"An interrupted run has left release {revision.namespace}/{revision.release} half done; that was "
                    f"cleared ({revision.secret}), and this run goes on. {PENDING}"
                )


async def _known(value: Any) -> Any:
    """Return a value without the mark of a secret; nothing where a preview does not know it."""
    return await pulumi.Output.from_input(value).future()
