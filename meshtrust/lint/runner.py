"""Finds among what was read what the rules check, and has them check it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509

from meshtrust.lint.context import KnownBundle, LintContext
from meshtrust.lint.objects import Object, is_related, nearest, objects_of
from meshtrust.lint.reading.files import Material, PemFile, Unread, lint_reading
from meshtrust.lint.reading.kustomize import read_kustomizations
from meshtrust.lint.reading.pem_files import LinkerdFile, Surroundings, sort_files
from meshtrust.lint.reading.schema import DUPLICATES, MANIFESTS, Duplicate, Manifest
from meshtrust.lint.relations.installations import Installation, find_installations, find_operators
from meshtrust.lint.relations.issuance import SIGNINGS, Issuance, find_signings
from meshtrust.lint.rule import Finding, Location
from meshtrust.lint.rules.anchors import ANCHORS, BUNDLES, Bundle
from meshtrust.lint.rules.bundles import TRUST_BUNDLES
from meshtrust.lint.rules.certificates import CERTIFICATES, CertificateSpec
from meshtrust.lint.rules.cluster import NAMESPACES, TRUST_ROOTS_SECRETS, ControlPlaneNamespace, TrustRootsSecret
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from meshtrust.lint.rules.helm import HELM
from meshtrust.lint.rules.secrets import SECRETS, CredentialSecret, decode
from meshtrust.lint.rules.webhooks import (
    WEBHOOK_CONFIGURATIONS,
    WEBHOOK_SECRETS,
    Webhook,
    WebhookSecret,
    webhooks_of,
)
from meshtrust.lint.rules.windows import LIFETIMES_UNDER_CAS, WINDOWS, LifetimeUnderCA, Role
from meshtrust.lint.values import has_placeholder, is_placeholder, mapping, text
from meshtrust.names import (
    CONTROL_PLANE_LABEL,
    IDENTITY_ISSUER,
    PREVIOUS_ANCHOR,
    SECRET_SERVICES,
    SECTION_SERVICES,
    TRUST_ANCHOR,
    TRUST_ROOTS,
    TRUST_ROOTS_KEY,
    webhook_secret,
)
from meshtrust.pki.durations import format_duration

_CALLED: dict[Role, str] = {
    "issuer": "the issuer",
    "intermediate": "the intermediate",
    "anchor": "the anchor",
    "webhook": "the certificate",
}


@dataclass(frozen=True, kw_only=True)
class LintResult:
    """What came of a look at files.

    Attributes:
        findings: The findings, in the order of files and lines.
        files: How many files were opened.
        judged: How many objects, sets of Helm values and PEM files rules were applied to.
        passed_over: How many documents are none of Linkerd's credentials, by their kind.
        pem_files: PEM files of which nothing says that they are Linkerd's.
    """

    findings: list[Finding]
    files: int
    judged: int
    passed_over: Counter[str]
    pem_files: tuple[str, ...]


def lint_material(material: Material, at: datetime) -> LintResult:
    """Judge what was read.

    Args:
        material: What was read.
        at: The moment at which it is judged, with a time zone.
    """
    kustomizations = read_kustomizations(material.documents)
    documents = [*material.documents, *kustomizations.inline]
    objects = [one for document in documents for one in objects_of(document)]
    operators = find_operators(objects)
    installations, unread = find_installations(documents, objects, kustomizations, operators)
    context = LintContext(
        at=at,
        objects=objects,
        kustomizations=kustomizations,
        installations=installations,
        issuance=Issuance(objects, operators, frozenset()),
        carriers={id(one.carrier) for one in installations},
    )
    sources = {source.name for one in context.trust_bundles for source in context.trust_bundle(one).sources}
    sources = {name for name in sources if not is_placeholder(name)}
    if sources:
        context.issuance = Issuance(objects, operators, frozenset(sources))
    context.installations = [_with_certificates(context, one) for one in installations]
    context.bundles = [*_bundles_in_values(context), *_bundles_in_objects(context), *_generated_bundles(context)]
    found = [
        *lint_reading(material),
        *(finding for one in unread for finding in lint_reading(Material(unread=[one]))),
        *_lint_installations(context),
        *_lint_certificates(context),
        *_lint_secrets(context),
        *_lint_cluster(context),
        *_lint_webhooks(context),
    ]
    ours, others = _sort_pem_files(context, material)
    context.bundles += _bundles_in_pem(context, ours)
    found += [*_lint_bundles(context), *_lint_pem_files(context, ours), *_lint_duplicates(context, material)]
    passed_over = Counter(material.others)
    passed_over.update(_passed_over(context))
    return LintResult(
        findings=sorted(dict.fromkeys(found), key=_place),
        files=material.files,
        judged=len(context.judged) + len(installations) + sum(one.pem.unread is None for one in ours),
        passed_over=passed_over,
        pem_files=tuple(file.file for file in others),
    )


def _place(finding: Finding) -> tuple[str, int, str]:
    where = finding.location or Location("")
    return where.file, where.line or 0, finding.rule.id if finding.rule else ""


def _passed_over(context: LintContext) -> Iterator[str]:
    """Yield the kinds of the objects that no rule was applied to."""
    for one in context.objects:
        if id(one) not in context.judged and id(one) not in context.carriers:
            yield one.kind


def _with_certificates(context: LintContext, one: Installation) -> Installation:
    """Return Helm values with the webhooks' Certificates that are at hand."""
    webhooks = {
        section: context.issuance.makers(webhook_secret(service)) for section, service in SECTION_SERVICES.items()
    }
    certificates = {
        section: frozenset(
            f"{made.namespace}/{made.name}" for made in makers if made.namespace and is_related(made.file, one.file)
        )
        for section, makers in webhooks.items()
    }
    known = frozenset(f"{made.namespace}/{made.name}" for made in context.of_kind("Certificate"))
    return replace(one, helm=replace(one.helm, certificates=certificates, known_certificates=known))


