"""Finds among what was read what the rules judge, and what belongs to what: issuer to CA, chain to bundle."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from meshtrust.durations import format_duration
from meshtrust.lint.anchors import ANCHORS, BUNDLES, Bundle
from meshtrust.lint.certificates import CERTIFICATES, CertificateSpec
from meshtrust.lint.cluster import (
    NAMESPACES,
    TRUST_BUNDLES,
    ControlPlaneNamespace,
    TrustBundle,
)
from meshtrust.lint.credentials import CREDENTIALS, Credentials, LeafLifetime
from meshtrust.lint.facts import CertificateFacts
from meshtrust.lint.files import Material, PemFile, lint_reading
from meshtrust.lint.helm import HELM, HelmValues
from meshtrust.lint.installations import Installation, find_installations
from meshtrust.lint.issuance import Issuance
from meshtrust.lint.linkerd import GUIDE_ANCHORS, IDENTITY_ISSUER, TRUST_ROOTS, TRUST_ROOTS_KEY
from meshtrust.lint.objects import Object, nearest, objects_of
from meshtrust.lint.pem_files import key_files, role_of
from meshtrust.lint.rule import Finding, Location
from meshtrust.lint.secrets import SECRETS, CredentialSecret
from meshtrust.lint.values import is_placeholder, mapping, sequence, text
from meshtrust.lint.windows import LIFETIMES_UNDER_CAS, WINDOWS, LifetimeUnderCA, Role

_CALLED: dict[Role, str] = {
    "issuer": "the issuer",
    "intermediate": "the intermediate",
    "anchor": "the anchor",
    "webhook": "the certificate",
}


@dataclass(kw_only=True)
class LintContext:
    """All that was read, sorted.

    Attributes:
        at: The moment at which it is judged.
        objects: Kubernetes objects.
        installations: Helm values of Linkerd.
        issuance: What cert-manager issues.
        bundles: Trust bundles, each with its file.
    """

    at: datetime
    objects: list[Object]
    installations: list[Installation]
    issuance: Issuance
    bundles: list[tuple[str, Bundle]] = field(default_factory=list)

    def of_kind(self, kind: str, group: str = "") -> list[Object]:
        """Return the objects of a kind."""
        return [one for one in self.objects if one.kind == kind and one.group == group]

    def roots_near(self, file: str) -> tuple[CertificateFacts, ...] | None:
        """Return the roots of the bundles that are nearest to a file; nothing where there are none."""
        known = [(where, bundle) for where, bundle in self.bundles if bundle.roots]
        near = nearest(known, file, lambda one: one[0])
        return tuple(root for _, bundle in near for root in bundle.roots) or None

    def helm_near(self, file: str) -> HelmValues | None:
        """Return the Helm values that are nearest to a file; nothing where there are none."""
        near = nearest(self.installations, file, lambda one: one.file)
        return near[0].helm if near else None

    def leaf_near(self, file: str) -> LeafLifetime:
        """Return how long proxies' certificates live, by the Helm values that are nearest to a file."""
        helm = self.helm_near(file)
        return helm.leaf if helm is not None else LeafLifetime()


def lint_material(material: Material, at: datetime) -> list[Finding]:
    """Judge what was read.

    Args:
        material: What was read.
        at: The moment at which it is judged, with a time zone.

    Returns:
        The findings, in the order of files and lines.
    """
    objects = [one for document in material.documents for one in objects_of(document)]
    context = LintContext(
        at=at,
        objects=objects,
        installations=find_installations(material.documents, objects),
        issuance=Issuance(objects),
    )
    context.bundles = [
        *_bundles_in_values(context),
        *_bundles_in_objects(context),
        *_bundles_in_pem(context, material.pem_files),
    ]
    found = [
        *lint_reading(material),
        *_lint_installations(context),
        *_lint_bundles(context),
        *_lint_certificates(context),
        *_lint_secrets(context),
        *_lint_cluster(context),
        *_lint_pem_files(context, material.pem_files),
    ]
    return sorted(dict.fromkeys(found), key=_place)


def _place(finding: Finding) -> tuple[str, int, str]:
    where = finding.location or Location("")
    return where.file, where.line or 0, finding.rule.id if finding.rule else ""


def _bundles_in_values(context: LintContext) -> Iterator[tuple[str, Bundle]]:
    for one in context.installations:
        anchors = one.helm.anchors
        if anchors.strip() and not is_placeholder(anchors):
            bundle = Bundle(
                name=f"{one.helm.name} identityTrustAnchorsPEM",
                text=anchors,
                at=context.at,
                location=one.helm.locate("identityTrustAnchorsPEM"),
                hashed=True,
                trimmed=True,
            )
            yield one.file, bundle


