"""The outputs of a cluster's stack, which its next run and the anchor stack read."""

import pulumi
from pulumi.runtime.config import is_config_secret

from program.checks.plan import RunPlan
from program.checks.upgrade import images_as_outputs
from program.declare.cluster import DeclaredCluster
from program.providers import provider_versions


def cluster_outputs(plan: RunPlan, declared: DeclaredCluster) -> dict[str, pulumi.Input[object]]:
    """Return the outputs of a run.

    Args:
        plan: The plan of the run.
        declared: The components that it has declared.
    """
    settings, anchor = plan.settings, declared.anchor
    return {
        **_fleet_outputs(plan, declared),
        "context": settings.cluster.context,
        "kubeconfig": _as_configured("kubeconfig", settings.cluster.kubeconfig),
        "namespace": settings.linkerd.namespace,
        "trustDomain": settings.linkerd.trust_domain,
        "clusterUid": plan.cluster_uid,
        "anchors": list(settings.anchor.generations),
        "signer": settings.anchor.signer,
        "trustAnchors": anchor.bundle,
        "trustAnchorsSha256": anchor.bundle_sha256,
        "roots": anchor.roots,
        "retired": plan.last.retired_by(settings.anchor.generations),
        "transitions": list(plan.transitions),
        "issuer": settings.issuer.as_outputs(),
        "guideGeneration": plan.guide_generation,
        "webhooks": declared.webhooks.as_outputs(),
        "trustBundle": {"mode": "trust-manager" if settings.trust_bundle.by_trust_manager else "helm"},
        "bundleRestorations": plan.restorations,
        "charts": {key: source.installed for key, source in settings.chart_sources.items()},
        "imageValues": images_as_outputs(settings),
        "providers": provider_versions(),
    }


def _fleet_outputs(plan: RunPlan, declared: DeclaredCluster) -> dict[str, pulumi.Input[object]]:
    """Return the outputs that the anchor stack reads."""
    if plan.fleet is None or plan.pledge is None:
        return {}
    return {
        "anchorStack": plan.fleet.anchor_stack,
        "requests": declared.requests.requests if declared.requests else {},
        "intermediates": dict(plan.fleet.signed),
        "pledge": plan.pledge.as_outputs(),
    }


def _as_configured(key: str, value: str) -> pulumi.Input[str]:
    """Return a value as an output that is a secret if the stack's file has it encrypted."""
    return pulumi.Output.secret(value) if is_config_secret(f"meshtrust:{key}") else value
