"""The waits for Helm releases: for Helm of a killed run to end, and for the pods of a release to be ready."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import Resources
from meshtrust.cluster.api import LOOK_SECONDS
from meshtrust.cluster.pending_release import AT_WORK, check_owner, find_pending, forget
from meshtrust.cluster.readiness import wait_ready
from program.checks.plan import RunPlan
from program.checks.releases import declared_releases, owner_id
from program.refusal import PENDING, ending, notify_at


async def clear_pending_releases(plan: RunPlan) -> None:
    """Clear the releases of this stack that an interrupted run has left half done, once the run may change the cluster.

    The engine lets one run at a time update a stack, but Helm may go on after its engine was killed. Helm waits for no
    pods here, so that one which is at work ends within `AT_WORK`; until then this waits for it.

    Args:
        plan: The plan of the run.

    Raises:
        SystemExit: A release is now another owner's, or cannot be cleared.
    """
    if plan.api is None or pulumi.runtime.is_dry_run():
        return
    releases, reported = declared_releases(plan.settings), ""
    with ending():
        while pending := await find_pending(plan.api, releases):
            young = [revision for revision in pending if revision.age < AT_WORK]
            if young:
                listed = ", ".join(f"{revision.namespace}/{revision.release}" for revision in young)
                if listed != reported:
                    pulumi.log.info(
                        f"Helm may still be at work on {listed}, since an interrupted run has left it half done less "
                        f"than {AT_WORK.seconds} seconds ago. This run waits until it has ended."
                    )
                    reported = listed
                await asyncio.sleep(LOOK_SECONDS)
                continue
            for revision in pending:
                await check_owner(plan.api, revision, owner_id(), plan.settings.cluster.access.helm)
                await forget(plan.api, revision)
                pulumi.log.info(
                    f"An interrupted run has left release {revision.namespace}/{revision.release} half done; that was "
                    f"cleared ({revision.secret}), and this run goes on. {PENDING}"
                )


def wait_for_pods(plan: RunPlan, release: kubernetes.helm.v3.Release, advice: str = "") -> Resources:
    """Return a release as a thing to depend on that is there once its pods are ready; at once offline and in previews.

    It waits in every run, since the one that deployed the release may have ended before its pods were ready.

    Args:
        plan: The plan of the run.
        release: The release.
        advice: Text that follows the message if they do not get ready.

    Raises:
        SystemExit: The pods do not get ready within the release's timeout; the message says what keeps each of them.
    """
    if plan.api is None or pulumi.runtime.is_dry_run():
        return [release]
    api = plan.api

    async def wait(place: Sequence[Any]) -> list[pulumi.Resource]:
        namespace, name, seconds = place
        with ending(advice):
            await wait_ready(api, namespace, name, seconds, notify_at(release))
        return [release]

    return pulumi.Output.all(release.namespace, release.name, release.timeout).apply(wait)
