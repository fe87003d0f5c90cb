"""The check of the bundle: trust-manager is there if it publishes the bundle, and nobody has changed what it holds."""

import pulumi

from meshtrust.cluster import trust_manager
from meshtrust.cluster.api import Api, ClusterError
from meshtrust.cluster.helm_release import check_definition
from meshtrust.names import BUNDLES_DEFINITION
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.known_roots import Held
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings


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