def _bundles_in_values(context: LintContext) -> Iterator[KnownBundle]:
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
            # With an external CA the chart writes the value nowhere.
            external = one.helm.get("identity.externalCA") is True
            judged = not external and one.helm.extent != "record"
            yield KnownBundle(file=one.file, bundle=bundle, is_whole=not external, is_judged=judged)


def _bundles_in_objects(context: LintContext) -> Iterator[KnownBundle]:
    for one in context.of_kind("ConfigMap"):
        if one.name == TRUST_ROOTS:
            yield from _bundle_in_config_map(context, one)
    for one in context.trust_bundles:
        trust = context.trust_bundle(one)
        read = list(_bundles_of_sources(context, one))
        whole = len(read) == len(trust.sources)
        for content, place in trust.inline:
            # trust-manager reads the certificates and writes them again.
            bundle = Bundle(name=trust.name, text=content, at=context.at, location=place, trimmed=True)
            yield KnownBundle(file=one.file, bundle=bundle, is_whole=whole)
        yield from (replace(known, is_whole=whole) for known in read)


def _bundle_in_config_map(context: LintContext, one: Object) -> Iterator[KnownBundle]:
    data, binary = mapping(one.get("data")), mapping(one.get("binaryData"))
    member = "binaryData" if TRUST_ROOTS_KEY in binary else "data"
    content = text(data.get(TRUST_ROOTS_KEY))
    if member == "binaryData":
        try:
            content = decode(text(binary[TRUST_ROOTS_KEY]))
        except ValueError:
            content = ""
    elif not data or has_placeholder(data):
        # Something else writes it, or a part of it.
        return
    context.judged.add(id(one))
    has_key = TRUST_ROOTS_KEY in {**data, **binary}
    name = f"{one.title} {TRUST_ROOTS_KEY}" if has_key else f"{one.title}, which has no key {TRUST_ROOTS_KEY},"
    location = one.locate(f"{member}.{TRUST_ROOTS_KEY}")
    yield KnownBundle(file=one.file, bundle=Bundle(name=name, text=content, at=context.at, location=location))


