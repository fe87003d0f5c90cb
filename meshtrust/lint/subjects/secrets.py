"""Secrets with the credentials of the identity issuer and of the CAs that sign."""

from collections.abc import Iterator

from meshtrust.lint.context import LintContext
from meshtrust.lint.objects import Object
from meshtrust.lint.rule import Finding
from meshtrust.lint.rules.anchors import BUNDLES, Bundle
from meshtrust.lint.rules.cluster import TRUST_ROOTS_SECRETS, TrustRootsSecret
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from meshtrust.lint.rules.secrets import SECRETS, CredentialSecret
from meshtrust.lint.subjects.bundles import check_bundle
from meshtrust.names import (
    IDENTITY_ISSUER,
    TRUST_ROOTS,
)


def lint_secrets(context: LintContext) -> Iterator[Finding]:
    """Check the Secrets of identity issuers and of CAs, and Secrets with the name of the trust roots."""
    for one in context.of_kind("Secret"):
        if one.name == TRUST_ROOTS:
            context.judged.add(id(one))
            yield from TRUST_ROOTS_SECRETS.check(TrustRootsSecret(one=one))
        if one.name == IDENTITY_ISSUER:
            secret = context.secret(one, "issuer")
        elif context.is_signing(one):
            secret = context.secret(one, "ca")
        else:
            continue
        context.judged.add(id(one))
        if not secret.encrypted and not secret.is_empty:
            yield from _check_secret(context, one, secret)


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
        yield from check_bundle(bundle) if secret.roots is None else BUNDLES.check(bundle)
