"""A stack of meshtrust: the trust anchor, cert-manager, the identity issuer, and Linkerd under them."""

import pulumi
import pulumi_kubernetes as kubernetes

from components.cert_manager import CertManager
from components.control_plane_namespace import ControlPlaneNamespace, ControlPlaneNamespaceArgs
from components.identity_issuer import IdentityIssuer, IdentityIssuerArgs
from components.linkerd import Linkerd, LinkerdArgs
from components.observability import Observability, ObservabilityArgs
from components.trust_anchor import TrustAnchor
from guard import admit, last_deployment
from issuance import confirm
from settings import Settings


async def main() -> pulumi.Inputs:
    """Declare the stack and return its outputs."""
    settings = Settings.load()
    last = await last_deployment()
    admission = await admit(settings, last)

    cluster = kubernetes.Provider("cluster", settings.cluster.provider_args(admission.cluster_uid))
    on_cluster = pulumi.ResourceOptions(providers=[cluster])

    anchor = TrustAnchor("trust-anchor", settings.anchor)
    namespace = ControlPlaneNamespace(
        "linkerd-namespace", ControlPlaneNamespaceArgs(name=settings.linkerd.namespace), on_cluster
    )
    cert_manager = [CertManager("cert-manager", settings.cert_manager, on_cluster)] if settings.cert_manager else []
    guide_generation = last.guide_generation or settings.guide_generation
    issuer = IdentityIssuer(
        "identity-issuer",
        IdentityIssuerArgs(
            policy=settings.issuer,
            namespace=namespace.name,
            signer=anchor.signer,
            guide_generation=guide_generation,
        ),
        pulumi.ResourceOptions(providers=[cluster], depends_on=cert_manager),
    )
    Linkerd(
        "linkerd",
        LinkerdArgs(
            installation=settings.linkerd,
            namespace=namespace.name,
            bundle=confirm(admission.issuance, anchor, issuer),
            bundle_sha256=anchor.bundle_sha256,
            identity_issuer=issuer.issued,
        ),
        on_cluster,
    )

    if settings.observability:
        Observability(
            "observability",
            ObservabilityArgs(
                monitoring=settings.observability, namespace=settings.observability.namespace or namespace.name
            ),
            on_cluster,
        )

    return {
        "clusterUid": admission.cluster_uid,
        "anchors": list(settings.anchor.generations),
        "signer": settings.anchor.signer,
        "trustAnchors": anchor.bundle,
        "trustAnchorsSha256": anchor.bundle_sha256,
        "roots": anchor.roots,
        "retired": last.retired_by(settings.trust),
        "transitions": admission.transitions,
        "issuer": settings.issuer.as_outputs(),
        "guideGeneration": guide_generation,
        "charts": {key: str(source) for key, source in settings.chart_sources.items()},
    }


pulumi.run(main)
