"""The resources of a cluster's stack: cert-manager, the identity issuer, and Linkerd under them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.cert_manager import CertManager
from components.charts import ChartSource, Resources
from components.control_plane_namespace import ControlPlaneNamespace, ControlPlaneNamespaceArgs
from components.identity_issuer import IdentityIssuer, IdentityIssuerArgs
from components.intermediate_requests import IntermediateRequests, IntermediateRequestsArgs
from components.linkerd import Linkerd, LinkerdArgs
from components.observability import Observability, ObservabilityArgs
from components.trust_anchor import TrustAnchor
from components.trust_bundle import TrustBundle, TrustBundleArgs
from components.webhook_certificates import WebhookCertificates, WebhookCertificatesArgs
from program.checks.plan import RunPlan
from program.checks.releases import release_owner
from program.wait.bundle import wait_for_published_bundle
from program.wait.cert_manager import wait_for_cert_manager_api
from program.wait.definitions import wait_for_definitions
from program.wait.first_credentials import sign_first_credentials
from program.wait.issuer_secret import wait_for_issuer_secret
from program.wait.last_look import look_before_retirement, look_before_switch
from program.wait.left_out import DeclaredRelease
from program.wait.releases import wait_for_pods
from program.wait.webhook_certificates import wait_for_webhook_certificates


@dataclass(frozen=True, kw_only=True)
class DeclaredCluster:
    """The components of a cluster's stack from which its outputs are made.

    Attributes:
        anchor: The trust anchor.
        requests: The requests for intermediates; None if the anchor stack signs none for this stack.
        webhooks: The certificates of the webhooks.
        issued: The trusted roots as PEM, once the identity issuer and the webhooks' certificates are issued.
        linkerd: Linkerd, whose pods may not be ready.
        releases: The Helm releases.
    """

    anchor: TrustAnchor
    requests: IntermediateRequests | None
    webhooks: WebhookCertificates
    issued: pulumi.Output[str]
    linkerd: Linkerd
    releases: Sequence[DeclaredRelease]


def declare_provider(plan: RunPlan) -> kubernetes.Provider:
    """Declare the provider of the cluster; first of all, since the engine starts and configures it meanwhile."""
    return kubernetes.Provider("cluster", plan.settings.cluster.provider_args(plan.cluster_uid))


def declare_cluster(plan: RunPlan, anchor: TrustAnchor, cluster: kubernetes.Provider) -> DeclaredCluster:
    """Declare all of a cluster's stack but its trust anchor.

    Args:
        plan: The plan of the run.
        anchor: The trust anchor, which is declared before.
        cluster: The provider of the cluster.
    """
    settings, fleet = plan.settings, plan.fleet
    owner = release_owner(plan)
    on_cluster = pulumi.ResourceOptions(providers=[cluster])
    requests = declare_requests(settings.issuer.trust_domain, plan.requested_generations) if fleet else None
    namespace = ControlPlaneNamespace(
        "linkerd-namespace", ControlPlaneNamespaceArgs(name=settings.linkerd.namespace), on_cluster
    )

    releases: list[DeclaredRelease] = []
    answering: Resources = []
    if settings.cert_manager:
        cert_manager = CertManager("cert-manager", replace(settings.cert_manager, owner=owner), on_cluster)
        releases.append(_declared(cert_manager.release, settings.cert_manager.charts, settings.cert_manager.values))
        answering = wait_for_cert_manager_api(plan, cert_manager, settings.cert_manager.namespace)
    by_cert_manager = pulumi.ResourceOptions(providers=[cluster], depends_on=answering)

    issuer = IdentityIssuer(
        "identity-issuer",
        IdentityIssuerArgs(
            policy=settings.issuer,
            namespace=namespace.name,
            after=answering,
            deleted_with=namespace.resource,
            signer=anchor.signer,
            intermediate=fleet.intermediate(requests, settings.anchor.signer)
            if fleet and requests and settings.issuer.mode == "intermediate"
            else None,
            default_named_generation=plan.default_named_generation,
        ),
        on_cluster,
    )
    issuer.issue(after=look_before_switch(plan, issuer))
    webhooks = WebhookCertificates(
        "webhooks",
        WebhookCertificatesArgs(
            policy=settings.webhooks, namespace=namespace.name, after=answering, deleted_with=namespace.resource
        ),
        on_cluster,
    )
    credentials = [*issuer.issued, *webhooks.certificates]

    bundle = look_before_retirement(plan, anchor.bundle, [*credentials, namespace])
    trust_bundle = TrustBundle(
        "trust-bundle",
        TrustBundleArgs(policy=settings.trust_bundle, namespace=namespace.name, owner=owner),
        by_cert_manager,
    )
    trust_bundle.publish(bundle, after=wait_for_pods(plan, trust_bundle.release) if trust_bundle.release else [])

    awaited = [
        wait_for_issuer_secret(plan, bundle, anchor.signer, issuer),
        wait_for_webhook_certificates(plan, bundle, webhooks),
    ]
    issued = _after(pulumi.Output.all(*awaited).apply(lambda bundles: str(bundles[0])), credentials)
    if plan.signs_first and issuer.certificate:
        # Linkerd waits for what this run signs itself, and the run for what cert-manager then issues.
        certificates = [issuer.certificate, *webhooks.by_ca]
        trusted = sign_first_credentials(plan, namespace.name, certificates, bundle, issued)
        credentials = []
    else:
        trusted = wait_for_published_bundle(plan, issued, trust_bundle)
    linkerd = Linkerd(
        "linkerd",
        LinkerdArgs(
            installation=settings.linkerd,
            namespace=namespace.name,
            bundle=trusted,
            publishes_bundle=not settings.trust_bundle.by_trust_manager,
            bundle_sha256=anchor.bundle_sha256,
            credentials=credentials,
            webhook_bundle=webhooks.bundle,
            owner=owner,
            restorations=plan.restorations,
        ),
        on_cluster,
    )
    linkerd.install(after=wait_for_definitions(plan, linkerd.crds))

    if settings.observability:
        Observability(
            "observability",
            ObservabilityArgs(
                monitoring=settings.observability, namespace=settings.observability.namespace or namespace.name
            ),
            on_cluster,
        )
    if (manager := settings.trust_bundle.trust_manager) and trust_bundle.release:
        releases.append(_declared(trust_bundle.release, manager.charts, manager.values))
    releases.append(_declared(linkerd.crds, settings.linkerd.crds, {}))
    releases.append(_declared(linkerd.control_plane, settings.linkerd.charts, settings.linkerd.values, last=True))
    return DeclaredCluster(
        anchor=anchor, requests=requests, webhooks=webhooks, issued=issued, linkerd=linkerd, releases=releases
    )


def _after(bundle: pulumi.Output[str], resources: Sequence[pulumi.Resource]) -> pulumi.Output[str]:
    """Return the bundle once resources are there too."""
    return pulumi.Output.all(bundle, *(resource.urn for resource in resources)).apply(lambda known: str(known[0]))


def _declared(
    release: kubernetes.helm.v3.Release, source: ChartSource, values: Mapping[str, Any], *, last: bool = False
) -> DeclaredRelease:
    """Return a release of the first or of the last chart of a source."""
    return DeclaredRelease(release=release, chart=source.names[-1 if last else 0], source=source, values=values)


def declare_requests(trust_domain: str, generations: Sequence[str]) -> IntermediateRequests | None:
    """Declare the keys and requests of a cluster whose intermediates the anchor stack signs; None if it needs none."""
    if not generations:
        return None
    return IntermediateRequests(
        "intermediates", IntermediateRequestsArgs(generations=tuple(generations), trust_domain=trust_domain)
    )