def _bundles_of_sources(context: LintContext, one: Object) -> Iterator[KnownBundle]:
    """Yield the Secrets and ConfigMaps at hand that a Bundle reads, each as the bundle that it is a part of."""
    trust = context.trust_bundle(one)
    for source in trust.sources:
        named = [
            other
            for other in context.of_kind(source.kind)
            if other.name == source.name and not is_placeholder(source.name)
        ]
        for other in nearest([other for other in named if is_related(other.file, one.file)], one.file, _file_of)[:1]:
            if source.kind == "Secret":
                secret = _secret(context, other, "ca")
                content, place = secret.content(source.key), secret.place(source.key)
                judged = not _signs(context, other) and other.name != IDENTITY_ISSUER and not secret.encrypted
            else:
                content, place = mapping(other.get("data")).get(source.key), other.locate(f"data.{source.key}")
                judged = True
            if isinstance(content, str) and not is_placeholder(content):
                context.judged.add(id(other))
                bundle = Bundle(
                    name=f"{other.title} {source.key}", text=content, at=context.at, location=place, trimmed=True
                )
                yield KnownBundle(file=one.file, bundle=bundle, is_judged=judged)


def _generated_bundles(context: LintContext) -> Iterator[KnownBundle]:
    for one in context.kustomizations.generated:
        if one.kind == "ConfigMap" and (one.name, one.key) == (TRUST_ROOTS, TRUST_ROOTS_KEY) and not one.source:
            name = f"ConfigMap {TRUST_ROOTS}"
            bundle = Bundle(name=name, text=one.text, at=context.at, location=one.location)
            yield KnownBundle(file=one.location.file, bundle=bundle)


def _bundles_in_pem(context: LintContext, files: Sequence[LinkerdFile]) -> Iterator[KnownBundle]:
    for one in files:
        if one.role == "bundle" and one.pem.unread is None:
            location = Location(one.pem.file, 1)
            bundle = Bundle(name=one.name, text=one.pem.text, at=context.at, location=location)
            yield KnownBundle(file=one.pem.file, bundle=bundle)


def _lint_bundles(context: LintContext) -> Iterator[Finding]:
    for one in context.bundles:
        if one.is_judged:
            yield from _check_bundle(one.bundle)


def _check_bundle(bundle: Bundle) -> Iterator[Finding]:
    yield from BUNDLES.check(bundle)
    once = {anchor.root.fingerprint: anchor for anchor in reversed(bundle.anchors)}
    for anchor in once.values():
        yield from ANCHORS.check(anchor)


def _lint_installations(context: LintContext) -> Iterator[Finding]:
    for one in context.installations:
        helm = one.helm
        # A record is judged where the objects are that it is of.
        if helm.extent == "record":
            continue
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
    for issuer in context.issuance.issuers:
        context.judged.add(id(issuer))
        yield from MANIFESTS.check(Manifest(one=issuer, part=context.is_part(issuer)))
    for one, _ in context.issuance.certificates:
        context.judged.add(id(one))
        manifest = Manifest(one=one, part=context.is_part(one))
        yield from MANIFESTS.check(manifest)
        # The fields of versions that are not served have other names.
        if manifest.is_served:
            yield from _lint_certificate(context, one, specs)
    for signing in find_signings(context.issuance):
        yield from SIGNINGS.check(signing)


def _lint_certificate(context: LintContext, one: Object, specs: dict[int, CertificateSpec]) -> Iterator[Finding]:
    spec = specs[id(one)]
    yield from CERTIFICATES.check(spec)
    window = spec.window
    if window is not None:
        yield from WINDOWS.check(window)
    parent = context.issuance.parent(one)
    above = specs.get(id(parent)) if parent is not None else None
    for lifetime in _under_certificate(spec, above) if above is not None else _under_secrets(context, one, spec):
        yield from LIFETIMES_UNDER_CAS.check(lifetime)


