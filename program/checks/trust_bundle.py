"""The published bundle's part of the guard: trust-manager is there before a run, and its ConfigMap before Linkerd."""

from collections.abc import Awaitable, Mapping
from typing import Any

import pulumi

from components.trust_bundle import TrustBundle
from meshtrust.cluster import trust_manager
from meshtrust.cluster.api import Api, ClusterError
from meshtrust.cluster.helm_release import check_definition
from meshtrust.names import BUNDLES_DEFINITION
from meshtrust.pki.pem import fingerprint, read_bundle
from meshtrust.rotation.known_roots import Held, read_held
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings
from program.refusal import end, ending, telling


def check_move(settings: Settings, last: StackOutputs) -> None:
    """Judge the move from the last deployment by the two alone.

    Raises:
        ClusterError: The bundle would become part of Linkerd's release again, or go with what publishes it.
    """
    if last.bundle_by_trust_manager and not settings.trust_bundle.by_trust_manager:
        msg = (
            'meshtrust:trustBundle.mode is "helm", and trust-manager publishes the bundle. Helm does not take over its '
            "ConfigMap, which would be deleted with the Bundle. Set it back: pulumi config set --path trustBundle.mode "
            "trust-manager"
        )
        raise ClusterError(msg)
    if last.has_installed("trustBundle") and settings.trust_bundle.trust_manager is None:
        msg = (
            "meshtrust:trustBundle.install is false, and this stack has installed the trust-manager that publishes the "
            "bundle: taking it away would take its definitions, the Bundle and the trusted roots with it. Set it back: "
            "pulumi config set --path trustBundle.install true"
        )
        raise ClusterError(msg)


async def check(api: Api, settings: Settings, last: StackOutputs) -> None:
    """Make sure that there is a trust-manager, where another's is to be used, and else that nobody's is in the way.

    Raises:
        ClusterError: There is none, or there is one of another.
    """
    policy = settings.trust_bundle
    if policy.trust_manager:
        release = (policy.trust_manager.namespace, "trust-manager")
        is_own = last.has_installed("trustBundle")
        await check_definition(api, BUNDLES_DEFINITION, release, "trustBundle", is_own=is_own)
    elif policy.by_trust_manager:
        await trust_manager.check_api(api)


def count_restorations(settings: Settings, last: StackOutputs, held: Held) -> int:
    """Return how often the bundle of Linkerd's release has been restored, this run included if it has to do it.

    Pulumi compares a Helm release with what Helm has recorded of it, not with its objects (pulumi-kubernetes
    ``provider/pkg/provider/helm_release.go``), so that a ConfigMap that was edited or deleted shows as unchanged. With
    another number in its values the release is deployed again, and Helm compares each object as it is now.

    Args:
        settings: What the stack says.
        last: What it last deployed.
        held: The trust that the cluster holds; without a name of the bundle, no cluster was asked.
    """
    done = last.bundle_restorations
    # Another bundle changes the release by itself, and trust-manager restores its own.
    is_unchanged = last.anchors == settings.anchor.generations and not settings.trust_bundle.by_trust_manager
    if last.trust is None or not held.bundle_name or not is_unchanged or last.bundle_by_trust_manager:
        return done
    if set(map(fingerprint, held.roots)) == set(map(fingerprint, last.certificates.values())):
        return done
    pulumi.log.warn(
        f"{held.bundle_name} does not hold what was deployed: someone has changed it. This run restores it, and "
        "replaces the pods of the control plane, which may have read it."
    )
    return done + 1


def confirm(
    api: Awaitable[Api] | None, settings: Settings, bundle: pulumi.Output[str], trust_bundle: TrustBundle
) -> pulumi.Output[str]:
    """Return the bundle once it is where Linkerd's pods read it, which they do when they start and never again.

    Args:
        api: Client of the cluster; nothing offline.
        settings: What the stack says.
        bundle: The trusted roots as PEM.
        trust_bundle: What publishes them.

    Raises:
        SystemExit: trust-manager does not publish them.
    """
    if api is None or pulumi.runtime.is_dry_run() or not trust_bundle.published:
        return bundle
    client = api

    async def look(resolved: Mapping[str, Any]) -> str:
        roots = {fingerprint(root) for root in read_bundle(resolved["bundle"])}
        with ending("\nLinkerd was left as it is. Put it right, and run again."):
            await trust_manager.wait_published(await client, settings.linkerd.namespace, roots, telling(trust_bundle))
        return str(resolved["bundle"])

    made = {str(position): resource.urn for position, resource in enumerate(trust_bundle.published)}
    return pulumi.Output.all(bundle=bundle, **made).apply(look)


async def check_deployed(
    api: Awaitable[Api] | None, settings: Settings, last: StackOutputs, bundle: pulumi.Output[str]
) -> None:
    """End an update that has taken a step by its outputs alone: the cluster still trusts other roots than the run has.

    The engine leaves as it is what ``--target`` or ``--exclude`` leaves out, and all of it in a refresh that runs the
    program. Outputs that tell of a step nobody took would have the next run take it without a look at the cluster.

    Args:
        api: Client of the cluster; None offline.
        settings: What the run deploys.
        last: What the stack last deployed.
        bundle: The trusted roots as PEM.

    Raises:
        SystemExit: The cluster trusts other roots; or it cannot be read.
    """
    if api is None or pulumi.runtime.is_dry_run() or settings.trust == last.trust:
        return
    wanted = await bundle.future()
    with ending():
        held = await read_held(await api, settings.linkerd.namespace)
    if wanted and set(map(fingerprint, held.roots)) != set(map(fingerprint, read_bundle(wanted))):
        end(
            f"{held.bundle_name} holds other roots than this run deploys, so that its step was not taken: it has left "
            "the bundle out (--target, --exclude, refresh --run-program), or something else has written it. Deploy the "
            f"whole stack: pulumi up --refresh --stack {pulumi.get_stack()}"
        )
