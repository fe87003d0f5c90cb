"""The settings of the observability objects, derived from the issuer and from Linkerd."""

from datetime import timedelta

from components.identity_issuer import IssuerPolicy
from components.observability import Monitoring, Watched
from meshtrust.linkerd.evidence import leaf_lifetime
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES
from program.configuration.model import Configuration


def monitoring(configuration: Configuration, issuer: IssuerPolicy) -> Monitoring | None:
    """Return what watches the mesh under an issuer; None if nothing does."""
    section, linkerd = configuration.observability, configuration.linkerd
    if not section.enabled:
        return None
    leaf = leaf_lifetime(linkerd.values)
    return Monitoring(
        namespace=section.namespace,
        labels=section.labels,
        cert_manager_namespace=configuration.cert_manager.namespace,
        watched=Watched(
            namespace=linkerd.namespace,
            by_cert_manager=issuer.mode in CERT_MANAGER_MODES,
            renewal=_renewal(issuer, leaf),
            leaf_lifetime=leaf,
        ),
    )


def _renewal(issuer: IssuerPolicy, leaf: timedelta) -> timedelta:
    """Return how much life the identity issuer has left when it is time to renew it."""
    if issuer.mode in CERT_MANAGER_MODES:
        return issuer.renew_before
    if issuer.mode == "pulumi":
        # A person does it.
        return min(timedelta(days=30), issuer.validity / 2)
    # A third party chooses the time, but no later than a leaf's life before the end.
    return leaf
