"""Helm values of linkerd-control-plane."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from meshtrust.lint.reading.pem_text import read_pem
from meshtrust.lint.requirements import CLOCK_SKEW, LEAF_LIFETIME
from meshtrust.lint.rule import Finding, Location, RuleSet, Violation
from meshtrust.lint.rules.credentials import LeafLifetime
from meshtrust.lint.values import at, listed, mapping, misspelling, overlaid, sequence, shown, text
from meshtrust.names import KUBERNETES_TLS, LINKERD_TLS, NAMESPACE_NAME_LABEL, SECTION_SERVICES, UNINJECTED_NAMESPACES
from meshtrust.pki.durations import parse_duration

# Values about a webhook's certificate in its section.
WEBHOOK_VALUES = ("externalSecret", "caBundle", "injectCaFrom", "injectCaFromSecret", "crtPEM", "keyPEM")
# How much of the values was read: all of them, one layer of several, a part of an unknown whole, or the record that a
# cluster keeps of the values that Linkerd was installed with.
Extent = Literal["whole", "layer", "part", "record"]


@dataclass(frozen=True, kw_only=True)
class HelmValues:
    """Values for linkerd-control-plane.

    Attributes:
        name: Their holder, for the beginning of a sentence.
        values: The values, as they were read.
        extent: How much of them was read: all of them; one layer of several, such as one file of values, for which a
            missing value is at most a note; or a part of an unknown whole.
        cert_manager: Namespace of cert-manager; None if it is not known.
        left_alone: Namespaces with the label that makes Linkerd's webhooks ignore them.
        certificates: The webhooks' Certificates that were read, as <namespace>/<name>, by the section of the values.
        known_certificates: All Certificates that were read, likewise.
        locate: Returns the place of a dotted path of the values.
    """

    name: str
    values: Mapping[str, Any]
    extent: Extent = "whole"
    cert_manager: str | None = None
    left_alone: frozenset[str] = frozenset()
    certificates: Mapping[str, frozenset[str]] = field(default_factory=dict)
    known_certificates: frozenset[str] = frozenset()
    locate: Callable[[str], Location | None] = lambda _: None

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.locate("")

    def get(self, path: str) -> Any:
        """Return the value at a dotted path; None if there is none."""
        return at(self.values, path)

    def violation(self, path: str, text: str, fix: str | None = None) -> Violation:
        """Return a violation by a value."""
        return Violation(text=text, fix=fix, member=path, location=self.locate(path), value=self.get(path))

    def missing(self, path: str, text: str, fix: str | None = None) -> Iterator[Violation]:
        """Yield that a value is missing, unless it may be set in values that were not read."""
        if self.extent in ("whole", "layer"):
            yield replace(self.violation(path, text, fix), severity="note" if self.extent == "layer" else None)

    @property
    def scheme(self) -> str:
        """Scheme of the identity issuer, with the chart's default filled in."""
        return text(self.get("identity.issuer.scheme")) or LINKERD_TLS

    @property
    def anchors(self) -> str:
        """The trust anchors; empty if there are none."""
        return text(self.get("identityTrustAnchorsPEM"))

    @property
    def trust_domain(self) -> str:
        """The trust domain, with the chart's defaults filled in."""
        return text(self.get("identityTrustDomain")) or text(self.get("clusterDomain")) or "cluster.local"

    @property
    def leaf(self) -> LeafLifetime:
        """The lifetime of proxies' certificates, with the chart's defaults for missing and unreadable values."""
        read = []
        for member, default in (("issuanceLifetime", LEAF_LIFETIME), ("clockSkewAllowance", CLOCK_SKEW)):
            try:
                read.append(parse_duration(text(self.get(f"identity.issuer.{member}"))))
            except ValueError:
                read.append(default)
        return LeafLifetime(issuance=read[0], skew=read[1])


# Names of values that are checked for misspelling, by their section.
_KNOWN_VALUES: Mapping[str, tuple[str, ...]] = {
    "": ("identityTrustAnchorsPEM", "identityTrustDomain", "clusterDomain", "webhookFailurePolicy", *SECTION_SERVICES),
    "identity": ("issuer", "externalCA"),
    "identity.issuer": ("scheme", "tls", "issuanceLifetime", "clockSkewAllowance"),
    "identity.issuer.tls": ("crtPEM", "keyPEM"),
    **dict.fromkeys(SECTION_SERVICES, WEBHOOK_VALUES),
}
# Kubernetes, object names: a DNS subdomain.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

HELM = RuleSet[HelmValues]("Helm values of linkerd-control-plane")


