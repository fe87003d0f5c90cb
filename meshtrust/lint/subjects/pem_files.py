"""PEM files of Linkerd."""

from collections.abc import Iterator, Sequence

from meshtrust.lint.context import LintContext
from meshtrust.lint.reading.files import Material, PemFile, Unread, lint_reading
from meshtrust.lint.reading.pem_files import LinkerdFile, Surroundings, sort_files
from meshtrust.lint.rule import Finding, Location
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from meshtrust.names import (
    IDENTITY_ISSUER,
)


def sort_pem_files(context: LintContext, material: Material) -> tuple[list[LinkerdFile], list[PemFile]]:
    """Return the PEM files of Linkerd, and the others."""
    issuers = []
    for one in context.of_kind("Secret"):
        if one.name == IDENTITY_ISSUER:
            secret = context.secret(one, "issuer")
            issuers += secret.certificates(secret.certificate_key)[:1]
    around = Surroundings(
        generated=context.kustomizations.generated,
        directories=context.directories(),
        others=bool(material.others) or any(True for _ in context.unjudged()),
        roots=[root for one in context.bundles for root in one.bundle.roots],
        issuers=issuers,
    )
    return sort_files(material.pem_files, around)


def lint_pem_files(context: LintContext, files: Sequence[LinkerdFile]) -> Iterator[Finding]:
    """Check the PEM files of Linkerd but the bundles, which are checked with the others."""
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
