"""The wait for Linkerd's definitions: the API server serves them before the control plane is installed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import Resources
from meshtrust.cluster.definitions import set_up_storage, wait_served
from program.checks.plan import RunPlan
from program.refusal import ending, notify_at

# Kind of what a release has made, as the provider writes it: "<kind>.<group>/<version>".
_KIND = "CustomResourceDefinition."


def wait_for_definitions(plan: RunPlan, release: kubernetes.helm.v3.Release) -> Resources:
    """Return a release as a thing to depend on that is there once its definitions are served; at once in previews.

    Helm would look every two seconds, and wait as long when it takes the release away.

    Args:
        plan: The plan of the run.
        release: The release.

    Raises:
        SystemExit: The definitions are not served within the release's timeout; the message says why.
    """
    if plan.api is None or pulumi.runtime.is_dry_run():
        return [release]
    api = plan.api

    async def wait(made: Sequence[Any]) -> list[pulumi.Resource]:
        names, seconds = made
        with ending():
            await wait_served(api, _definitions(names or {}), seconds, notify_at(release))
            if plan.last.trust is None:
                await set_up_storage(api, _definitions(names or {}))
        return [release]

    return pulumi.Output.all(release.resource_names, release.timeout).apply(wait)


def _definitions(made: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for kind, names in made.items() if kind.startswith(_KIND) for name in names]
