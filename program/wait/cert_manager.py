"""The wait for cert-manager: its API answers, webhook included."""

import pulumi

from components.cert_manager import CertManager
from components.charts import Resources
from meshtrust.cluster import cert_manager
from program.checks.plan import RunPlan
from program.refusal import ending, notify_at
from program.wait.first_credentials import tell_unrenewed
from program.wait.releases import wait_for_pods


def wait_for_cert_manager_api(plan: RunPlan, installed: CertManager, namespace: str) -> Resources:
    """Return cert-manager as a thing to depend on that is there once its API answers; at once offline and in previews.

    The API server takes a while longer to trust the webhook than its pods take to be ready.

    Args:
        plan: The plan of the run.
        installed: The installation.
        namespace: Its namespace.

    Raises:
        SystemExit: It does not answer.
    """
    if plan.api is None or pulumi.runtime.is_dry_run():
        return [installed]
    api, seconds, advice = plan.api, plan.settings.linkerd.timeout_seconds, tell_unrenewed(plan)

    async def wait(_: list[pulumi.Resource]) -> list[pulumi.Resource]:
        with ending(advice):
            await cert_manager.wait_answers(api, namespace, seconds, notify_at(installed))
        return [installed]

    return pulumi.Output.from_input(wait_for_pods(plan, installed.release, advice)).apply(wait)
