"""The first credentials of a new mesh: this run signs them itself, so that Linkerd starts while cert-manager does.

A pod whose Secret is missing pulls no image: a kubelet mounts the volumes first, and tries a mount that has failed
again after pauses that grow to two minutes (kubernetes ``pkg/kubelet/kubelet.go``, SyncPod). With cert-manager before
it, Linkerd would begin to pull its images only when cert-manager had pulled its own.

What is signed here is what cert-manager signs: for the same spec, by the same CA. cert-manager takes the Secrets over,
issues the identity issuer again at once, and the certificates of the webhooks when they are due. No key of these is in
the stack's state.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pulumi

from components.ca_issuer import CaCertificate
from meshtrust.cluster.api import SECRETS, Api, ConflictError
from meshtrust.names import KUBERNETES_TLS
from meshtrust.pki.durations import format_duration
from meshtrust.pki.signing import sign_certificate
from program.checks.plan import RunPlan
from program.refusal import ending


def sign_first_credentials(
    plan: RunPlan,
    namespace: pulumi.Input[str],
    certificates: Sequence[CaCertificate],
    bundle: pulumi.Output[str],
    issued: pulumi.Output[str],
) -> pulumi.Output[str]:
    """Return the bundle once the Secrets of a new mesh are there: what Linkerd waits for; at once in previews.

    A Secret that is there already is left as it is, and Linkerd then waits until cert-manager has issued.

    Args:
        plan: The plan of the run, which signs the first credentials.
        namespace: Namespace of Linkerd's control plane, which exists.
        certificates: The Certificates whose Secrets Linkerd's pods mount.
        bundle: The trusted roots as PEM.
        issued: The bundle once cert-manager has issued all of them.

    Raises:
        SystemExit: A Secret cannot be written.
    """
    if plan.api is None or pulumi.runtime.is_dry_run():
        return bundle
    api = plan.api

    async def write(resolved: Mapping[str, Any]) -> bool:
        with ending("\nLinkerd was not installed. Put it right and run again."):
            written = [await _write(api, resolved["namespace"], each) for each in resolved["certificates"]]
        return all(written)

    parts = [
        pulumi.Output.all(secret=each.secret, spec=each.spec, chain=each.chain, key=each.key) for each in certificates
    ]
    written: pulumi.Output[bool] = pulumi.Output.all(namespace=namespace, certificates=pulumi.Output.all(*parts)).apply(
        write
    )

    async def wait(resolved: Mapping[str, Any]) -> str:
        if not resolved["written"]:
            await issued.future()
        return str(resolved["bundle"])

    # The keys have made it a secret, and the bundle is none.
    return pulumi.Output.all(bundle=bundle, written=pulumi.Output.unsecret(written)).apply(wait)


def tell_unrenewed(plan: RunPlan) -> str:
    """Return what follows the reason of a run that ends before cert-manager has issued; empty if it signs nothing."""
    if not plan.signs_first:
        return ""
    lifetime = format_duration(plan.settings.issuer.duration)
    return (
        f"\nIf Linkerd runs already, it has an issuer that a run has signed: it ends {lifetime} after that, and "
        "nothing renews it until cert-manager does."
    )


async def _write(api: Api, namespace: str, certificate: Mapping[str, Any]) -> bool:
    """Write the Secret of a Certificate, and return whether it was free."""
    name = certificate["secret"]
    content = sign_certificate(
        certificate["spec"], certificate["chain"], certificate["key"], datetime.now(UTC).replace(microsecond=0)
    )
    secret = {"metadata": {"name": name}, "type": KUBERNETES_TLS, "stringData": content}
    try:
        await api.create(SECRETS, secret, namespace=namespace)
    except ConflictError:
        return False
    return True
