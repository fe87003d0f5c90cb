"""Helm releases' part of the guard: one that a killed run has finished is this stack's, and each gets ready in time.

The providers of the real engine are in process groups of their own: Helm goes on where the engine was killed, and
finishes a release that the state then knows nothing of. Helm itself refuses a second one of that name. Only a hook of
the resource tells that the engine is about to create it.
"""

from collections.abc import Awaitable, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import ReleaseOwner, Resources
from meshtrust.cluster import Api
from meshtrust.helm_release import forget_release, read_releases
from meshtrust.readiness import wait_ready
from meshtrust.takeover import check_takeover
from program.refusal import PENDING, ending, telling
from settings import Settings


def owner(api: Awaitable[Api] | None, settings: Settings) -> ReleaseOwner:
    """Return whose releases those of this stack are.

    Args:
        api: Client of the cluster; nothing offline.
        settings: What the stack says.
    """
    mark = f"meshtrust {pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
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


async def _known(value: Any) -> Any:
    """Return a value without the mark of a secret; nothing where a preview does not know it."""
    return await pulumi.Output.from_input(value).future()
