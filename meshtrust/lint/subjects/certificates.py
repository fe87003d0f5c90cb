"""Certificates and Issuers of cert-manager."""

from collections.abc import Iterator
from datetime import timedelta

from meshtrust.lint.context import LintContext
from meshtrust.lint.objects import Object
from meshtrust.lint.reading.schema import MANIFESTS, Manifest
from meshtrust.lint.relations.issuance import SIGNINGS, find_signings, find_vault_issuers
from meshtrust.lint.rule import Finding
from meshtrust.lint.rules.certificates import CERTIFICATES, CertificateSpec
from meshtrust.lint.rules.vault import VAULT_ISSUERS
from meshtrust.lint.rules.windows import LIFETIMES_UNDER_CAS, WINDOWS, LifetimeUnderCA, Role
from meshtrust.lint.values import mapping
from meshtrust.pki.durations import format_duration

_CALLED: dict[Role, str] = {
    "issuer": "the issuer",
    "intermediate": "the intermediate",
    "anchor": "the anchor",
    "webhook": "the certificate",
}


def lint_certificates(context: LintContext) -> Iterator[Finding]:
    """Check the Certificates that matter to Linkerd, their Issuers, and who signs what."""
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
    for vault_issuer in find_vault_issuers(context.issuance, context.is_part):
        yield from VAULT_ISSUERS.check(vault_issuer)


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
    """Yield a Certificate with its CAs that nothing renews; the rest of their lives is the limit."""
    signing = [secret for secret in context.of_kind("Secret") if context.issuance.signs_with(one, secret)]
    for secret in signing if spec.duration is not None else []:
        read = context.secret(secret, "ca")
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
