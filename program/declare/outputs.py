"""The outputs of a cluster's stack: a summary for people, values for other programs, and the program's memory.

The engine shows outputs by name, so that the summary, `about`, comes first.
"""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.runtime.config import is_config_secret

from meshtrust.rotation.goal import Way
from meshtrust.rotation.report import RotationReport
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.outputs import MEMORY
from program.checks.plan import RunPlan
from program.checks.upgrade import images_as_outputs
from program.declare.cluster import DeclaredCluster
from program.providers import provider_versions


def cluster_outputs(
    plan: RunPlan, declared: DeclaredCluster, rotation: RotationReport
) -> dict[str, pulumi.Input[object]]:
    """Return the outputs of a run.

    Args:
        plan: The plan of the run.
        declared: The components that it has declared.
        rotation: The report of the rotation after the run.
    """
    settings, anchor = plan.settings, declared.anchor
    trust = Trust(anchors=settings.anchor.generations, signer=settings.anchor.signer)
    fleet = {"anchorStack": plan.fleet.anchor_stack} if plan.fleet and plan.pledge else {}
    return {
        "about": {
            "anchors": anchor.roots.apply(describe_ends),
            "cluster": settings.cluster.access.name,
            "issuer": f"mode {settings.issuer.mode}; its end: meshtrust status --stack {pulumi.get_stack()}",
            "next": describe_next(plan.way, rotation, pulumi.get_stack()),
            "phase": trust.phase,
            "signer": trust.signer,
        },
        **fleet,
        "rotation": rotation.as_outputs(),
        "context": settings.cluster.access.name,
        "kubeconfig": _as_configured("kubeconfig", settings.cluster.access.kubeconfig),
        "namespace": settings.linkerd.namespace,
        "trustDomain": settings.linkerd.trust_domain,
        "clusterUid": plan.cluster_uid,
        "anchors": list(settings.anchor.generations),
        "signer": settings.anchor.signer,
        "trustAnchors": anchor.bundle,
        "transitions": list(plan.transitions),
        "webhooks": declared.webhooks.as_outputs(),
        MEMORY: {
            **_fleet_memory(plan, declared),
            "trustAnchorsSha256": anchor.bundle_sha256,
            "roots": anchor.roots,
            "retired": plan.last.retired_by(settings.anchor.generations),
            "issuer": settings.issuer.as_outputs(),
            "guideGeneration": plan.default_named_generation,
            "trustBundle": {"mode": "trust-manager" if settings.trust_bundle.by_trust_manager else "helm"},
            "bundleRestorations": plan.restorations,
            "linkerdReleases": list(settings.linkerd.releases),
            "charts": {key: source.installed for key, source in settings.chart_sources.items()},
            "imageValues": images_as_outputs(settings),
            "providers": provider_versions(),
        },
    }


def describe_ends(roots: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return when each root ends (UTC), by generation.

    Args:
        roots: The roots, as `TrustAnchor.roots` has them.
    """
    return {name: f"until {str(root['notAfter'])[:16].replace('T', ' ')} UTC" for name, root in roots.items()}


def describe_next(way: Way, report: RotationReport, stack: str) -> str:
    """Return the next step of a stack in words, and what it waits for, or how a rotation is begun."""
    if way.next is None:
        return f"none; a rotation before the anchor ends: meshtrust rotate --stack {stack}"
    others = f" and {report.waiting_count - 1} more" if report.waiting_count > 1 else ""
    waiting = f", which waits for {report.waiting_for[0]}{others}" if report.waiting_for else ""
    return f"{way.next}{waiting}; the next run goes on"


def _fleet_memory(plan: RunPlan, declared: DeclaredCluster) -> dict[str, pulumi.Input[object]]:
    """Return the memory that the anchor stack reads."""
    if plan.fleet is None or plan.pledge is None:
        return {}
    return {
        "requests": declared.requests.requests if declared.requests else {},
        "intermediates": dict(plan.fleet.signed),
        "pledge": plan.pledge.as_outputs(),
        **({"linkName": plan.settings.link_name} if plan.settings.link_name else {}),
    }


def _as_configured(key: str, value: str) -> pulumi.Input[str]:
    """Return a value as an output that is a secret if the stack's file has it encrypted."""
    return pulumi.Output.secret(value) if is_config_secret(f"meshtrust:{key}") else value
