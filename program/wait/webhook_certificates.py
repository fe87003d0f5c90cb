"""The wait for the webhooks' certificates: cert-manager has issued them under the authority that the run has sign."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pulumi

from components.webhook_certificates import WebhookCertificates
from meshtrust.cluster import cert_manager
from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE
from meshtrust.pki.pem import read_bundle
from program.checks.plan import RunPlan
from program.refusal import ending, notify_at
from program.wait.first_credentials import tell_unrenewed


def wait_for_webhook_certificates(
    plan: RunPlan, bundle: pulumi.Output[str], webhooks: WebhookCertificates
) -> pulumi.Output[str]:
    """Return the bundle once cert-manager has issued the certificates of the control plane's webhooks.

    At once in previews, and in a run that changes nothing about them. What a Certificate finds in its Secret may be
    under an authority that the API server does not trust: cert-manager asks only whether names and key are right. That
    is issued again, and what this run has signed is not.

    Args:
        plan: The plan of the run.
        bundle: The trusted roots as PEM.
        webhooks: The component that declares them.

    Raises:
        SystemExit: One is not issued; the message says why.
    """
    policy, last = plan.settings.webhooks, plan.last.webhooks
    is_changed = policy is not None and (not last.by_cert_manager or last.signer != policy.signer)
    if plan.api is None or not is_changed or pulumi.runtime.is_dry_run():
        return bundle
    api, linkerd = plan.api, plan.settings.linkerd
    advice = (tell_unrenewed(plan) or "\nLinkerd was left as it is.") + " Put it right and run again."

    async def wait(known: Sequence[Any]) -> str:
        [authority] = read_bundle(known[1])
        waits = [
            cert_manager.wait_issued(
                api,
                linkerd.namespace,
                webhook.service,
                linkerd.timeout_seconds,
                notify_at(webhooks),
                authority=authority,
            )
            for webhook in CONTROL_PLANE
        ]
        with ending(advice):
            await asyncio.gather(*waits)
        return str(known[0])

    made = [certificate.urn for certificate in webhooks.certificates]
    return pulumi.Output.all(bundle, webhooks.by_ca[0].chain, *made).apply(wait)