def _spec(context: LintContext, one: Object, role: Role) -> CertificateSpec:
    return CertificateSpec(
        object_name=one.name,
        namespace=one.namespace,
        role=role,
        spec=mapping(one.get("spec")),
        trust_domain=context.trust_domain_near(one.file),
        leaf=context.leaf_near(one.file),
        issuer_elsewhere=context.issuance.issuer_elsewhere(one),
        part=context.is_part(one),
        locate=one.locate,
    )


def _under_certificate(spec: CertificateSpec, above: CertificateSpec) -> Iterator[LifetimeUnderCA]:
    if spec.duration is not None and above.duration is not None and spec.name != above.name:
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


def _file_of(one: Object) -> str:
    return one.file


def _signs(context: LintContext, secret: Object) -> bool:
    """Whether a Secret is that of a CA that signs: an Issuer names it, or it is the guide's and has a key."""
    keys = {**mapping(secret.get("data")), **mapping(secret.get("stringData"))}
    guide = secret.name in (TRUST_ANCHOR, PREVIOUS_ANCHOR) and "tls.key" in keys
    return guide or context.issuance.is_authority(secret)


def _lint_secrets(context: LintContext) -> Iterator[Finding]:
    for one in context.of_kind("Secret"):
        if one.name == TRUST_ROOTS:
            context.judged.add(id(one))
            yield from TRUST_ROOTS_SECRETS.check(TrustRootsSecret(one=one))
        if one.name == IDENTITY_ISSUER:
            secret = _secret(context, one, "issuer")
        elif _signs(context, one):
            secret = _secret(context, one, "ca")
        else:
            continue
        context.judged.add(id(one))
        if not secret.encrypted and not secret.is_empty:
            yield from _check_secret(context, one, secret)


def _secret(context: LintContext, one: Object, role: Literal["issuer", "ca", "webhook"]) -> CredentialSecret:
    return CredentialSecret(
        object_name=one.name,
        namespace=one.namespace,
        role=role,
        manifest=mapping(one.manifest),
        scheme=context.scheme_near(one.file),
        roots=context.roots_near(one.file),
        locate=one.locate,
    )


