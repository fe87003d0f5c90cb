"""Linkerd's webhooks, and the steps from one authority of their certificates to another that no call fails in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from meshtrust.chain import ChainError, verify_chain
from meshtrust.cluster import Api, read_items
from meshtrust.port_forward import PodUnreachableError, fetch_certificates


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """One of Linkerd's webhooks.

    Attributes:
        service: Its Service, after which its Certificate is named.
        section: The section of its chart's values.
        component: The component of the control plane whose pods serve it; empty for one of an extension.
        port: The port of those pods.
        encoding: How its program reads a key.
    """

    service: str
    section: str
    component: str = ""
    port: int = 0
    encoding: str = "PKCS1"

    @property
    def secret(self) -> str:
        """The Secret that its chart mounts."""
        return f"{self.service}-k8s-tls"


# linkerd2 charts/linkerd-control-plane/templates. The policy controller, which is written in Rust, reads PKCS #8 only.
CONTROL_PLANE = (
    Webhook(service="linkerd-proxy-injector", section="proxyInjector", component="proxy-injector", port=8443),
    Webhook(service="linkerd-sp-validator", section="profileValidator", component="destination", port=8443),
    Webhook(
        service="linkerd-policy-validator",
        section="policyValidator",
        component="destination",
        port=9443,
        encoding="PKCS8",
    ),
)
# linkerd2 viz/charts/linkerd-viz/templates.
VIZ = (Webhook(service="tap", section="tap"), Webhook(service="tap-injector", section="tapInjector"))


class IllegalAuthorityStepError(Exception):
    """A move in which calls of a webhook would fail; the message says which one comes first."""


def check_step(last: tuple[Sequence[str], str], wanted: tuple[Sequence[str], str]) -> None:
    """Make sure that each webhook's certificate is under a trusted authority at every moment of a run.

    The API server is told the authorities when Linkerd's release is upgraded, after the certificates have been issued,
    and a webhook loads its new one a minute or two later still.

    Args:
        last: Authorities and signer of the last deployment.
        wanted: Authorities and signer that the configuration asks for.

    Raises:
        IllegalAuthorityStepError: The new signer is not trusted yet, or the old one would not be any more.
    """
    (trusted, old), (authorities, new) = last, wanted
    if new not in trusted:
        first = [*trusted, new]
        _refuse(f'"{new}" would sign the webhooks\' certificates before the API server trusts it', first, old)
    if old not in authorities:
        _refuse(
            f'authority "{old}" would go in the run in which "{new}" begins to sign, and the webhooks still serve '
            "certificates under it",
            trusted,
            new,
        )


async def find_served_otherwise(api: Api, namespace: str, roots: Sequence[x509.Certificate]) -> list[str]:
    """Return, as clauses, the pods that do not serve each of their webhooks under one of the authorities.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        roots: The authorities' certificates.

    Raises:
        ClusterError: The pods cannot be read.
    """
    found = []
    for webhook in CONTROL_PLANE:
        selection = {
            "labelSelector": f"linkerd.io/control-plane-component={webhook.component}",
            "fieldSelector": "status.phase=Running",
        }
        async for pod in read_items(api, "list of pods", namespace=namespace, url="pods", params=selection):
            name = pod["metadata"]["name"]
            host = f"{webhook.service}.{namespace}.svc"
            try:
                shown = await fetch_certificates(api, namespace, name, webhook.port, host)
                verify_chain(shown, roots, datetime.now(UTC))
            except PodUnreachableError as error:
                found.append(f"{namespace}/{name}: what it serves for {webhook.service} cannot be seen: {error}")
            except (ChainError, ValueError):
                found.append(f"{namespace}/{name}: it serves {webhook.service} with a certificate of another authority")
    return found


def retired(last: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return the authorities that would be trusted no longer."""
    kept = set(wanted)
    return [authority for authority in last if authority not in kept]


def _refuse(reason: str, authorities: Iterable[str], signer: str) -> None:
    listed = ", ".join(f'"{authority}"' for authority in authorities)
    msg = f'{reason}. First deploy meshtrust:webhooks.authorities [{listed}] with meshtrust:webhooks.signer "{signer}"'
    raise IllegalAuthorityStepError(msg)
