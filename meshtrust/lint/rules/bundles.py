"""trust-manager's Bundles of Linkerd's trust anchors, of both APIs, and their sources."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshtrust.lint.objects import Object
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.values import has_placeholder, listed, mapping, sequence, shown, text
from meshtrust.names import IDENTITY_ISSUER, NEW_TRUST_MANAGER_GROUP, TRUST_MANAGER_GROUP, TRUST_ROOTS, TRUST_ROOTS_KEY

# Two names that are this similar are taken as the same name.
_ALIKE = 0.93
GROUPS = (TRUST_MANAGER_GROUP, NEW_TRUST_MANAGER_GROUP)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Secret or a ConfigMap that a Bundle reads.

    Attributes:
        kind: Secret or ConfigMap.
        name: Its name.
        key: The key that is read.
        location: Place at which it is named.
    """

    kind: str
    name: str
    key: str
    location: Location


@dataclass(frozen=True, kw_only=True)
class TrustBundle:
    """trust-manager's Bundle of Linkerd's trust anchors.

    Attributes:
        one: The object.
        part: Whether it is a patch or is patched.
        reads: Namespace that trust-manager reads its sources in.
        elsewhere: Sources that are written to other namespaces alone, each with those.
        siblings: The identity issuer and what signs it instead of a source; None if a source does.
    """

    one: Object
    part: bool = False
    reads: str = ""
    elsewhere: tuple[tuple[Source, tuple[str, ...]], ...] = ()
    siblings: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """The name."""
        return f"{self.one.kind} {self.one.name or TRUST_ROOTS}"

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.one.locate("spec")

    @property
    def is_cluster_bundle(self) -> bool:
        """Whether it is of the newer API."""
        return self.one.kind == "ClusterBundle"

    @property
    def keys(self) -> list[str]:
        """The keys of the ConfigMap that it writes as PEM."""
        if self.is_cluster_bundle:
            data = sequence(self.one.get("spec.target.configMap.data"))
            return [text(mapping(item).get("key")) for item in data if mapping(item).get("format") in (None, "PEM")]
        key = self.one.get("spec.target.configMap.key")
        return [str(key)] if key is not None else []

    @property
    def selector(self) -> Mapping[str, Any]:
        """The selector of the namespaces that it writes the ConfigMap to."""
        return mapping(self.one.get("spec.target.namespaceSelector"))

    @property
    def inline(self) -> list[tuple[str, Location]]:
        """The roots that stand in it as texts, each with its place."""
        if self.is_cluster_bundle:
            content = self.one.get("spec.inLineCAs")
            return [(content, self.one.locate("spec.inLineCAs"))] if isinstance(content, str) else []
        return [
            (content, self._locate(index, "inLine"))
            for index, source in enumerate(sequence(self.one.get("spec.sources")))
            if isinstance(content := mapping(source).get("inLine"), str)
        ]

    @property
    def sources(self) -> list[Source]:
        """The Secrets and ConfigMaps that it reads, by name."""
        found = []
        if self.is_cluster_bundle:
            for index, source in enumerate(sequence(self.one.get("spec.sourceRefs"))):
                location = self.one.document.locate(*self.one.path, "spec.sourceRefs", index)
                found.append(_source(text(mapping(source).get("kind")), source, location))
        else:
            for index, source in enumerate(sequence(self.one.get("spec.sources"))):
                for kind, member in (("Secret", "secret"), ("ConfigMap", "configMap")):
                    if member in mapping(source):
                        found.append(_source(kind, mapping(source)[member], self._locate(index, member)))
        return found

    @property
    def is_known(self) -> bool:
        """Whether every source is a Secret that is given by its name."""
        several = len(sequence(self.one.get("spec.sources" if not self.is_cluster_bundle else "spec.sourceRefs")))
        sources = self.sources
        return (
            several == len(sources) > 0
            and not self.inline
            and all(source.kind == "Secret" and source.name and not has_placeholder(source.name) for source in sources)
        )

    def _locate(self, index: int, member: str) -> Location:
        return self.one.document.locate(*self.one.path, "spec.sources", index, member)


def _source(kind: str, source: Any, location: Location) -> Source:
    return Source(
        kind=kind, name=text(mapping(source).get("name")), key=text(mapping(source).get("key")), location=location
    )


TRUST_BUNDLES = RuleSet[TrustBundle]("trust-manager's Bundle")


def is_trust_bundle(one: Object) -> bool:
    """Whether an object is the Bundle of Linkerd's trust anchors, of either API, or is meant to be by its name."""
    return one.group in GROUPS and one.kind in ("Bundle", "ClusterBundle") and _is_meant(one.name)


def _is_meant(name: str) -> bool:
    """Whether a name is that of the trust roots, or differs by a letter or two; a longer name is another one."""
    likeness = difflib.SequenceMatcher(None, name, TRUST_ROOTS).ratio()
    return name == TRUST_ROOTS or (likeness > _ALIKE and not name.startswith(TRUST_ROOTS))


@TRUST_BUNDLES.rule(
    "MT616",
    "error",
    "The Bundle's name is not that of the ConfigMap",
    reason="trust-manager writes a ConfigMap of the Bundle's name, and Linkerd's pods mount "
    "linkerd-identity-trust-roots alone.",
    source="linkerd2 charts/partials/templates/_proxy.tpl; trust-manager, API reference of Bundle",
    fix=f"Name it {TRUST_ROOTS}",
)
def _bundle_name(bundle: TrustBundle) -> Iterator[Violation]:
    if bundle.one.name != TRUST_ROOTS:
        wrong = f"is not called {TRUST_ROOTS}, as the ConfigMap that Linkerd reads is"
        yield Violation(text=wrong, location=bundle.one.locate("metadata.name"))