def _check_secret(context: LintContext, one: Object, secret: CredentialSecret) -> Iterator[Finding]:
    yield from SECRETS.check(secret)
    chain, authority = secret.content(secret.certificate_key), secret.content("ca.crt")
    if chain is not None:
        yield from CREDENTIALS.check(
            Credentials(
                name=secret.name,
                role="issuer" if secret.role == "issuer" else "ca",
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
        yield from _check_bundle(bundle) if secret.roots is None else BUNDLES.check(bundle)


def _lint_cluster(context: LintContext) -> Iterator[Finding]:
    targets = {one.namespace for one in context.installations if one.namespace}
    for one in context.of_kind("Namespace"):
        if one.name in {"linkerd", *targets} or CONTROL_PLANE_LABEL in mapping(one.get("metadata.labels")):
            context.judged.add(id(one))
            namespace = ControlPlaneNamespace(
                object_name=one.name,
                manifest=mapping(one.manifest),
                cni=context.uses_cni(one.file),
                selector=_selector(context, one.file),
                locate=one.locate,
            )
            yield from NAMESPACES.check(namespace)
    for one in context.trust_bundles:
        context.judged.add(id(one))
        yield from MANIFESTS.check(Manifest(one=one, part=context.is_part(one)))
        yield from TRUST_BUNDLES.check(context.trust_bundle(one))


def _selector(context: LintContext, file: str) -> dict[str, object]:
    """Return how the Bundle of trust roots that goes with a file selects namespaces; empty if none is at hand."""
    related = [one for one in context.trust_bundles if is_related(one.file, file)]
    near = nearest(related, file, _file_of)
    return dict(context.trust_bundle(near[0]).selector) if near else {}


def _lint_webhooks(context: LintContext) -> Iterator[Finding]:
    configurations = context.of_kind("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    webhooks = [webhook for one in configurations for webhook in webhooks_of(one)]
    for one in dict.fromkeys(id(webhook.one) for webhook in webhooks):
        owner = next(webhook.one for webhook in webhooks if id(webhook.one) == one)
        context.judged.add(one)
        yield from MANIFESTS.check(Manifest(one=owner, part=context.is_part(owner)))
    for webhook in webhooks:
        yield from WEBHOOK_CONFIGURATIONS.check(webhook)
    for secret in context.of_kind("Secret"):
        service = SECRET_SERVICES.get(secret.name)
        # "tap" is a name that others have as well.
        if service is None or ("linkerd" not in f"{secret.namespace}{secret.name}" and "linkerd" not in secret.file):
            continue
        context.judged.add(id(secret))
        held = _secret(context, secret, "webhook")
        if not held.encrypted and not held.is_empty:
            authorities = _authorities(webhooks, service, secret)
            yield from WEBHOOK_SECRETS.check(
                WebhookSecret(secret=held, service=service, at=context.at, authorities=authorities)
            )


def _authorities(webhooks: Sequence[Webhook], service: str, secret: Object) -> tuple[x509.Certificate, ...]:
    """Return what the API server is told to trust for a webhook, by the configurations that go with its Secret."""
    found = [
        facts.certificate
        for webhook in webhooks
        if webhook.service == (secret.namespace, service) and is_related(webhook.one.file, secret.file)
        for _, facts in (webhook.pem.certificates if webhook.pem is not None else ())
    ]
    return tuple(found)


def _sort_pem_files(context: LintContext, material: Material) -> tuple[list[LinkerdFile], list[PemFile]]:
    issuers = []
    for one in context.of_kind("Secret"):
        if one.name == IDENTITY_ISSUER:
            secret = _secret(context, one, "issuer")
            issuers += secret.certificates(secret.certificate_key)[:1]
    around = Surroundings(
        generated=context.kustomizations.generated,
        directories=context.directories(),
        others=bool(material.others) or any(True for _ in _passed_over(context)),
        roots=[root for one in context.bundles for root in one.bundle.roots],
        issuers=issuers,
    )
    return sort_files(material.pem_files, around)


def _lint_pem_files(context: LintContext, files: Sequence[LinkerdFile]) -> Iterator[Finding]:
    for one in files:
        if one.pem.unread is not None:
            reason, fix = one.pem.unread
            unread = Unread(name=one.name, kind="text", reason=reason, fix=fix, location=Location(one.pem.file))
            yield from lint_reading(Material(unread=[unread]))
        elif one.role != "bundle":
            yield from CREDENTIALS.check(
                Credentials(
                    name=one.name,
                    role=one.role,
                    chain=one.pem.text,
                    key=one.key.text if one.key is not None and one.key.unread is None else None,
                    roots=context.roots_near(one.pem.file),
                    at=context.at,
                    leaf=context.leaf_near(one.pem.file),
                    location=Location(one.pem.file, 1),
                    key_location=Location(one.key.file, 1) if one.key is not None else None,
                )
            )
        if one.key is not None and one.key.unread is not None:
            reason, fix = one.key.unread
            unread = Unread(name=one.key.file, kind="text", reason=reason, fix=fix, location=Location(one.key.file))
            yield from lint_reading(Material(unread=[unread]))


def _lint_duplicates(context: LintContext, material: Material) -> Iterator[Finding]:
    """Yield the keys that stand twice in the documents that rules were applied to."""
    titles: dict[int, list[str]] = {}
    for one in context.objects:
        if id(one) in context.judged or id(one) in context.carriers:
            titles.setdefault(id(one.document), []).append(one.title)
    for document in material.documents:
        named = titles.get(id(document), ["Helm value"] if id(document) in context.carriers else [])
        for path, lines in document.duplicates if named else ():
            title = named[0] if len(named) == 1 else "The document's"
            location = Location(document.file, lines[-1])
            yield from DUPLICATES.check(Duplicate(title=title, path=path, lines=lines, location=location))
