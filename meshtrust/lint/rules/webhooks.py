"""Webhooks of Linkerd as objects: their configurations, and the Secrets that they serve with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509

from meshtrust.lint.facts import CertificateFacts, read_key
from meshtrust.lint.objects import Object
from meshtrust.lint.reading.pem_text import PemText, read_pem
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.rules.anchors import outside_validity
from meshtrust.lint.rules.credentials import KEY_LABELS
from meshtrust.lint.rules.secrets import CredentialSecret, decode
from meshtrust.lint.values import listed, mapping, sequence, text
from meshtrust.names import INJECT_CA_ANNOTATION, INJECT_CA_SECRET_ANNOTATION, SECRET_SERVICES
from meshtrust.pki.chain import find_chain

_INJECTED = (INJECT_CA_ANNOTATION, INJECT_CA_SECRET_ANNOTATION)


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """One webhook of a configuration.

    Attributes:
        one: The configuration.
        index: Its position in the configuration.
    """

    one: Object
    index: int

    @property
    def name(self) -> str:
        """The name."""
        return f"{self.one.kind} {self.one.name}"

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.locate("clientConfig")

    @property
    def manifest(self) -> Any:
        """The webhook, as it was read."""
        return mapping(sequence(self.one.get("webhooks"))[self.index])

    @property
    def service(self) -> tuple[str, str]:
        """Namespace and name of the Service that is called."""
        service = mapping(mapping(self.manifest.get("clientConfig")).get("service"))
        return text(service.get("namespace")), text(service.get("name"))

    @property
    def authority(self) -> Any:
        """The certificates of the authorities that the API server is to trust, in base64; None if none are given."""
        return mapping(self.manifest.get("clientConfig")).get("caBundle")

    @property
    def pem(self) -> PemText | None:
        """The same as PEM; None if they are not base64."""
        try:
            return read_pem(decode(text(self.authority)))
        except ValueError:
            return None

    def locate(self, member: str) -> Location:
        """Return where one of its members stands."""
        return self.one.document.locate(*self.one.path, "webhooks", self.index, member)


def webhooks_of(one: Object) -> Iterator[Webhook]:
    """Yield the webhooks of a configuration that call one of Linkerd's Services."""
    if one.group == "admissionregistration.k8s.io" and one.kind.endswith("WebhookConfiguration"):
        for index, _ in enumerate(sequence(one.get("webhooks"))):
            webhook = Webhook(one=one, index=index)
            if webhook.service[1] in SECRET_SERVICES.values() and "linkerd" in f"{one.name}{webhook.service}":
                yield webhook


WEBHOOK_CONFIGURATIONS = RuleSet[Webhook]("A webhook's configuration")


@WEBHOOK_CONFIGURATIONS.rule(
    "MT521",
    "error",
    "caBundle holds no certificate",
    reason="The API server verifies a webhook by the certificates in caBundle. Without one it cannot call the "
    "webhook, and with failurePolicy Fail no object that the webhook has to see is created, such as a pod.",
    source="Kubernetes, Dynamic Admission Control; k8s.io/apiserver pkg/util/webhook",
    fix="Write the base64 of the authority's PEM there, or have cert-manager inject it",
)
def _authority(webhook: Webhook) -> Iterator[Violation]:
    given, pem = webhook.authority, webhook.pem
    annotations = mapping(webhook.one.get("metadata.annotations"))
    blank = pem is not None and pem.shape is not None and pem.shape[0] in ("is empty", "is blank")
    if given is None or (blank and any(name in annotations for name in _INJECTED)):
        return
    if pem is None or not (pem.certificates or pem.unreadable):
        what = "it is not base64" if pem is None else f"it {pem.shape[0]}" if pem.shape else "it has other blocks"
        yield Violation(
            text=f"holds no certificate: {what}",
            member="caBundle",
            location=webhook.locate("clientConfig.caBundle"),
            value=given,
        )


@WEBHOOK_CONFIGURATIONS.rule(
    "MT522",
    "error",
    "A field is missing that the API asks for",
    reason="The API server refuses a webhook without sideEffects or admissionReviewVersions.",
    source="Kubernetes, API reference of MutatingWebhookConfiguration, admissionregistration.k8s.io/v1",
    fix="Set sideEffects: None and admissionReviewVersions: [v1]",
)
def _required(webhook: Webhook) -> Iterator[Violation]:
    missing = [name for name in ("sideEffects", "admissionReviewVersions") if not webhook.manifest.get(name)]
    if missing and text(webhook.one.manifest.get("apiVersion")).endswith("/v1"):
        yield Violation(text=f"has a webhook without {listed(missing)}", location=webhook.locate("name"))


