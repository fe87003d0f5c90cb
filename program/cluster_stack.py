"""The program of a cluster's stack: the trust anchor, cert-manager, the identity issuer, and Linkerd under them."""

import asyncio
import importlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi.runtime.config import is_config_secret

from components.cert_manager import CertManager
from components.charts import Resources
from components.control_plane_namespace import ControlPlaneNamespace, ControlPlaneNamespaceArgs
from components.identity_issuer import IdentityIssuer, IdentityIssuerArgs
from components.intermediate_requests import IntermediateRequests, IntermediateRequestsArgs
from components.linkerd import Linkerd, LinkerdArgs
from components.observability import Observability, ObservabilityArgs
from components.trust_bundle import TrustBundle, TrustBundleArgs
from components.webhook_certificates import WebhookCertificates, WebhookCertificatesArgs
from meshtrust.cluster.connection.process import ClusterProcess
from meshtrust.rotation.pledge import Pledge
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings
from program.guard import admit, check_announced, first_deployment, issuance, last_look, releases, roots
from program.guard import trust_bundle as published
from program.membership import Membership, ask, read_membership
from program.providers import provider_versions


async def declare_cluster_stack(settings: Settings, last: StackOutputs, asker: ClusterProcess) -> pulumi.Inputs:
    """Declare the stack and return its outputs.

    Args:
        settings: What the stack says.
        last: What it last deployed.
        asker: Who asks the cluster.

    Raises:
        pulumi.RunError: The run is refused.
    """
    fleet = await read_membership(settings, last)
    settings = settings.with_roots(fleet.roots) if fleet else settings
    if fleet and fleet.asks:
        await check_announced(settings, asker)
        return ask(fleet, _requests(settings, settings.anchor.generations))
    admission = await admit(settings, last, fleet, asker)
    asked_for = (*admission.settings.anchor.generations, *settings.anchor.generations)
    settings = admission.settings
    if fleet:
        fleet.check_signed(settings)
    owner = releases.owner(admission.api, settings)

    cluster = kubernetes.Provider("cluster", settings.cluster.provider_args(admission.cluster_uid))
    # What declares is slow to load: the provider starts, and the cluster answers, meanwhile.
    await asyncio.to_thread(importlib.import_module, "pulumi_kubernetes.core.v1")
    admitted = await admission.admitted
    on_cluster = pulumi.ResourceOptions(providers=[cluster])

    restorations = published.count_restorations(settings, last, admitted.held)
    held, transitions = await first_deployment.check(admission, admitted, last, owner.mark)
    anchor = await roots.declare(settings.anchor, last, held)
    await releases.resume(admission.api, settings)
    requests = _requests(settings, asked_for) if fleet else None
    namespace = ControlPlaneNamespace(
        "linkerd-namespace", ControlPlaneNamespaceArgs(name=settings.linkerd.namespace), on_cluster
    )
    installed: list[pulumi.Resource] = []
    answering: Resources = []
    if settings.cert_manager:
        cert_manager = CertManager("cert-manager", replace(settings.cert_manager, owner=owner), on_cluster)
        installed = [cert_manager.release]
        answering = issuance.answering(admission.api, cert_manager, settings.cert_manager.namespace)
    by_cert_manager = pulumi.ResourceOptions(providers=[cluster], depends_on=answering)
    guide_generation = last.guide_generation or settings.guide_generation
    issuer = IdentityIssuer(
        "identity-issuer",
        IdentityIssuerArgs(
            policy=settings.issuer,
            namespace=namespace.name,
            signer=anchor.signer,
            intermediate=fleet.intermediate(requests, settings.anchor.signer) if fleet and requests else None,
            guide_generation=guide_generation,
            before_change=partial(last_look.before_switch, admission.last_look),
        ),
        by_cert_manager,
    )
    webhooks = WebhookCertificates(
        "webhooks", WebhookCertificatesArgs(policy=settings.webhooks, namespace=namespace.name), by_cert_manager
    )
    bundle = last_look.before_retirement(
        admission.last_look, anchor.bundle, [*issuer.issued, *webhooks.certificates, namespace]
    )
    trust_bundle = TrustBundle(
        "trust-bundle",
        TrustBundleArgs(policy=settings.trust_bundle, namespace=namespace.name, bundle=bundle, owner=owner),
        by_cert_manager,
    )
    issued = issuance.confirm(admission.issuance, bundle, anchor.signer, issuer)
    linkerd = Linkerd(
        "linkerd",
        LinkerdArgs(
            installation=settings.linkerd,
            namespace=namespace.name,
            bundle=published.confirm(admission.api, settings, issued, trust_bundle),
            publishes_bundle=not settings.trust_bundle.by_trust_manager,
            bundle_sha256=anchor.bundle_sha256,
            credentials=[*issuer.issued, *webhooks.certificates],
            webhook_bundle=webhooks.bundle,
            owner=owner,
            restorations=restorations,
        ),
        # Two releases at a time share the processor, and cert-manager is what the rest waits for.
        pulumi.ResourceOptions(providers=[cluster], depends_on=installed),
    )

    if settings.observability:
        Observability(
            "observability",
            ObservabilityArgs(
                monitoring=settings.observability, namespace=settings.observability.namespace or namespace.name
            ),
            on_cluster,
        )

    # The next run takes the outputs for what was deployed last, and the engine keeps those of a run that fails later.
    await pulumi.Output.from_input(linkerd.ready).future()
    await published.check_deployed(admission.api, settings, last, anchor.bundle)
    await last_look.after_switch(admission.last_look)
    return {
        **_fleet_outputs(fleet, requests, admission.pledge),
        "context": settings.cluster.context,
        "kubeconfig": _as_configured("kubeconfig", settings.cluster.kubeconfig),
        "namespace": settings.linkerd.namespace,
        "trustDomain": settings.linkerd.trust_domain,
        "clusterUid": admission.cluster_uid,
        "anchors": list(settings.anchor.generations),
        "signer": settings.anchor.signer,
        "trustAnchors": anchor.bundle,
        "trustAnchorsSha256": anchor.bundle_sha256,
        "roots": anchor.roots,
        "retired": last.retired_by(settings.anchor.generations),
        "transitions": transitions,
        "issuer": settings.issuer.as_outputs(),
        "guideGeneration": guide_generation,
        "webhooks": webhooks.as_outputs(),
        "trustBundle": {"mode": "trust-manager" if settings.trust_bundle.by_trust_manager else "helm"},
        "bundleRestorations": restorations,
        "charts": {key: source.installed for key, source in settings.chart_sources.items()},
        "providers": provider_versions(),
    }


def _as_configured(key: str, value: str) -> pulumi.Input[str]:
    """Return a value as an output that is a secret if the stack's file has it encrypted."""
    return pulumi.Output.secret(value) if is_config_secret(f"meshtrust:{key}") else value


def _requests(settings: Settings, generations: Sequence[str]) -> IntermediateRequests | None:
    """Return the keys and requests of a cluster whose intermediates the anchor stack signs; nothing in another mode."""
    if settings.issuer.mode != "intermediate":
        return None
    return IntermediateRequests(
        "intermediates",
        IntermediateRequestsArgs(
            generations=tuple(dict.fromkeys(generations)), trust_domain=settings.issuer.trust_domain
        ),
    )


def _fleet_outputs(
    fleet: Membership | None, requests: IntermediateRequests | None, pledge: Pledge | None
) -> dict[str, pulumi.Input[object]]:
    """Return what the anchor stack reads."""
    if fleet is None or pledge is None:
        return {}
    return {
        "anchorStack": fleet.anchor_stack,
        "requests": requests.requests if requests else {},
        "intermediates": dict(fleet.signed),
        "pledge": pledge.as_outputs(),
    }
