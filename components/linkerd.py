"""Linkerd: its CRDs and its control plane, under the trust anchors of this program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import ChartSource, ReleaseOwner, Resources, merge_user_values, merge_values, release
from meshtrust.linkerd.evidence import ANCHORS_ANNOTATION
from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE
from meshtrust.names import (
    KUBERNETES_TLS,
    LICENSE_SECRET_VALUE,
    LICENSE_VALUE,
    NAMESPACE_NAME_LABEL,
    UNINJECTED_NAMESPACES,
    WEBHOOKS_LABEL,
)
from meshtrust.pki.pem import fingerprint, read_bundle

BUNDLE_ANNOTATION = "meshtrust.io/trust-anchors-sha256"
RESTORATIONS_ANNOTATION = "meshtrust.io/trust-anchors-restorations"


@dataclass(frozen=True, kw_only=True)
class LinkerdInstallation:
    """Installation of Linkerd, except its credentials.

    Attributes:
        namespace: Namespace of the control plane.
        trust_domain: Linkerd's trust domain.
        charts: Where the charts are; the name of that of the definitions goes before that of the control plane.
        crds: Where the chart of the definitions is; in the stable line its versions are its own.
        releases: Names of their releases, in the same order.
        ha: Whether to run the control plane in high availability.
        install_gateway_api: Whether linkerd-crds brings the Gateway API's CRDs.
        values: Further Helm values for linkerd-control-plane.
        timeout_seconds: Seconds that each release may take to become ready.
        encrypted: Whether the stack encrypts the values, so that they are secrets of the release.
        license: The license of the enterprise distribution, a secret; empty if it has none, or a Secret has it.
        license_secret: Name of a Secret in the namespace that has it; empty likewise.
    """

    namespace: str
    trust_domain: str
    charts: ChartSource
    crds: ChartSource
    releases: tuple[str, str]
    ha: bool
    install_gateway_api: bool
    values: Mapping[str, Any]
    timeout_seconds: int
    encrypted: bool = False
    license: str = field(default="", repr=False)
    license_secret: str = ""

    @property
    def own_values(self) -> dict[str, Any]:
        """The Helm values of linkerd-control-plane but for its credentials, with secrets where they are encrypted."""
        return self._merged(encrypted=self.encrypted)

    @property
    def webhooks_fail_closed(self) -> bool:
        """Whether an object is refused where its webhook does not answer."""
        return self._merged(encrypted=False).get("webhookFailurePolicy") == "Fail"

    @property
    def injector_namespaces(self) -> Mapping[str, Any]:
        """The selector of the namespaces whose pods the proxy injector is asked about."""
        given = (self._merged(encrypted=False).get("proxyInjector") or {}).get("namespaceSelector") or {}
        return merge_values(_INJECTOR_NAMESPACES, given)

    def _merged(self, *, encrypted: bool) -> dict[str, Any]:
        return merge_user_values(_HIGH_AVAILABILITY if self.ha else {}, self.values, encrypted=encrypted)


@dataclass(frozen=True, kw_only=True)
class LinkerdArgs:
    """Inputs of Linkerd.

    Attributes:
        installation: What is installed.
        namespace: Its namespace, which exists and is labelled.
        bundle: The trusted roots as normalised PEM.
        publishes_bundle: Whether the release makes the ConfigMap with the bundle; else that is there already.
        bundle_sha256: SHA-256 of the bundle in hex.
        credentials: What the control plane waits for: without its issuer and its webhooks' certificates its pods do not
            start.
        webhook_bundle: The authorities of the webhooks' certificates as PEM; None if the chart makes those.
        owner: The owner of the releases.
        restorations: How often the bundle was changed by hand and has been restored since; with another number the
            release is deployed again, and the pods that may have read the other bundle are replaced.
    """

    installation: LinkerdInstallation
    namespace: pulumi.Input[str]
    bundle: pulumi.Input[str]
    publishes_bundle: bool
    bundle_sha256: pulumi.Input[str]
    credentials: Sequence[pulumi.Resource]
    webhook_bundle: pulumi.Input[str] | None
    owner: ReleaseOwner
    restorations: int = 0


class Linkerd(pulumi.ComponentResource):
    """`meshtrust:index:Linkerd`: the Helm releases of Linkerd's definitions and, after it, of its control plane.

    The definitions are declared first, so that they can be waited for before `install` declares the control plane.
    """

    crds: kubernetes.helm.v3.Release
    """The release of the definitions."""
    control_plane: kubernetes.helm.v3.Release
    """The release of the control plane, whose pods may not be ready."""

    def __init__(self, name: str, args: LinkerdArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:Linkerd", name, None, opts)
        self._name, self._args = name, args
        self.crds = release(
            f"{name}-crds",
            args.installation.charts.names[0],
            release_name=args.installation.releases[0],
            source=args.installation.crds,
            namespace=args.namespace,
            values={"installGatewayAPI": args.installation.install_gateway_api},
            timeout_seconds=args.installation.timeout_seconds,
            owner=args.owner,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def install(self, after: Resources) -> None:
        """Declare the control plane; called once.

        Args:
            after: The release of the definitions, once they are served.
        """
        args = self._args
        opts = pulumi.ResourceOptions.merge(
            pulumi.ResourceOptions(parent=self, depends_on=after), pulumi.ResourceOptions(depends_on=args.credentials)
        )
        self.control_plane = release(
            f"{self._name}-control-plane",
            args.installation.charts.names[1],
            release_name=args.installation.releases[1],
            source=args.installation.charts,
            namespace=args.namespace,
            values=control_plane_values(args),
            timeout_seconds=args.installation.timeout_seconds,
            owner=args.owner,
            opts=opts,
        )
        self.register_outputs({})


def control_plane_values(args: LinkerdArgs) -> dict[str, Any]:
    """Return the Helm values of the control plane: Linkerd's own for high availability, the user's, ours on top.

    The bundle's hash stands on every control-plane pod, so that they roll exactly when the bundle changes: the identity
    service reads it once, at its start (linkerd2 ``controller/cmd/identity/main.go``).
    """
    credentials: dict[str, Any] = {
        "identityTrustDomain": args.installation.trust_domain,
        "identity": {"issuer": {"scheme": KUBERNETES_TLS}},
        "podAnnotations": {BUNDLE_ANNOTATION: args.bundle_sha256},
    }
    if args.installation.license:
        credentials[LICENSE_VALUE] = pulumi.Output.secret(args.installation.license)
    if args.installation.license_secret:
        credentials[LICENSE_SECRET_VALUE] = args.installation.license_secret
    if args.restorations:
        credentials["podAnnotations"][RESTORATIONS_ANNOTATION] = str(args.restorations)
    if args.publishes_bundle:
        credentials["identityTrustAnchorsPEM"] = args.bundle
    else:
        credentials["identity"]["externalCA"] = True
        credentials["podAnnotations"][ANCHORS_ANNOTATION] = pulumi.Output.from_input(args.bundle).apply(_fingerprints)
    if args.webhook_bundle is not None:
        credentials |= {
            webhook.section: {"externalSecret": True, "caBundle": args.webhook_bundle} for webhook in CONTROL_PLANE
        }
    return merge_values(args.installation.own_values, credentials)


def _fingerprints(bundle: str) -> str:
    return ",".join(fingerprint(root) for root in read_bundle(bundle))


def _resources(memory_request: str, memory_limit: str = "250Mi") -> dict[str, dict[str, str]]:
    return {"cpu": {"request": "100m"}, "memory": {"request": memory_request, "limit": memory_limit}}


# linkerd2 charts/linkerd-control-plane/values.yaml, proxyInjector.namespaceSelector.
_INJECTOR_NAMESPACES: dict[str, Any] = {
    "matchExpressions": [
        {"key": WEBHOOKS_LABEL, "operator": "NotIn", "values": ["disabled"]},
        {"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": [*UNINJECTED_NAMESPACES]},
    ]
}

# linkerd2 charts/linkerd-control-plane/values-ha.yaml, which Helm users pass by -f and a Release cannot reach.
_HIGH_AVAILABILITY: dict[str, Any] = {
    "highAvailability": True,
    "controllerReplicas": 3,
    "enablePodAntiAffinity": True,
    "enablePodDisruptionBudget": True,
    "controller": {"podDisruptionBudget": {"maxUnavailable": 1}},
    "deploymentStrategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": "25%"}},
    "webhookFailurePolicy": "Fail",
    "proxy": {"resources": _resources("20Mi")},
    "identityResources": _resources("10Mi"),
    **{
        f"{part}Resources": _resources("50Mi")
        for part in ("controller", "destination", "heartbeat", "proxyInjector", "spValidator")
    },
}
