"""Linkerd's webhooks, what serves them, and the steps from one authority to another in which no call fails."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from cryptography import x509

from meshtrust.cluster.api import PODS, Api, ClusterError, Resource
from meshtrust.cluster.connection.port_forward import PodUnreachableError, fetch_certificates
from meshtrust.cluster.label_selector import match_labels
from meshtrust.names import (
    COMPONENT_LABEL,
    EXTENSION_LABEL,
    INJECTOR_CONFIGURATION,
    POLICY_VALIDATOR,
    POLICY_VALIDATOR_CONFIGURATION,
    POLICY_WEBHOOK_PORT,
    PROFILE_VALIDATOR,
    PROFILE_VALIDATOR_CONFIGURATION,
    PROXY_INJECTOR,
    TAP_API,
    TAP_INJECTOR_CONFIGURATION,
    TAP_PORT,
    WEBHOOK_PORT,
    webhook_secret,
)
from meshtrust.pki.chain import find_chain
from meshtrust.pki.pem import fingerprint

_REGISTRATION = "admissionregistration.k8s.io/v1"


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """One of Linkerd's webhooks, or the API that linkerd-viz serves, whose calls are secured alike.

    Attributes:
        service: Its Service, after which its Certificate is named.
        section: The section of its chart's values.
        kind: Kind of the object that holds the CA that the API server trusts for it.
        configuration: Name of that object.
        labels: Labels of the pods that serve it.
        port: The port of those pods.
        refuses: What is refused if its call fails and may not.
        passes: What happens to it if its call fails and may.
        encoding: How its program reads a key.
    """

    service: str
    section: str
    kind: Literal["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "APIService"]
    configuration: str
    labels: tuple[tuple[str, str], ...]
    port: int
    refuses: str
    passes: str
    encoding: str = "PKCS1"

    @property
    def secret(self) -> str:
        """The Secret that its chart mounts."""
        return webhook_secret(self.service)

    @property
    def resource(self) -> Resource:
        """The kind of the object by which the API server knows whom to trust."""
        version = "apiregistration.k8s.io/v1" if self.kind == "APIService" else _REGISTRATION
        return Resource(version, f"{self.kind.lower()}s", self.kind)

    @property
    def name(self) -> str:
        """That object, as a sentence names it."""
        return f"{self.kind} {self.configuration}"


def _control_plane(component: str) -> tuple[tuple[str, str], ...]:
    return ((COMPONENT_LABEL, component),)


def _viz(component: str) -> tuple[tuple[str, str], ...]:
    return ((EXTENSION_LABEL, "viz"), ("component", component))


# linkerd2 charts/linkerd-control-plane/templates. The policy controller, which is written in Rust, reads PKCS #8 only.
CONTROL_PLANE = (
    Webhook(
        service=PROXY_INJECTOR,
        section="proxyInjector",
        kind="MutatingWebhookConfiguration",
        configuration=INJECTOR_CONFIGURATION,
        labels=_control_plane("proxy-injector"),
        port=WEBHOOK_PORT,
        refuses="new pods are refused",
        passes="new pods start without a proxy",
    ),
    Webhook(
        service=PROFILE_VALIDATOR,
        section="profileValidator",
        kind="ValidatingWebhookConfiguration",
        configuration=PROFILE_VALIDATOR_CONFIGURATION,
        labels=_control_plane("destination"),
        port=WEBHOOK_PORT,
        refuses="ServiceProfiles are refused",
        passes="ServiceProfiles are not checked",
    ),
    Webhook(
        service=POLICY_VALIDATOR,
        section="policyValidator",
        kind="ValidatingWebhookConfiguration",
        configuration=POLICY_VALIDATOR_CONFIGURATION,
        labels=_control_plane("destination"),
        port=POLICY_WEBHOOK_PORT,
        refuses="policies and routes are refused",
        passes="policies and routes are not checked",
        encoding="PKCS8",
    ),
)
# linkerd2 viz/charts/linkerd-viz/templates.
VIZ = (
    Webhook(
        service="tap",
        section="tap",
        kind="APIService",
        configuration=TAP_API,
        labels=_viz("tap"),
        port=TAP_PORT,
        refuses="`linkerd viz tap` is refused, and namespaces that are deleted may stay",
        passes="`linkerd viz tap` is refused, and namespaces that are deleted may stay",
    ),
    Webhook(
        service="tap-injector",
        section="tapInjector",
        kind="MutatingWebhookConfiguration",
        configuration=TAP_INJECTOR_CONFIGURATION,
        labels=_viz("tap-injector"),
        port=WEBHOOK_PORT,
        refuses="new pods are refused",
        passes="new pods cannot be tapped",
    ),
)


class IllegalAuthorityStepError(Exception):
    """A move in which calls of a webhook would fail; the message says which one comes first."""


def check_step(last: tuple[Sequence[str], str], wanted: tuple[Sequence[str], str]) -> None:
    """Make sure that each webhook's certificate is under a trusted authority at every moment of a run.

    The API server gets the authorities when Linkerd's release is upgraded, after the certificates have been issued,
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


async def find_pods_with_other_ca(
    api: Api, namespace: str, roots: Sequence[x509.Certificate], viz_namespace: str = ""
) -> list[str]:
    """Return, as clauses, the pods that do not serve each of their webhooks under one of the authorities.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        roots: The authorities' certificates.
        viz_namespace: Namespace of linkerd-viz; empty if its certificates are under no authority of these.

    Raises:
        ClusterError: The pods cannot be read.
    """
    places = [(namespace, webhook) for webhook in CONTROL_PLANE]
    places += [(viz_namespace, webhook) for webhook in VIZ if viz_namespace]
    found = []
    for place, webhook in places:
        async for pod, shown in read_served(api, place, webhook):
            subject = f"{place}/{pod}"
            if isinstance(shown, str):
                found.append(f"{subject}: what it serves for {webhook.service} cannot be seen: {shown}")
            elif not is_under(shown, roots):
                found.append(f"{subject}: it serves {webhook.service} with a certificate of another authority")
    return found


async def read_served(
    api: Api, namespace: str, webhook: Webhook
) -> AsyncIterator[tuple[str, list[x509.Certificate] | str]]:
    """Yield each pod that serves a webhook, with the certificates that it shows, or why they cannot be seen."""
    labels = match_labels(dict(webhook.labels))
    async for pod in api.list(PODS, namespace=namespace, labels=labels, fields="status.phase=Running"):
        name, host = pod["metadata"]["name"], f"{webhook.service}.{namespace}.svc"
        try:
            yield name, await fetch_certificates(api, namespace, name, webhook.port, host)
        except (PodUnreachableError, ClusterError) as error:
            yield name, str(error)


def is_under(shown: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    """Whether a certificate is trusted: under one of the roots, or one of them itself.

    Source: Go's ``crypto/x509``, which takes a certificate that is in the pool whatever its extensions are.
    """
    if not shown:
        return False
    if fingerprint(shown[0]) in set(map(fingerprint, roots)):
        return True
    return bool(find_chain(shown, roots, datetime.now(UTC)))


def retired(last: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return the authorities that would be trusted no longer."""
    kept = set(wanted)
    return [authority for authority in last if authority not in kept]


def _refuse(reason: str, authorities: Iterable[str], signer: str) -> None:
    listed = ", ".join(f'"{authority}"' for authority in authorities)
    msg = f'{reason}. First deploy meshtrust:webhooks.authorities [{listed}] with meshtrust:webhooks.signer "{signer}"'
    raise IllegalAuthorityStepError(msg)