@HELM.rule(
    "MT501",
    "error",
    "There are no trust anchors",
    reason="The chart does not ask for them and writes an empty ConfigMap; the identity service then ends at its "
    "start.",
    source="linkerd2 charts/linkerd-control-plane/templates/identity.yaml; controller/cmd/identity/main.go",
    fix="Set identityTrustAnchorsPEM to the bundle, or identity.externalCA: true where something else writes the "
    "ConfigMap linkerd-identity-trust-roots",
)
def _anchors(helm: HelmValues) -> Iterator[Violation]:
    issuer = mapping(helm.get("identity.issuer"))
    has_identity = helm.extent == "whole" or any(issuer.get(name) is not None for name in ("scheme", "tls"))
    if has_identity and not helm.anchors.strip() and not helm.get("identity.externalCA"):
        wrong = "is not set, so that there are no trust anchors, and identity.externalCA is not true"
        yield from helm.missing("identityTrustAnchorsPEM", wrong)


@HELM.rule(
    "MT502",
    "warning",
    "Trust anchors are given, and an external CA as well",
    reason="With identity.externalCA the chart does not write the ConfigMap that every pod reads its anchors from: "
    "the value changes an annotation and what `linkerd multicluster check` compares, and nothing that is trusted.",
    source="linkerd2 charts/linkerd-control-plane/templates/identity.yaml; charts/partials/templates/_metadata.tpl",
    fix="Remove identityTrustAnchorsPEM, or set identity.externalCA: false",
)
def _external_with_anchors(helm: HelmValues) -> Iterator[Violation]:
    if helm.get("identity.externalCA") is True and helm.anchors.strip():
        yield helm.violation("identityTrustAnchorsPEM", "is set, and identity.externalCA is true")


@HELM.rule(
    "MT503",
    "error",
    "The identity issuer's certificate or key is not given",
    reason="With scheme linkerd.io/tls the chart writes the issuer's Secret, and Helm fails without both.",
    source="linkerd2 charts/linkerd-control-plane/templates/identity.yaml (required)",
    fix="Set identity.issuer.scheme: kubernetes.io/tls and let cert-manager write the Secret, or give both values",
)
def _issuer_given(helm: HelmValues) -> Iterator[Violation]:
    tls = mapping(helm.get("identity.issuer.tls"))
    given = [name for name in ("crtPEM", "keyPEM") if text(tls.get(name)).strip()]
    missing = [name for name in ("crtPEM", "keyPEM") if name not in given]
    scheme = helm.get("identity.issuer.scheme")
    if scheme is None and not given and helm.extent == "whole":
        wrong = "is not set, so that it is linkerd.io/tls, with which the chart asks for crtPEM and keyPEM"
        yield from helm.missing("identity.issuer.scheme", wrong, "Set it to kubernetes.io/tls with cert-manager")
    elif missing and (scheme == LINKERD_TLS or (scheme is None and given)):
        wrong = f"lacks {listed(missing)}, which scheme linkerd.io/tls needs"
        yield from helm.missing("identity.issuer.tls", wrong)


@HELM.rule(
    "MT504",
    "error",
    "The scheme of the identity issuer is unknown",
    reason="Linkerd knows linkerd.io/tls and kubernetes.io/tls. Every other value it takes for the latter in one "
    "place and for neither in another.",
    source="linkerd2 controller/cmd/identity/main.go; cli/cmd/options.go",
    fix="Set it to kubernetes.io/tls",
)
def _scheme(helm: HelmValues) -> Iterator[Violation]:
    scheme = helm.get("identity.issuer.scheme")
    if scheme is not None and scheme not in (KUBERNETES_TLS, LINKERD_TLS):
        yield helm.violation("identity.issuer.scheme", f"is {shown(scheme)}, which Linkerd does not know")


@HELM.rule(
    "MT505",
    "warning",
    "The identity issuer's key stands in Helm values",
    reason="Helm keeps the values of every revision in a Secret of the release, the key with them, and the file holds "
    "it as well. The issuer is not renewed until someone gives a new one.",
    source="linkerd2 charts/linkerd-control-plane/templates/identity.yaml; Helm, storage of releases",
    fix="Set identity.issuer.scheme: kubernetes.io/tls, and let cert-manager write the Secret linkerd-identity-issuer",
)
def _key_in_values(helm: HelmValues) -> Iterator[Violation]:
    key = text(helm.get("identity.issuer.tls.keyPEM"))
    if key.strip():
        yield helm.violation("identity.issuer.tls.keyPEM", "holds the private key")


@HELM.rule(
    "MT506",
    "warning",
    "The values have an issuer that the scheme does not use",
    reason="With scheme kubernetes.io/tls the chart leaves the issuer's Secret to others, and the given one is not "
    "used.",
    source="linkerd2 charts/linkerd-control-plane/templates/identity.yaml",
    fix="Remove identity.issuer.tls",
)
def _issuer_unused(helm: HelmValues) -> Iterator[Violation]:
    tls = mapping(helm.get("identity.issuer.tls"))
    given = [name for name in ("crtPEM", "keyPEM") if text(tls.get(name)).strip()]
    if helm.scheme == KUBERNETES_TLS and given:
        yield helm.violation("identity.issuer.tls", f"has {listed(given)}, and the scheme is kubernetes.io/tls")