@TRUST_BUNDLES.rule(
    "MT611",
    "error",
    "The Bundle is not written to the place that Linkerd reads",
    reason="Linkerd's pods read the key ca-bundle.crt of a ConfigMap that bears the Bundle's name, and wait until it "
    "exists.",
    source="linkerd2 charts/partials/templates/_proxy.tpl; trust-manager, API reference of Bundle and ClusterBundle",
    fix="Set spec.target.configMap.key: ca-bundle.crt; in a ClusterBundle spec.target.configMap.data[].key",
    applies=lambda bundle: not bundle.part,
)
def _target(bundle: TrustBundle) -> Iterator[Violation]:
    if TRUST_ROOTS_KEY not in bundle.keys:
        member = f"spec.target.configMap.{'data' if bundle.is_cluster_bundle else 'key'}"
        written = f"is {listed(map(shown, bundle.keys))}" if bundle.keys else "is not set"
        yield Violation(
            text=f"{written}, so that the ConfigMap has no {TRUST_ROOTS_KEY}",
            member=member,
            location=bundle.one.locate(member) if bundle.keys else bundle.one.locate("spec.target"),
            value=bundle.one.get("spec.target") if bundle.one.get(member) is None else bundle.keys,
        )


@TRUST_BUNDLES.rule(
    "MT612",
    "error",
    "The mesh would trust public CAs",
    reason="useDefaultCAs, and defaultCAs of a ClusterBundle, add every CA that browsers trust: any holder of a "
    "certificate from one could pass for a workload, and Linkerd refuses bundles with their algorithms.",
    source="trust-manager, API reference of Bundle and ClusterBundle; linkerd2 pkg/issuercerts/issuercerts.go",
    fix="Remove the source",
)
def _public_cas(bundle: TrustBundle) -> Iterator[Violation]:
    for index, source in enumerate(sequence(bundle.one.get("spec.sources"))):
        if mapping(source).get("useDefaultCAs") is True:
            location = bundle.one.document.locate(*bundle.one.path, "spec.sources", index)
            yield Violation(
                text="has useDefaultCAs among its sources, so that the mesh trusts public CAs", location=location
            )
    provider = bundle.one.get("spec.defaultCAs.provider")
    if provider not in (None, "Disabled"):
        location = bundle.one.locate("spec.defaultCAs")
        wrong = f"has defaultCAs of provider {shown(provider)}, so that the mesh trusts public CAs"
        yield Violation(text=wrong, location=location, value=provider)


@TRUST_BUNDLES.rule(
    "MT613",
    "warning",
    "A source of the Bundle is in a namespace that trust-manager does not read",
    reason="trust-manager reads the Secrets and ConfigMaps that a Bundle names in its trust namespace alone, by "
    "default cert-manager. It does not publish what is missing there, and Linkerd's pods wait for it.",
    source="trust-manager, app.trust.namespace of its chart; trust-manager issue 120",
    fix="Write it to the trust namespace, or set app.trust.namespace",
)
def _source_found(bundle: TrustBundle) -> Iterator[Violation]:
    for source, namespaces in bundle.elsewhere:
        wrong = (
            f"reads {source.kind} {source.name} in trust-manager's own namespace, {bundle.reads}, and it is written to "
            f"namespace {listed(namespaces)}"
        )
        yield Violation(text=wrong, location=source.location)


@TRUST_BUNDLES.rule(
    "MT614",
    "error",
    "The Bundle trusts the identity issuer itself",
    reason="tls.crt of the identity issuer's Secret is the issuer: with each renewal the mesh would have to trust "
    "another certificate, which no running proxy does.",
    source="linkerd.io, Automatically Rotating Control Plane TLS Credentials; linkerd2-proxy "
    "linkerd/meshtls/src/creds/store.rs, validate",
    fix="Name the trust anchor's Secret as the source, or the key ca.crt",
)
def _trusts_the_issuer(bundle: TrustBundle) -> Iterator[Violation]:
    for source in bundle.sources:
        if source.kind == "Secret" and source.name == IDENTITY_ISSUER and source.key == "tls.crt":
            yield Violation(text=f"reads tls.crt of Secret {IDENTITY_ISSUER}", location=source.location)


@TRUST_BUNDLES.rule(
    "MT615",
    "error",
    "The identity issuer is not under a trust anchor of the Bundle",
    reason="If one Issuer signs both, or two unrelated CAs do, no path leads from the identity issuer to a root that "
    "proxies trust, and the identity service refuses it.",
    source="Go crypto/x509 verify.go; linkerd2 pkg/identity/service.go, loadCredentials",
    fix="Let an Issuer with the anchor's Secret (spec.ca.secretName) sign the identity issuer, or trust its own root",
)
def _siblings(bundle: TrustBundle) -> Iterator[str]:
    if bundle.siblings is not None:
        issuer, above = bundle.siblings
        names = listed(f"Secret {source.name}" for source in bundle.sources)
        yield f"holds the trust anchor of {names}, which does not sign the identity issuer ({issuer}): {above}"
