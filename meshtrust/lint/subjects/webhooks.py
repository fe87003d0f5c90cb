"""Webhooks of Linkerd: their configurations, and the Secrets that they serve with."""

from collections.abc import Iterator, Sequence

from cryptography import x509

from meshtrust.lint.context import LintContext
from meshtrust.lint.objects import Object, is_related
from meshtrust.lint.reading.schema import MANIFESTS, Manifest
from meshtrust.lint.rule import Finding
from meshtrust.lint.rules.webhooks import (
    WEBHOOK_CONFIGURATIONS,
    WEBHOOK_SECRETS,
    Webhook,
    WebhookSecret,
    webhooks_of,
)
from meshtrust.names import (
    SECRET_SERVICES,
)


def lint_webhooks(context: LintContext) -> Iterator[Finding]:
    """Check the configurations of Linkerd's webhooks, and the Secrets that the webhooks serve with."""
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
        # Other software has the name "tap" as well.
        if service is None or ("linkerd" not in f"{secret.namespace}{secret.name}" and "linkerd" not in secret.file):
            continue
        context.judged.add(id(secret))
        held = context.secret(secret, "webhook")
        if not held.encrypted and not held.is_empty:
            authorities = _authorities(webhooks, service, secret)
            yield from WEBHOOK_SECRETS.check(
                WebhookSecret(secret=held, service=service, at=context.at, authorities=authorities)
            )


def _authorities(webhooks: Sequence[Webhook], service: str, secret: Object) -> tuple[x509.Certificate, ...]:
    """Return the authorities of a webhook in the configurations that go with its Secret."""
    found = [
        facts.certificate
        for webhook in webhooks
        if webhook.service == (secret.namespace, service) and is_related(webhook.one.file, secret.file)
        for _, facts in (webhook.pem.certificates if webhook.pem is not None else ())
    ]
    return tuple(found)
