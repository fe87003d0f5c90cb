"""The wait for the whole deployment, after which its outputs are returned."""

import pulumi
import pulumi_kubernetes as kubernetes

from meshtrust.linkerd.webhooks.calls import wait_injects
from program.checks.plan import RunPlan
from program.refusal import ending, notify_at
from program.wait.bundle import check_deployed
from program.wait.last_look import look_after_switch
from program.wait.releases import wait_for_pods


async def wait_until_deployed(
    plan: RunPlan, control_plane: kubernetes.helm.v3.Release, bundle: pulumi.Output[str], issued: pulumi.Output[str]
) -> None:
    """Await readiness: outputs record what is deployed, and Pulumi saves them even if the run fails later.

    Args:
        plan: The plan of the run.
        control_plane: The release of linkerd-control-plane.
        bundle: The trusted roots as PEM.
        issued: The same, once the credentials under them are issued.

    Raises:
        SystemExit: Something is not issued; the pods do not get ready; the proxy injector does not answer in a first
            deployment; the cluster trusts other roots; or a switch was overtaken.
    """
    await issued.future()
    await pulumi.Output.from_input(wait_for_pods(plan, control_plane)).future()
    await _wait_for_injector(plan, control_plane)
    await check_deployed(plan, bundle)
    await look_after_switch(plan)


async def _wait_for_injector(plan: RunPlan, control_plane: kubernetes.helm.v3.Release) -> None:
    if plan.api is None or plan.last.trust or pulumi.runtime.is_dry_run():
        return
    linkerd = plan.settings.linkerd
    with ending():
        await wait_injects(plan.api, linkerd.namespace, linkerd.timeout_seconds, notify_at(control_plane))