def _bundles_in_objects(context: LintContext) -> Iterator[tuple[str, Bundle]]:
    for one in context.of_kind("ConfigMap"):
        content = mapping(one.get("data")).get(TRUST_ROOTS_KEY)
        if one.name == TRUST_ROOTS and not is_placeholder(content):
            place = one.locate(f"data.{TRUST_ROOTS_KEY}")
            yield one.file, Bundle(name=f"ConfigMap {TRUST_ROOTS}", text=text(content), at=context.at, location=place)
    for one in context.of_kind("Bundle", "trust.cert-manager.io"):
        for index, source in enumerate(sequence(one.get("spec.sources")) if one.name == TRUST_ROOTS else []):
            content = mapping(source).get("inLine")
            if isinstance(content, str) and not is_placeholder(content):
                place = one.document.locate(*one.path, "spec.sources", index, "inLine")
                name = f"Bundle {TRUST_ROOTS}"
                # trust-manager reads the certificates and writes them anew.
                yield one.file, Bundle(name=name, text=content, at=context.at, location=place, trimmed=True)


def _bundles_in_pem(context: LintContext, files: Sequence[PemFile]) -> Iterator[tuple[str, Bundle]]:
    for file in files:
        if role_of(file) == "bundle":
            yield file.file, Bundle(name=file.file, text=file.text, at=context.at, location=Location(file.file, 1))


def _lint_bundles(context: LintContext) -> Iterator[Finding]:
    for _, bundle in context.bundles:
        yield from _judge_bundle(bundle)


def _judge_bundle(bundle: Bundle) -> Iterator[Finding]:
    yield from BUNDLES.check(bundle)
    once = {anchor.root.fingerprint: anchor for anchor in reversed(bundle.anchors)}
    for anchor in once.values():
        yield from ANCHORS.check(anchor)


def _lint_installations(context: LintContext) -> Iterator[Finding]:
    for one in context.installations:
        helm = one.helm
        yield from HELM.check(helm)
        # Helm trims both before it writes them into the Secret.
        chain, key = (text(helm.get(f"identity.issuer.tls.{name}")).strip() for name in ("crtPEM", "keyPEM"))
        if chain and not is_placeholder(chain):
            yield from CREDENTIALS.check(
                Credentials(
                    name=f"{helm.name} identity.issuer.tls",
                    role="issuer",
                    chain=chain,
                    key=key if key and not is_placeholder(key) else None,
                    roots=context.roots_near(one.file),
                    at=context.at,
                    leaf=helm.leaf,
                    location=helm.locate("identity.issuer.tls.crtPEM"),
                    key_location=helm.locate("identity.issuer.tls.keyPEM"),
                )
            )


def _lint_certificates(context: LintContext) -> Iterator[Finding]:
    specs = {id(one): _spec(context, one, role) for one, role in context.issuance.certificates}
    for one, _ in context.issuance.certificates:
        spec = specs[id(one)]
        yield from CERTIFICATES.check(spec)
        window = spec.window
        if window is not None:
            yield from WINDOWS.check(window)
        parent = context.issuance.parent(one)
        above = specs.get(id(parent)) if parent is not None else None
        lifetimes = _under_certificate(spec, above) if above is not None else _under_secrets(context, one, spec)
        for lifetime in lifetimes:
            yield from LIFETIMES_UNDER_CAS.check(lifetime)


def _spec(context: LintContext, one: Object, role: Role) -> CertificateSpec:
    helm = context.helm_near(one.file)
    return CertificateSpec(
        object_name=one.name,
        namespace=one.namespace,
        role=role,
        spec=mapping(one.get("spec")),
        trust_domain=helm.trust_domain if helm is not None else None,
        leaf=context.leaf_near(one.file),
        issuer_elsewhere=context.issuance.issuer_elsewhere(one),
        locate=one.locate,
    )


def _under_certificate(spec: CertificateSpec, above: CertificateSpec) -> Iterator[LifetimeUnderCA]:
    if spec.duration is not None and above.duration is not None:
        yield LifetimeUnderCA(
            name=spec.name,
            what=_CALLED[spec.role],
            duration=spec.duration,
            ca=above.name,
            ca_says=f'spec.duration of {above.name} is "{format_duration(above.duration)}"',
            ca_duration=above.duration,
            ca_renew_before=above.renew_before,
            location=spec.locate("spec.duration"),
        )


