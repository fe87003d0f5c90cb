"""The control plane's namespace, and the names of Linkerd's trust roots, as Linkerd expects them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtrust.lint.objects import Object
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.values import at, listed, mapping, sequence, shown, text
from meshtrust.names import (
    CONTROL_PLANE_LABEL,
    CONTROL_PLANE_NAMESPACE_LABEL,
    INJECT_ANNOTATION,
    NAMESPACE_NAME_LABEL,
    TRUST_ROOTS,
    WEBHOOKS_LABEL,
)


@dataclass(frozen=True, kw_only=True)
class ControlPlaneNamespace:
    """The Namespace of Linkerd's control plane.

    Attributes:
        object_name: Its name in Kubernetes.
        manifest: The object, as it was read.
        cni: Whether Linkerd's CNI plugin is used, so that proxies do not set up iptables.
        selector: Selector by which trust-manager's Bundle finds it; empty if no Bundle is at hand.
        locate: Returns the place of a dotted path of the object.
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
        """The place in the file."""
        return self.locate("metadata.labels") or self.locate("metadata")

    @property
    def labels(self) -> Mapping[str, Any]:
        """Its labels."""
        return mapping(at(self.manifest, "metadata.labels"))


NAMESPACES = RuleSet[ControlPlaneNamespace]("The control plane's Namespace")


@NAMESPACES.rule(
    "MT601",
    "warning",
    "A label of the control plane's namespace is missing",
    reason="Helm does not label the namespace; `linkerd install` does. Linkerd's webhooks ignore objects in a "
    "namespace with config.linkerd.io/admission-webhooks: disabled, so that the control plane never waits for itself; "
    "the others name it as a control plane, for trust-manager's Bundle of Linkerd's guide above all.",
    source="linkerd2 charts/linkerd-control-plane/templates/namespace.yaml and values.yaml, namespaceSelector; "
    "linkerd.io, Automatically Rotating Control Plane TLS Credentials",
    fix="Set the labels before the chart is installed",
)
def _labels(namespace: ControlPlaneNamespace) -> Iterator[Violation]:
    wanted = {
        CONTROL_PLANE_LABEL: "true",
        CONTROL_PLANE_NAMESPACE_LABEL: namespace.object_name,
        WEBHOOKS_LABEL: "disabled",
    }
    for label, value in wanted.items():
        has = namespace.labels.get(label)
        if has != value:
            held = "no label" if has is None else f"{shown(has)} as its label"
            yield Violation(
                text=f"has {held} {label}, which should be {shown(value)}", fix=f"Set {label}: {shown(value)}"
            )


@NAMESPACES.rule(
    "MT602",
    "error",
    "Pod Security Admission keeps proxies from setting up iptables",
    reason="linkerd-init needs NET_ADMIN and NET_RAW, which only the level privileged allows. With the CNI plugin "
    "there is no linkerd-init, and restricted is enough.",
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
    reason="`linkerd install` sets the annotation; without it a control plane that loses its labels injects itself.",
    source="linkerd2 charts/linkerd-control-plane/templates/namespace.yaml",
    fix="Set the annotation linkerd.io/inject: disabled",
)
def _not_injected(namespace: ControlPlaneNamespace) -> Iterator[Violation]:
    has = mapping(at(namespace.manifest, "metadata.annotations")).get(INJECT_ANNOTATION)
    if has != "disabled":
        held = "no annotation" if has is None else f"{shown(has)} as its annotation"
        yield Violation(text=f"has {held} {INJECT_ANNOTATION}")


@NAMESPACES.rule(
    "MT604",
    "error",
    "trust-manager's Bundle does not select the Namespace",
    reason="The ConfigMap of trust anchors is then never written there, and Linkerd's pods wait for it.",
    source="trust-manager, API reference of Bundle; linkerd2 charts/partials/templates/_proxy.tpl",
    fix="Give the Namespace the labels that the Bundle selects by, before the chart is installed",
)
def _selected(namespace: ControlPlaneNamespace) -> Iterator[Violation]:
    # The API server gives every namespace its name as a label.
    labels = {NAMESPACE_NAME_LABEL: namespace.object_name, **namespace.labels}
    by = f"by which Bundle {TRUST_ROOTS} selects it"
    for label, value in mapping(namespace.selector.get("matchLabels")).items():
        if labels.get(label) != value:
            yield Violation(
                text=f"has no label {shown(label)} of {shown(value)}, {by}", value=[value, labels.get(label)]
            )
    for expression in map(mapping, sequence(namespace.selector.get("matchExpressions"))):
        key, operator, values = (expression.get(name) for name in ("key", "operator", "values"))
        label = text(key)
        has = labels.get(label)
        fits = {
            "In": has in sequence(values),
            "NotIn": has not in sequence(values),
            "Exists": label in labels,
            "DoesNotExist": label not in labels,
        }
        if not fits.get(text(operator), True):
            of = f" {listed(values)}" if values else ""
            yield Violation(text=f"does not fit {label} {operator}{of}, {by}", value=[expression, has])


@dataclass(frozen=True, kw_only=True)
class TrustRootsSecret:
    """A Secret with the name of the ConfigMap that Linkerd reads its trust anchors from."""

    one: Object

    @property
    def name(self) -> str:
        """The name."""
        return self.one.title

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.one.locate("kind")


TRUST_ROOTS_SECRETS = RuleSet[TrustRootsSecret]("A Secret with the name of the trust roots")


@TRUST_ROOTS_SECRETS.rule(
    "MT621",
    "warning",
    "The trust roots are in a Secret",
    reason="Every pod of the control plane reads its trust anchors from the ConfigMap linkerd-identity-trust-roots; a "
    "nothing mounts a Secret with that name.",
    source="linkerd2 charts/partials/templates/_proxy.tpl",
    fix="Make it a ConfigMap with the key ca-bundle.crt, unless it is the source of that ConfigMap",
)
def _trust_roots_secret(_: TrustRootsSecret) -> Iterator[str]:
    yield f"is a Secret, and Linkerd reads ConfigMap {TRUST_ROOTS}"