@HELM.rule(
    "MT507",
    "warning",
    "A duration of the identity issuer cannot be read",
    reason="The identity service logs it and uses a default: 24h for the lifetime, 10s for the clock skew.",
    source="linkerd2 controller/cmd/identity/main.go",
    fix='Write hours, minutes and seconds, such as "24h0m0s" or "20s"',
)
def _durations(helm: HelmValues) -> Iterator[Violation]:
    for member in ("issuanceLifetime", "clockSkewAllowance"):
        path = f"identity.issuer.{member}"
        value = helm.get(path)
        if value is None:
            continue
        try:
            parse_duration(text(value))
        except ValueError:
            yield helm.violation(path, f"is {shown(value)}, which is not a Go duration")


_VALIDATION = "linkerd2 charts/partials/templates/_validate.tpl"


@HELM.rule(
    "MT511",
    "error",
    "A webhook's CA is to be injected from two places",
    reason="Helm fails where both injectCaFrom and injectCaFromSecret are set.",
    source=_VALIDATION,
    fix="Keep one of them: injectCaFrom for a Certificate, injectCaFromSecret for a Secret",
)
def _two_injections(helm: HelmValues) -> Iterator[Violation]:
    for webhook, given in _webhooks(helm):
        if {"injectCaFrom", "injectCaFromSecret"} <= given:
            yield helm.violation(webhook, "sets both injectCaFrom and injectCaFromSecret")


@HELM.rule(
    "MT512",
    "error",
    "A webhook's CA is to be injected, and given as well",
    reason="Helm fails where a caBundle stands beside injectCaFrom or injectCaFromSecret.",
    source=_VALIDATION,
    fix="Remove caBundle, so that the CA follows the certificate",
)
def _injection_and_bundle(helm: HelmValues) -> Iterator[Violation]:
    for webhook, given in _webhooks(helm):
        if "caBundle" in given and given & {"injectCaFrom", "injectCaFromSecret"}:
            yield helm.violation(webhook, "sets caBundle beside injectCaFrom or injectCaFromSecret")


@HELM.rule(
    "MT513",
    "error",
    "A webhook's certificate comes from elsewhere, and its CA from nowhere",
    reason="Helm fails where externalSecret is set and none of caBundle, injectCaFrom and injectCaFromSecret is.",
    source=_VALIDATION,
    fix="Set injectCaFrom to <namespace>/<Certificate>",
)
def _no_ca(helm: HelmValues) -> Iterator[Violation]:
    for webhook, given in _webhooks(helm):
        if given == {"externalSecret"}:
            yield from helm.missing(webhook, "sets externalSecret and no CA")


@HELM.rule(
    "MT514",
    "error",
    "A webhook's CA is to be injected, and its certificate is the chart's own",
    reason="Helm fails where injectCaFrom or injectCaFromSecret is set and externalSecret is not.",
    source=_VALIDATION,
    fix="Set externalSecret: true",
)
def _no_external_secret(helm: HelmValues) -> Iterator[Violation]:
    for webhook, given in _webhooks(helm):
        if given & {"injectCaFrom", "injectCaFromSecret"} and "externalSecret" not in given:
            yield from helm.missing(webhook, "sets injectCaFrom or injectCaFromSecret, and not externalSecret")


@HELM.rule(
    "MT515",
    "error",
    "The proxy injector fails closed for cert-manager's own namespace",
    reason="With failurePolicy Fail no pod is created while the injector does not answer. The injector needs "
    "certificates that cert-manager issues; cert-manager's pods, in a namespace that the injector's selector does not "
    "leave out, need the injector: once both are down, neither comes back.",
    source="linkerd2 charts/linkerd-control-plane/values.yaml, proxyInjector.namespaceSelector; values-ha.yaml",
    fix="Install cert-manager in the namespace cert-manager, label its namespace "
    "config.linkerd.io/admission-webhooks=disabled, or add it to proxyInjector.namespaceSelector",
)
def _deadlock(helm: HelmValues) -> Iterator[Violation]:
    namespace = helm.cert_manager
    if helm.get("webhookFailurePolicy") != "Fail" or namespace is None or namespace in helm.left_alone:
        return
    if namespace not in _excluded(helm):
        yield helm.violation("webhookFailurePolicy", f'is "Fail", and cert-manager is in namespace {shown(namespace)}')


