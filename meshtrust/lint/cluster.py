"""What else has to be as Linkerd expects it: the control plane's namespace, and trust-manager's Bundle."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtrust.lint.linkerd import CONTROL_PLANE_LABEL, NO_WEBHOOKS_LABEL, TRUST_ROOTS, TRUST_ROOTS_KEY
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.values import at, mapping, sequence, shown


@dataclass(frozen=True, kw_only=True)
class ControlPlaneNamespace:
    """The Namespace of Linkerd's control plane.

    Attributes:
        object_name: Its name in Kubernetes.
        manifest: The object, as it was read.
        cni: Whether Linkerd's CNI plugin is used, so that proxies need no rights to set up iptables.
        selector: Labels by which trust-manager's Bundle finds it; none where no Bundle is at hand.
        locate: Tells where a dotted path of the object stands.
    """

    object_name: str
    manifest: Mapping[str, Any]
    cni: bool = False
    selector: Mapping[str, Any] = field(default_factory=dict)
    locate: Callable[[str], Location | None] = lambda _: None

    @property
    def name(self) -> str:
        """The name."""
        return f"Namespace {self.object_name}"

    @property
    def location(self) -> Location | None:
        """Where it stands."""
        return self.locate("metadata.labels") or self.locate("metadata")

    @property
    def labels(self) -> Mapping[str, Any]:
        """Its labels."""
        return mapping(at(self.manifest, "metadata.labels"))


@dataclass(frozen=True, kw_only=True)
class TrustBundle:
    """trust-manager's Bundle of Linkerd's trust anchors.

    Attributes:
        manifest: The object, as it was read.
        locate: Tells where a dotted path of the object stands.
    """

    manifest: Mapping[str, Any]
    locate: Callable[[str], Location | None] = lambda _: None

    @property
    def name(self) -> str:
        """The name."""
        return f"Bundle {TRUST_ROOTS}"

    @property
    def location(self) -> Location | None:
        """Where it stands."""
        return self.locate("spec")


NAMESPACES = RuleSet[ControlPlaneNamespace]("The control plane's Namespace")
TRUST_BUNDLES = RuleSet[TrustBundle]("trust-manager's Bundle")


@NAMESPACES.rule(
    "MT601",
    "warning",
    "A label is missing that the control plane is known by",
    reason="Helm does not label the namespace; `linkerd install` does. Linkerd's webhooks leave alone what is in a "
    "namespace with config.linkerd.io/admission-webhooks: disabled, so that the control plane never waits for itself; "
    "the others name it as a control plane, for trust-manager's Bundle of Linkerd's guide above all.",
    source="linkerd2 charts/linkerd-control-plane/templates/namespace.yaml and values.yaml, namespaceSelector; "
    "linkerd.io, Automatically Rotating Control Plane TLS Credentials",
    fix="Set the labels before the chart is installed",
)
def _labels(namespace: ControlPlaneNamespace) -> Iterator[Violation]:
    wanted = {
        CONTROL_PLANE_LABEL: "true",
        "linkerd.io/control-plane-ns": namespace.object_name,
        NO_WEBHOOKS_LABEL: "disabled",
    }
    for label, value in wanted.items():
        has = namespace.labels.get(label)
        if has != value:
            said = "no label" if has is None else f"{shown(has)} as its label"
            yield Violation(
                text=f"has {said} {label}, which should be {shown(value)}", fix=f"Set {label}: {shown(value)}"
            )


@NAMESPACES.rule(
    "MT602",
    "error",
    "Pod Security Admission keeps proxies from setting up iptables",
    reason="linkerd-init needs NET_ADMIN and NET_RAW, which only the level privileged allows. With the CNI plugin it "
    "is not there, and restricted will do.",
    source="linkerd2 charts/linkerd-control-plane/templates/namespace.yaml",
    fix="Set pod-security.kubernetes.io/enforce: privileged, or use the CNI plugin",
)
def _pod_security(namespace: ControlPlaneNamespace) -> Iterator[Violation]:
    level = namespace.labels.get("pod-security.kubernetes.io/enforce")
    if level in ("baseline", "restricted") and not namespace.cni:
        yield Violation(text=f"enforces {shown(level)}")


@NAMESPACES.rule(
    "MT603",
    "warning",
    "Injection is not turned off by annotation",
    reason="`linkerd install` says so; without it a control plane whose labels are lost is injected by itself.",
    source="linkerd2 charts/linkerd-control-plane/templates/namespace.yaml",
    fix="Set the annotation linkerd.io/inject: disabled",
)
def _not_injected(namespace: ControlPlaneNamespace) -> Iterator[Violation]:
    has = mapping(at(namespace.manifest, "metadata.annotations")).get("linkerd.io/inject")
    if has != "disabled":
        said = "no annotation" if has is None else f"{shown(has)} as its annotation"
        yield Violation(text=f"has {said} linkerd.io/inject")


@NAMESPACES.rule(
    "MT604",
    "error",
    "trust-manager's Bundle does not select the Namespace",
    reason="The ConfigMap of trust anchors is then never written there, and Linkerd's pods hang until it is.",
    source="trust-manager, API reference of Bundle; linkerd2 charts/partials/templates/_proxy.tpl",
    fix="Give the Namespace the labels that the Bundle selects by, before the chart is installed",
)
def _selected(namespace: ControlPlaneNamespace) -> Iterator[str]:
    # The API server gives every namespace its name as a label.
    labels = {"kubernetes.io/metadata.name": namespace.object_name, **namespace.labels}
    for label, value in namespace.selector.items():
        if labels.get(label) != value:
            yield f"has no label {shown(label)} of {shown(value)}, by which Bundle {TRUST_ROOTS} selects it"


@TRUST_BUNDLES.rule(
    "MT611",
    "error",
    "The Bundle is not written where Linkerd reads it",
    reason="Linkerd's pods read the key ca-bundle.crt of a ConfigMap that bears the Bundle's name, and hang until it "
    "is there.",
    source="linkerd2 charts/partials/templates/_proxy.tpl; trust-manager, API reference of Bundle",
    fix="Set spec.target.configMap.key: ca-bundle.crt",
)
def _target(bundle: TrustBundle) -> Iterator[Violation]:
    key = at(bundle.manifest, "spec.target.configMap.key")
    if key != TRUST_ROOTS_KEY:
        said = "is not set" if key is None else f"is {shown(key)}"
        yield Violation(text=said, member="spec.target.configMap.key", location=bundle.locate("spec.target"))


@TRUST_BUNDLES.rule(
    "MT612",
    "error",
    "The mesh would trust public CAs",
    reason="useDefaultCAs adds every CA that browsers trust: whoever has a certificate of one could pass for a "
    "workload, and Linkerd refuses bundles with their algorithms.",
    source="trust-manager, API reference of Bundle; linkerd2 pkg/issuercerts/issuercerts.go",
    fix="Remove the source useDefaultCAs",
)
def _public_cas(bundle: TrustBundle) -> Iterator[Violation]:
    for source in sequence(at(bundle.manifest, "spec.sources")):
        if mapping(source).get("useDefaultCAs") is True:
            yield Violation(text="has useDefaultCAs among its sources", location=bundle.locate("spec.sources"))
