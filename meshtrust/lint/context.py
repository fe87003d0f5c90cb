"""Everything that was read, sorted, with what belongs together: an issuer and its bundle, a bundle and its sources."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import PurePath
from typing import Literal

from meshtrust.lint.facts import CertificateFacts
from meshtrust.lint.objects import Object, is_related, nearest
from meshtrust.lint.reading.kustomize import Kustomizations
from meshtrust.lint.relations.carriers import chart_of
from meshtrust.lint.relations.installations import Installation
from meshtrust.lint.relations.issuance import Issuance
from meshtrust.lint.rules.anchors import Bundle
from meshtrust.lint.rules.bundles import TrustBundle, is_trust_bundle
from meshtrust.lint.rules.credentials import LeafLifetime
from meshtrust.lint.rules.helm import HelmValues
from meshtrust.lint.rules.secrets import CredentialSecret
from meshtrust.lint.values import has_placeholder, mapping, text
from meshtrust.names import IDENTITY_ISSUER, PREVIOUS_ANCHOR, TRUST_ANCHOR


@dataclass(frozen=True, kw_only=True)
class KnownBundle:
    """A trust bundle that was read.

    Attributes:
        file: The file that has it.
        bundle: The bundle.
        is_whole: Whether the mesh trusts nothing besides.
        is_judged: Whether it is judged, and not only known.
    """

    file: str
    bundle: Bundle
    is_whole: bool = True
    is_judged: bool = True


@dataclass(kw_only=True)
class LintContext:
    """Everything that was read, sorted.

    Attributes:
        at: Moment at which it is judged.
        objects: Kubernetes objects.
        kustomizations: The Kustomizations that patch or generate files.
        installations: Helm values of Linkerd.
        issuance: The graph of issuers.
        bundles: Trust bundles.
        judged: Objects that were judged, by their identity.
        carriers: Objects and documents that carry Helm values, by their identity.
    """

    at: datetime
    objects: list[Object]
    kustomizations: Kustomizations
    installations: list[Installation]
    issuance: Issuance
    bundles: list[KnownBundle] = field(default_factory=list)
    judged: set[int] = field(default_factory=set)
    carriers: set[int] = field(default_factory=set)

    @cached_property
    def by_kind(self) -> dict[str, list[Object]]:
        """The objects by their kind."""
        found: dict[str, list[Object]] = {}
        for one in self.objects:
            found.setdefault(one.kind, []).append(one)
        return found

    def of_kind(self, *kinds: str) -> list[Object]:
        """Return the objects of some kinds."""
        return [one for kind in kinds for one in self.by_kind.get(kind, [])]

    @cached_property
    def trust_bundles(self) -> list[Object]:
        """trust-manager's Bundles of Linkerd's trust anchors."""
        return [one for one in self.of_kind("Bundle", "ClusterBundle") if is_trust_bundle(one)]

    def is_part(self, one: Object) -> bool:
        """Whether an object is a patch, or is patched, so that a missing field may be set elsewhere."""
        spec = mapping(one.get("spec"))
        lacks = one.kind == "Certificate" and not spec.keys() & {"secretName", "issuerRef"}
        marked = "$patch" in mapping(one.manifest) or "$patch" in spec
        return lacks or marked or self.kustomizations.is_part(one.file)

    def roots_near(self, file: str) -> tuple[CertificateFacts, ...] | None:
        """Return the roots that the mesh of a file trusts; None if some or all of them were not read.

        Bundles of sibling directories may belong to another mesh.
        """
        known = [one for one in self.bundles if one.bundle.roots and is_related(one.file, file)]
        near = nearest(known, file, lambda one: one.file)
        if not near or not all(one.is_whole and not has_placeholder(one.bundle.text) for one in near):
            return None
        return tuple(root for one in near for root in one.bundle.roots)

    def helms_near(self, file: str) -> list[HelmValues]:
        """Return the Helm values that go with a file; those of a sibling directory only if there are no others."""
        related = [one for one in self.installations if is_related(one.file, file)]
        return [one.helm for one in nearest(related, file, lambda one: one.file)]

    def trust_domain_near(self, file: str) -> str | None:
        """Return the trust domain of a file's mesh; None if it is not known, or several are."""
        domains = {helm.trust_domain for helm in self.helms_near(file)}
        return next(iter(domains)) if len(domains) == 1 and not has_placeholder(list(domains)) else None

    def leaf_near(self, file: str) -> LeafLifetime:
        """Return the lifetime of proxies' certificates by the Helm values that go with a file."""
        helms = self.helms_near(file) or [one.helm for one in self.installations]
        leaves = [helm.leaf for helm in helms]
        return min(leaves, key=lambda leaf: leaf.whole, default=LeafLifetime())

    def scheme_near(self, file: str) -> str | None:
        """Return the scheme of the identity issuer by a file's Helm values; None if they name none, or several."""
        named = {text(helm.get("identity.issuer.scheme")) for helm in self.helms_near(file)} - {""}
        return next(iter(named)) if len(named) == 1 and not has_placeholder(list(named)) else None

    def uses_cni(self, file: str) -> bool:
        """Whether a mesh uses Linkerd's CNI plugin, so that its proxies do not set up iptables."""
        helms = self.helms_near(file) or [one.helm for one in self.installations]
        plugin = any(
            "linkerd-cni" in one.name or "linkerd2-cni" in f"{one.name} {chart_of(one)}" for one in self.objects
        )
        return plugin or any(helm.get("cniEnabled") is True for helm in helms)

    def secret(self, one: Object, role: Literal["issuer", "ca", "webhook"]) -> CredentialSecret:
        """Return a Secret with what goes with its file: the scheme of the mesh, and the roots that it trusts."""
        return CredentialSecret(
            object_name=one.name,
            namespace=one.namespace,
            role=role,
            manifest=mapping(one.manifest),
            scheme=self.scheme_near(one.file),
            roots=self.roots_near(one.file),
            locate=one.locate,
        )

    def is_signing(self, secret: Object) -> bool:
        """Whether a Secret is that of a CA that signs: an Issuer names it, or it has the guide's name and a key."""
        keys = {**mapping(secret.get("data")), **mapping(secret.get("stringData"))}
        is_guides = secret.name in (TRUST_ANCHOR, PREVIOUS_ANCHOR) and "tls.key" in keys
        return is_guides or self.issuance.is_authority(secret)

    def unjudged(self) -> Iterator[Object]:
        """Yield the objects that no rule was applied to."""
        for one in self.objects:
            if id(one) not in self.judged and id(one) not in self.carriers:
                yield one

    def trust_bundle(self, one: Object) -> TrustBundle:
        """Return a Bundle, with the places that its sources lead to."""
        reads = self.issuance.reading_namespace(one.file, trust=True)
        bundle = TrustBundle(one=one, part=self.is_part(one), reads=reads)
        elsewhere = []
        for source in bundle.sources if not has_placeholder(reads) else []:
            namespaces = (
                self.issuance.written_elsewhere(source.name, reads)
                if source.kind == "Secret" and not has_placeholder(source.name)
                else ()
            )
            if namespaces:
                elsewhere.append((source, namespaces))
        return TrustBundle(
            one=one,
            part=bundle.part,
            reads=reads,
            elsewhere=tuple(elsewhere),
            siblings=self._siblings(one, [source.name for source in bundle.sources]) if bundle.is_known else None,
        )

    def _siblings(self, bundle: Object, sources: Sequence[str]) -> tuple[str, str] | None:
        """Return the identity issuer and what signs it, if that is certainly not one of a Bundle's sources."""
        makers = [self.issuance.makers(name) for name in sources]
        if IDENTITY_ISSUER in sources or not all(makers):
            return None
        issuers = [
            one for one, role in self.issuance.certificates if role == "issuer" and is_related(one.file, bundle.file)
        ]
        # A tree may hold several meshes, or one mesh twice.
        near = nearest(issuers, bundle.file, lambda one: one.file)
        strangers = [self._stranger(issuer, sources, makers) for issuer in near]
        return strangers[0] if strangers and all(strangers) else None

    def _stranger(
        self, issuer: Object, sources: Sequence[str], makers: Sequence[Sequence[Object]]
    ) -> tuple[str, str] | None:
        """Return an identity issuer and what signs it, if that is certainly not one of some anchors."""
        chain = [issuer, *self.issuance.above(issuer)]
        top, signer = chain[-1], self.issuance.issuer(chain[-1])
        secrets = {text(one.get("spec.secretName")) for one in chain[1:]}
        secrets |= {text(one.get("spec.ca.secretName")) for one in map(self.issuance.issuer, chain) if one}
        if secrets & set(sources) or has_placeholder(sorted(secrets)):
            return None
        reference = top.get("spec.issuerRef")
        shared = bool(reference) and any(one.get("spec.issuerRef") == reference for made in makers for one in made)
        self_signed = signer is not None and signer.get("spec.selfSigned") is not None
        if shared and not self_signed:
            kind, name = text(mapping(reference).get("kind")) or "Issuer", text(mapping(reference).get("name"))
            return issuer.title, f"both come from {kind} {name}"
        return (issuer.title, f"that is under {top.title}") if self_signed and top is not issuer else None

    def directories(self) -> frozenset[str]:
        """Return the directories that hold objects or files of Linkerd."""
        files = [one.file for one in self.installations] + [one.file for one in self.bundles]
        files += [one.file for one, _ in self.issuance.certificates]
        files += [one.file for one in self.objects if id(one) in self.judged]
        return frozenset(str(PurePath(file).parent) for file in files)
