"""The waits for the bundle: trust-manager publishes it before Linkerd, and the cluster holds it before the outputs."""

from collections.abc import Mapping
from typing import Any

import pulumi

from components.trust_bundle import TrustBundle
from meshtrust.cluster import trust_manager
from meshtrust.pki.pem import fingerprint, read_bundle
from meshtrust.rotation.known_roots import read_held
from program.checks.plan import RunPlan
from program.refusal import end, ending, notify_at


def wait_for_published_bundle(
    plan: RunPlan, bundle: pulumi.Output[str], trust_bundle: TrustBundle
) -> pulumi.Output[str]:
    """Return the bundle once it is in the ConfigMap that Linkerd's pods read as they start; at once in previews.

    Args:
        plan: The plan of the run.
        bundle: The trusted roots as PEM.
        trust_bundle: The component that has them published.

    Raises:
        SystemExit: trust-manager does not publish them.
    """
    if plan.api is None or pulumi.runtime.is_dry_run() or not trust_bundle.published:
        return bundle
    api, linkerd = plan.api, plan.settings.linkerd

    async def wait(resolved: Mapping[str, Any]) -> str:
        roots = {fingerprint(root) for root in read_bundle(resolved["bundle"])}
        with ending("\nLinkerd was left as it is. Put it right, and run again."):
            await trust_manager.wait_published(
                api, linkerd.namespace, roots, linkerd.timeout_seconds, notify_at(trust_bundle)
            )
        return str(resolved["bundle"])

    made = {str(position): resource.urn for position, resource in enumerate(trust_bundle.published)}
    return pulumi.Output.all(bundle=bundle, **made).apply(wait)


async def check_deployed(plan: RunPlan, bundle: pulumi.Output[str]) -> None:
    """End an update that has taken a step by its outputs alone: the cluster still trusts other roots than the run has.

    The engine leaves as it is what ``--target`` or ``--exclude`` leaves out, and all of it in a refresh that runs the
    program. Outputs that record a step nobody took would have the next run take it without a look at the cluster.

    Args:
        plan: The plan of the run.
        bundle: The trusted roots as PEM.

    Raises:
        SystemExit: The cluster trusts other roots; or it cannot be read.
    """
    if plan.api is None or pulumi.runtime.is_dry_run() or plan.settings.trust == plan.last.trust:
        return
    wanted = await bundle.future()
    with ending():
        held = await read_held(plan.api, plan.settings.linkerd.namespace)
    if wanted and set(map(fingerprint, held.roots)) != set(map(fingerprint, read_bundle(wanted))):
        end(
            f"{held.bundle_name} holds other roots than this run deploys, so that its step was not taken: it has left "
            "the bundle out (--target, --exclude, refresh --run-program), or something else has written it. Deploy the "
            f"whole stack: pulumi up --refresh --stack {pulumi.get_stack()}"
        )