def _under_secrets(context: LintContext, one: Object, spec: CertificateSpec) -> Iterator[LifetimeUnderCA]:
    """Yield a Certificate with the CAs that nothing renews: what is left of their lives is all there is."""
    signing = [secret for secret in context.of_kind("Secret") if context.issuance.signs_with(one, secret)]
    for secret in signing if spec.duration is not None else []:
        read = _secret(context, secret, "ca")
        for facts in read.certificates("tls.crt")[:1]:
            left = facts.not_after - context.at
            if spec.duration is not None and left > timedelta():
                yield LifetimeUnderCA(
                    name=spec.name,
                    what=_CALLED[spec.role],
                    duration=spec.duration,
                    ca=facts.subject,
                    ca_says=f"{read.name} holds a CA that ends on {facts.not_after:%Y-%m-%d %H:%M} UTC",
                    ca_duration=left,
                    location=spec.locate("spec.duration"),
                )


def _lint_secrets(context: LintContext) -> Iterator[Finding]:
    for one in context.of_kind("Secret"):
        if one.name == IDENTITY_ISSUER:
            secret = _secret(context, one, "issuer")
        elif one.name == GUIDE_ANCHORS[0] or context.issuance.is_authority(one):
            secret = _secret(context, one, "ca")
        else:
            continue
        if not secret.encrypted:
            yield from _judge_secret(context, one, secret)


def _secret(context: LintContext, one: Object, role: Literal["issuer", "ca"]) -> CredentialSecret:
    near = nearest(context.installations, one.file, lambda installation: installation.file)
    schemes = [text(installation.helm.get("identity.issuer.scheme")) for installation in near]
    return CredentialSecret(
        object_name=one.name,
        namespace=one.namespace,
        role=role,
        manifest=mapping(one.manifest),
        scheme=next((scheme for scheme in schemes if scheme and not is_placeholder(scheme)), None),
        roots=context.roots_near(one.file),
        locate=one.locate,
    )


def _judge_secret(context: LintContext, one: Object, secret: CredentialSecret) -> Iterator[Finding]:
    yield from SECRETS.check(secret)
    chain, authority = secret.content(secret.certificate_key), secret.content("ca.crt")
    if chain is not None:
        yield from CREDENTIALS.check(
            Credentials(
                name=secret.name,
                role=secret.role,
                chain=chain,
                key=secret.content(secret.private_key),
                roots=secret.roots or tuple(secret.certificates("ca.crt")) or None,
                at=context.at,
                leaf=context.leaf_near(one.file),
                location=secret.place(secret.certificate_key),
                key_location=secret.place(secret.private_key),
            )
        )
    if secret.role == "issuer" and authority is not None:
        bundle = Bundle(name=f"{secret.name} ca.crt", text=authority, at=context.at, location=secret.place("ca.crt"))
        # The roots themselves are judged where the mesh has them from, if that is at hand.
        yield from _judge_bundle(bundle) if secret.roots is None else BUNDLES.check(bundle)


def _lint_cluster(context: LintContext) -> Iterator[Finding]:
    targets = {one.namespace for one in context.installations if one.namespace}
    for one in context.of_kind("Namespace"):
        if one.name in {"linkerd", *targets} or "linkerd.io/is-control-plane" in mapping(one.get("metadata.labels")):
            helm = context.helm_near(one.file)
            namespace = ControlPlaneNamespace(
                object_name=one.name,
                manifest=mapping(one.manifest),
                cni=helm is not None and helm.get("cniEnabled") is True,
                selector=_selector(context, one.file),
                locate=one.locate,
            )
            yield from NAMESPACES.check(namespace)
    for one in context.of_kind("Bundle", "trust.cert-manager.io"):
        if one.name == TRUST_ROOTS:
            yield from TRUST_BUNDLES.check(TrustBundle(manifest=mapping(one.manifest), locate=one.locate))


def _selector(context: LintContext, file: str) -> Mapping[str, Any]:
    """Return the labels by which the nearest Bundle of trust roots selects namespaces."""
    named = [one for one in context.of_kind("Bundle", "trust.cert-manager.io") if one.name == TRUST_ROOTS]
    near = nearest(named, file, lambda one: one.file)
    return mapping(near[0].get("spec.target.namespaceSelector.matchLabels")) if near else {}


def _lint_pem_files(context: LintContext, files: Sequence[PemFile]) -> Iterator[Finding]:
    by_name = {file.file: file for file in files}
    for file in files:
        role = role_of(file)
        if role is None or role == "bundle":
            continue
        key = next((by_name[name] for name in key_files(file.file) if name in by_name), None)
        yield from CREDENTIALS.check(
            Credentials(
                name=file.file,
                role=role,
                chain=file.text,
                key=key.text if key is not None else None,
                roots=context.roots_near(file.file),
                at=context.at,
                leaf=context.leaf_near(file.file),
                location=Location(file.file, 1),
                key_location=Location(key.file, 1) if key is not None else None,
            )
        )
