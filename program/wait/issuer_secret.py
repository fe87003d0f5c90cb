"""The wait for the identity issuer: its Secret holds one that can sign for the mesh, before Linkerd is changed."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pulumi
from cryptography import x509

from components.identity_issuer import IdentityIssuer
from components.trust_anchor import Signer
from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import SECRETS, Api
from meshtrust.cluster.backoff import Notify
from meshtrust.linkerd.issuer.secret import judge_issuer_secret
from meshtrust.names import IDENTITY_ISSUER, KUBERNETES_TLS
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES
from meshtrust.pki.pem import read_bundle
from program.checks.issuance import report
from program.checks.plan import RunPlan
from program.configuration.settings import Settings
from program.refusal import ending, notify_at
from program.wait.first_credentials import tell_unrenewed


def wait_for_issuer_secret(
    plan: RunPlan, bundle: pulumi.Output[str], signer: Signer, issuer: IdentityIssuer
) -> pulumi.Output[str]:
    """Return the bundle once the Secret holds an issuer that is signed as this run has it; at once in previews.

    Linkerd waits for the bundle, and so never meets an issuer that the identity service would refuse: one that a third
    party makes may be signed by a root that is not in the bundle, or be no CA.

    Args:
        plan: The plan of the run.
        bundle: The trusted roots as PEM.
        signer: The generation that signs.
        issuer: The component that makes the Secret.

    Raises:
        SystemExit: It holds another one, or cert-manager does not issue.
    """
    if plan.api is None or not plan.awaits_issuer or pulumi.runtime.is_dry_run():
        return bundle
    api = plan.api
    advice = (
        f"{tell_unrenewed(plan)} Put it right and run again."
        if plan.signs_first
        else "\nLinkerd was left as it is. Put it right and run again; or set meshtrust:issuer back to what it was, "
        "and run again, before the identity service is restarted."
    )

    async def wait(resolved: Mapping[str, Any]) -> str:
        with ending(advice):
            await _wait_for(api, plan.settings, read_bundle(resolved["root"])[0], notify_at(issuer))
        return str(resolved["bundle"])

    made = {str(position): resource.urn for position, resource in enumerate(issuer.issued)}
    return pulumi.Output.all(bundle=bundle, root=signer.certificate_pem, **made).apply(wait)


async def _wait_for(api: Api, settings: Settings, root: x509.Certificate, notify: Notify) -> None:
    namespace, signer = settings.linkerd.namespace, settings.anchor.signer
    if settings.issuer.mode in CERT_MANAGER_MODES:
        await cert_manager.wait_issued(api, namespace, IDENTITY_ISSUER, settings.linkerd.timeout_seconds, notify)
    secret = await api.find(SECRETS, IDENTITY_ISSUER, namespace=namespace)
    absent = {"metadata": {"namespace": namespace}, "type": KUBERNETES_TLS}
    found = judge_issuer_secret(secret or absent, {signer: root}, signer, datetime.now(UTC))
    report(found, "What was issued cannot sign for the mesh")
