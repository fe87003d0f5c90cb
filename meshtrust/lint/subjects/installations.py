"""Installations of Linkerd: the Helm values, and the credentials in them."""

from collections.abc import Iterator
from dataclasses import replace

from meshtrust.lint.context import LintContext
from meshtrust.lint.objects import is_related
from meshtrust.lint.relations.installations import Installation
from meshtrust.lint.rule import Finding
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from meshtrust.lint.rules.helm import HELM
from meshtrust.lint.values import is_placeholder, text
from meshtrust.names import (
    SECTION_SERVICES,
    webhook_secret,
)


def with_certificates(context: LintContext, one: Installation) -> Installation:
    """Return Helm values with the webhooks' Certificates that were read."""
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


def lint_installations(context: LintContext) -> Iterator[Finding]:
    """Check Helm values, and the identity issuer where they hold one."""
    for one in context.installations:
        helm = one.helm
        # The objects of a record are judged themselves.
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