@HELM.rule(
    "MT516",
    "error",
    "A webhook's CA is to be injected from an object that does not exist",
    reason="The chart hands injectCaFrom to cert-manager's cainjector, which takes <namespace>/<Certificate>, and "
    "injectCaFromSecret, which takes <namespace>/<Secret>. If it does not find the object it injects nothing: the API "
    "server then trusts no certificate of the webhook, and with failurePolicy Fail no pod is created.",
    source="cert-manager pkg/controller/cainjector/sources.go; linkerd2 "
    "charts/linkerd-control-plane/templates/proxy-injector-rbac.yaml",
    fix="Set it to <namespace>/<name> of the Certificate, such as linkerd/linkerd-proxy-injector",
)
def _injected_from(helm: HelmValues) -> Iterator[Violation]:
    for webhook, given in _webhooks(helm):
        for member in sorted(given & {"injectCaFrom", "injectCaFromSecret"}):
            path, what = f"{webhook}.{member}", "Certificate" if member == "injectCaFrom" else "Secret"
            name = helm.get(path)
            namespace, slash, own = text(name).partition("/")
            if not slash:
                yield helm.violation(path, f"is {shown(name)}, which has no namespace")
            elif not (_NAME.fullmatch(namespace) and _NAME.fullmatch(own)):
                wrong = f"is {shown(name)}, which names no {what}: an object of Kubernetes cannot have that name"
                yield helm.violation(path, wrong)
            elif what == "Certificate" and helm.certificates.get(webhook) and name not in helm.known_certificates:
                known = listed(sorted(helm.certificates[webhook]))
                yield helm.violation(path, f"is {shown(name)}, and the webhook's Certificate is {known}")


@HELM.rule(
    "MT517",
    "error",
    "The name of a value is misspelt",
    reason="Helm takes values of any name. A value that the chart does not know has no effect.",
    source="linkerd2 charts/linkerd-control-plane/values.yaml",
    fix="Write it as the chart does",
)
def _misspelt(helm: HelmValues) -> Iterator[Violation]:
    for path, names in _KNOWN_VALUES.items():
        section = mapping(helm.get(path)) if path else helm.values
        for name in section:
            meant = misspelling(str(name), names)
            if meant is not None:
                member = f"{path}.{name}".lstrip(".")
                yield helm.violation(member, f"is not a value of the chart; {meant} is", f"Write {meant}")


@HELM.rule(
    "MT518",
    "error",
    "A value for a webhook's certificate is not a certificate",
    reason="The chart writes caBundle into the webhook's configuration, and crtPEM into its Secret: with anything "
    "else the API server cannot call the webhook, and with failurePolicy Fail no pod is created.",
    source="linkerd2 charts/linkerd-control-plane/templates/proxy-injector-rbac.yaml",
    fix="Write the certificate there as PEM, or have cert-manager inject the CA by injectCaFrom",
)
def _webhook_certificates(helm: HelmValues) -> Iterator[Violation]:
    for webhook in SECTION_SERVICES:
        for member in ("caBundle", "crtPEM"):
            given = text(helm.get(f"{webhook}.{member}")).strip()
            pem = read_pem(given)
            if given and not (pem.certificates or pem.unreadable):
                why = f": it {pem.shape[0]}" if pem.shape else ""
                yield helm.violation(f"{webhook}.{member}", f"holds no certificate{why}")


def _webhooks(helm: HelmValues) -> Iterator[tuple[str, set[str]]]:
    """Yield the webhooks with the names of what is set for them, as Helm distinguishes set from unset."""
    for webhook in SECTION_SERVICES:
        values = mapping(helm.get(webhook))
        yield webhook, {name for name in WEBHOOK_VALUES[:4] if values.get(name)}


def _excluded(helm: HelmValues) -> list[str]:
    """Return the namespaces that the injector's selector leaves out by name."""
    expressions = helm.get("proxyInjector.namespaceSelector.matchExpressions")
    if expressions is None:
        return list(UNINJECTED_NAMESPACES)
    return [
        text(name)
        for expression in sequence(expressions)
        if at(expression, "operator") == "NotIn" and mapping(expression).get("key") == NAMESPACE_NAME_LABEL
        for name in sequence(at(expression, "values"))
    ]


def leaf_of(values: Mapping[str, Any], *, hidden: bool = False) -> LeafLifetime:
    """Return the lifetime of proxies' certificates by Helm values, with the chart's defaults.

    Args:
        values: The values.
        hidden: Whether they are secret.
    """
    return replace(HelmValues(name="", values=values).leaf, hidden=hidden)


def lint_helm_values(values: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge the values of a stack, which the program completes.

    Args:
        values: The values.
    """
    return HELM.check(HelmValues(name="", values=overlaid(values, _COMPLETED)))


# Values that the program sets itself, as far as rules use them.
_COMPLETED = {"identityTrustAnchorsPEM": "<the bundle>", "identity": {"issuer": {"scheme": KUBERNETES_TLS}}}
