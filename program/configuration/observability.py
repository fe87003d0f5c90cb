"""What a stack says of those who watch it: what they are given follows from the issuer and from Linkerd."""

from datetime import timedelta

from components.cert_manager import CertManagerArgs
from components.identity_issuer import IssuerPolicy
from components.linkerd import LinkerdInstallation
from components.observability import Monitoring, Watched
from meshtrust.linkerd.evidence import leaf_lifetime
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES
from program.configuration.reader import Reader


def read_observability(
    reader: Reader, issuer: IssuerPolicy, linkerd: LinkerdInstallation, cert_manager: CertManagerArgs | None
) -> Monitoring | None:
    """Return what watches the mesh; nothing where nothing does."""
    labels = reader.mapping("observability.labels")
    for name, value in labels.items():
        if not isinstance(value, str):
            reader.refuse(
                "observability.labels", f"has {name} with {value!r}, not a text", f'Quote it: {name}: "{value}"'
            )
    monitoring = Monitoring(
        namespace=reader.dns_label("observability.namespace", may_be_empty=True),
        labels=labels,
        cert_manager_namespace=cert_manager.namespace if cert_manager else reader.text("certManager.namespace"),
        watched=Watched(
            namespace=linkerd.namespace,
            by_cert_manager=issuer.mode in CERT_MANAGER_MODES,
            renewal=_renewal(issuer, leaf_lifetime(linkerd.values)),
            leaf_lifetime=leaf_lifetime(linkerd.values),
        ),
    )
    return monitoring if reader.flag("observability.enabled") else None


def _renewal(issuer: IssuerPolicy, leaf: timedelta) -> timedelta:
    """Return how much life the identity issuer has left when it is time to renew it."""
    if issuer.mode in CERT_MANAGER_MODES:
        return issuer.renew_before
    if issuer.mode == "pulumi":
        # A person does it.
        return min(timedelta(days=30), issuer.validity / 2)
    # A third party does it when it likes, but no later than a leaf's life before the end.
    return leaf
