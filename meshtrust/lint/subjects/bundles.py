"""Trust bundles: in Helm values, in ConfigMaps and Secrets, in Bundles of trust-manager, in PEM files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from meshtrust.lint.context import KnownBundle, LintContext
from meshtrust.lint.objects import Object, is_related, nearest
from meshtrust.lint.reading.pem_files import LinkerdFile
from meshtrust.lint.rule import Finding, Location
from meshtrust.lint.rules.anchors import ANCHORS, BUNDLES, Bundle
from meshtrust.lint.rules.secrets import decode
from meshtrust.lint.values import has_placeholder, is_placeholder, mapping, text
from meshtrust.names import (
    IDENTITY_ISSUER,
    TRUST_ROOTS,
    TRUST_ROOTS_KEY,
)


def find_bundles(context: LintContext) -> list[KnownBundle]:
    """Return the trust bundles in Helm values, in objects, and in what Kustomize generates."""
    return [*_bundles_in_values(context), *_bundles_in_objects(context), *_generated_bundles(context)]


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
    """Yield the Secrets and ConfigMaps that a Bundle reads, each as a part of that bundle."""
    trust = context.trust_bundle(one)
    for source in trust.sources:
        named = [
            other
            for other in context.of_kind(source.kind)
            if other.name == source.name and not is_placeholder(source.name)
        ]
        for other in nearest(
            [other for other in named if is_related(other.file, one.file)], one.file, lambda one: one.file
        )[:1]:
            if source.kind == "Secret":
                secret = context.secret(other, "ca")
                content, place = secret.content(source.key), secret.place(source.key)
                judged = not context.is_signing(other) and other.name != IDENTITY_ISSUER and not secret.encrypted
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


def bundles_in_pem_files(context: LintContext, files: Sequence[LinkerdFile]) -> Iterator[KnownBundle]:
    """Yield the trust bundles among Linkerd's PEM files."""
    for one in files:
        if one.role == "bundle" and one.pem.unread is None:
            location = Location(one.pem.file, 1)
            bundle = Bundle(name=one.name, text=one.pem.text, at=context.at, location=location)
            yield KnownBundle(file=one.pem.file, bundle=bundle)


def lint_bundles(context: LintContext) -> Iterator[Finding]:
    """Check the bundles that were found, and each root in them."""
    for one in context.bundles:
        if one.is_judged:
            yield from check_bundle(one.bundle)


def check_bundle(bundle: Bundle) -> Iterator[Finding]:
    """Check a bundle, and each of its roots once."""
    yield from BUNDLES.check(bundle)
    once = {anchor.root.fingerprint: anchor for anchor in reversed(bundle.anchors)}
    for anchor in once.values():
        yield from ANCHORS.check(anchor)