@dataclass(frozen=True, kw_only=True)
class WebhookSecret:
    """A Secret that a webhook serves with.

    Attributes:
        secret: The Secret.
        service: The Service that it secures.
        at: Moment at which it is judged.
        authorities: Certificates that the API server trusts for it; empty if they were not read.
    """

    secret: CredentialSecret
    service: str
    at: datetime
    authorities: tuple[x509.Certificate, ...] = field(default=())

    @property
    def name(self) -> str:
        """The name."""
        return self.secret.name

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.secret.place("tls.crt") or self.secret.location

    @property
    def certificates(self) -> list[CertificateFacts]:
        """The certificates that it holds."""
        return self.secret.certificates("tls.crt")


WEBHOOK_SECRETS = RuleSet[WebhookSecret]("A webhook's Secret")


@WEBHOOK_SECRETS.rule(
    "MT411",
    "error",
    "tls.crt or tls.key of a webhook cannot be read",
    reason="A webhook cannot serve without a certificate and its key: the API server cannot call it, and with "
    "failurePolicy Fail no object that it has to see is created.",
    source="linkerd2 controller/webhook/server.go; charts/linkerd-control-plane/templates/proxy-injector-rbac.yaml",
    fix="Write the certificate and its key there as PEM, or have cert-manager do it",
)
def _readable(webhook: WebhookSecret) -> Iterator[Violation]:
    for key in ("tls.crt", "tls.key"):
        content = webhook.secret.content(key)
        if content is None:
            if key not in webhook.secret.keys:
                yield Violation(text=f"has no {key}; it holds {listed(webhook.secret.keys)}")
            continue
        pem = read_pem(content)
        what = "certificate" if key == "tls.crt" else "private key"
        found = pem.certificates if key == "tls.crt" else [one for one in pem.blocks if one.label in KEY_LABELS]
        if not found:
            why = f": it {pem.shape[0]}" if pem.shape else ""
            yield webhook.secret.violation(key, f"holds no {what}{why}")


@WEBHOOK_SECRETS.rule(
    "MT412",
    "error",
    "The key is not that of the webhook's certificate",
    reason="A webhook cannot serve with a key that does not belong to its certificate.",
    source="Go crypto/tls, X509KeyPair",
    fix="Put the certificate and the key there that were issued together",
)
def _key_matches(webhook: WebhookSecret) -> Iterator[Violation]:
    blocks = read_pem(webhook.secret.content("tls.key") or "").blocks
    key = read_key(blocks[0].label, blocks[0].der) if blocks else None
    for facts in webhook.certificates[:1] if key is not None else ():
        if key is not None and facts.key.public != key.public:
            yield webhook.secret.violation("tls.key", f"does not match the certificate {facts.subject}")


@WEBHOOK_SECRETS.rule(
    "MT413",
    "error",
    "The webhook's certificate is not for its Service",
    reason="The API server calls a webhook by the name of its Service, which the certificate's DNS names have to hold; "
    "the common name does not count.",
    source="Kubernetes, Dynamic Admission Control; Go crypto/x509 verify.go, VerifyHostname",
    fix="Issue it with the DNS name <service>.<namespace>.svc",
)
def _names(webhook: WebhookSecret) -> Iterator[Violation]:
    for facts in webhook.certificates[:1]:
        names = dns_names(facts.certificate)
        wanted = f"{webhook.service}.{webhook.secret.namespace or '<namespace>'}.svc"
        fits = wanted in names if webhook.secret.namespace else any(_is_for(name, webhook.service) for name in names)
        if not fits:
            held = f"the DNS names {listed(names)}" if names else "no DNS name"
            yield webhook.secret.violation("tls.crt", f"has {held}, and the API server calls {wanted}")


@WEBHOOK_SECRETS.rule(
    "MT414",
    "error",
    "The webhook's certificate has expired, or is not valid yet",
    reason="The API server refuses it, and with failurePolicy Fail no object that the webhook has to see is created.",
    source="Go crypto/x509 verify.go, isValid",
    fix="Issue a new one; where cert-manager does that, see the reason why it did not: kubectl describe certificate",
)
def _validity(webhook: WebhookSecret) -> Iterator[Violation]:
    for facts in webhook.certificates[:1]:
        for fault in outside_validity(facts, webhook.at):
            yield webhook.secret.violation("tls.crt", f"holds {facts.subject}, which {fault}")


@WEBHOOK_SECRETS.rule(
    "MT415",
    "error",
    "No authority in caBundle signs the webhook's certificate",
    reason="The API server verifies the webhook by caBundle of its configuration, and refuses every other certificate.",
    source="Kubernetes, Dynamic Admission Control",
    fix="Write the authority that signed it into caBundle, or have cert-manager inject it",
)
def _trusted(webhook: WebhookSecret) -> Iterator[Violation]:
    certificates = webhook.certificates
    if not (certificates and webhook.authorities):
        return
    chain = [facts.certificate for facts in certificates]
    if chain[0] in webhook.authorities:
        return
    if not find_chain(chain, webhook.authorities, min(webhook.at, certificates[0].not_after)):
        yield webhook.secret.violation("tls.crt", f"holds {certificates[0].subject}, which its caBundle does not trust")


def dns_names(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names of a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _is_for(name: str, service: str) -> bool:
    return name.startswith(f"{service}.") and name.endswith(".svc")
