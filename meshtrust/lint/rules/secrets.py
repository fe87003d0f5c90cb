"""Secrets of credentials: the identity issuer's own, and those of CAs that sign."""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from meshtrust.lint.facts import CertificateFacts, path_to_root
from meshtrust.lint.reading.pem_text import read_pem
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.values import is_placeholder, listed, mapping, shown, text
from meshtrust.names import KUBERNETES_TLS, SECRET_KEYS


@dataclass(frozen=True, kw_only=True)
class CredentialSecret:
    """A Secret that holds credentials.

    Attributes:
        object_name: Its name in Kubernetes.
        namespace: Its namespace; empty if it does not name one.
        role: Whether it is the identity issuer's, that of a CA which signs, or that of a webhook.
        manifest: The object, as it was read.
        scheme: `identity.issuer.scheme` of the Helm values that go with it; None if they were not read.
        roots: The trusted roots; None if they were not read.
        locate: Returns the place of a dotted path of the object.
    """

    object_name: str
    namespace: str
    role: Literal["issuer", "ca", "webhook"]
    manifest: Mapping[str, Any]
    scheme: str | None = None
    roots: tuple[CertificateFacts, ...] | None = None
    locate: Callable[[str], Location | None] = lambda _: None

    @property
    def name(self) -> str:
        """The name."""
        return f"Secret {'/'.join(filter(None, (self.namespace, self.object_name)))}"

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.locate("metadata")

    @property
    def is_empty(self) -> bool:
        """Whether it has no data, so that something else writes it."""
        return not mapping(self.manifest.get("data")) and not self._plain

    @property
    def keys(self) -> list[str]:
        """The names of its members."""
        return sorted({*map(str, mapping(self.manifest.get("data"))), *map(str, self._plain)})

    @property
    def _plain(self) -> Mapping[str, Any]:
        return mapping(self.manifest.get("stringData"))

    @property
    def certificate_key(self) -> str:
        """Name of the member that holds the certificate."""
        return "crt.pem" if "crt.pem" in self.keys and "tls.crt" not in self.keys else "tls.crt"

    @property
    def private_key(self) -> str:
        """Name of the member that holds the key."""
        return "key.pem" if self.certificate_key == "crt.pem" else "tls.key"

    @property
    def encrypted(self) -> bool:
        """Whether its data is encrypted, as SOPS does, and cannot be judged."""
        values = [*mapping(self.manifest.get("data")).values(), *self._plain.values()]
        return "sops" in self.manifest or any(map(is_placeholder, values))

    def content(self, key: str) -> str | None:
        """Return the content of a member; None if it is missing or cannot be read."""
        if key in self._plain:
            return text(self._plain[key])
        value = mapping(self.manifest.get("data")).get(key)
        if value is None:
            return "" if key in mapping(self.manifest.get("data")) else None
        try:
            return decode(text(value))
        except ValueError:
            return None

    def place(self, key: str) -> Location | None:
        """Return the place at which a member's content begins."""
        if key in self._plain:
            return self.locate(f"stringData.{key}")
        location = self.locate(f"data.{key}")
        return location and replace(location, folded=True)

    def violation(self, key: str, text: str, fix: str | None = None) -> Violation:
        """Return a violation by a member."""
        return Violation(text=text, fix=fix, member=key, location=self.place(key) or self.location)

    def certificates(self, key: str) -> list[CertificateFacts]:
        """Return the certificates that a member holds, as far as they can be read."""
        return [facts for _, facts in read_pem(self.content(key) or "").certificates]


def decode(text: str) -> str:
    """Return the content of a text in base64, as Go decodes it: line ends are ignored.

    Raises:
        ValueError: It is not base64.
    """
    plain = text.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(plain, validate=True).decode(errors="replace")
    except binascii.Error as error:
        msg = "it is not base64"
        raise ValueError(msg) from error


SECRETS = RuleSet[CredentialSecret]("A Secret of credentials")


def _is_issuer(secret: CredentialSecret) -> bool:
    return secret.role == "issuer"


@SECRETS.rule(
    "MT401",
    "error",
    "The certificate or the key is missing",
    reason="The identity service reads tls.crt and tls.key, or crt.pem and key.pem where the scheme is "
    "linkerd.io/tls, and ends if they are missing. cert-manager's CA issuers read tls.crt and tls.key.",
    source="linkerd2 controller/cmd/identity/main.go; cert-manager pkg/util/kube/pki.go, SecretTLSKeyPair",
    fix="Write both under the names that go with the scheme",
)
def _both_there(secret: CredentialSecret) -> Iterator[Violation]:
    for key in (secret.certificate_key, secret.private_key):
        if key not in secret.keys:
            yield Violation(text=f"has no {key}; it holds {listed(secret.keys)}")


@SECRETS.rule(
    "MT402",
    "error",
    "The Secret's keys are those of another scheme than the chart's",
    reason="The Helm value identity.issuer.scheme decides which keys the identity service reads, whatever the "
    "Secret holds.",
    source="linkerd2 controller/cmd/identity/main.go; charts/linkerd-control-plane/values.yaml",
    fix="Set identity.issuer.scheme: kubernetes.io/tls, or write the Secret as that scheme asks",
    applies=_is_issuer,
)
def _scheme(secret: CredentialSecret) -> Iterator[Violation]:
    if secret.scheme is None:
        return
    wanted = SECRET_KEYS.get(secret.scheme, SECRET_KEYS[KUBERNETES_TLS])
    has = (secret.certificate_key, secret.private_key)
    if has != wanted and has[0] in secret.keys:
        yield Violation(
            text=f"holds {listed(has)}, and the chart's scheme {shown(secret.scheme)} reads {listed(wanted)}"
        )


@SECRETS.rule(
    "MT403",
    "note",
    "The Secret is not of type kubernetes.io/tls",
    reason="Linkerd does not look at the type, and cert-manager keeps the one that it finds. Tools that look for "
    "certificates by the type do not find this one, and a type cannot be changed later.",
    source="cert-manager pkg/controller/certificates/issuing/internal/secret.go, getCertificateSecret; Kubernetes, "
    "Secret types",
    fix="Make a new one with type: kubernetes.io/tls",
)
def _type(secret: CredentialSecret) -> Iterator[Violation]:
    kind = secret.manifest.get("type")
    if secret.certificate_key == "tls.crt" and "tls.crt" in secret.keys and kind != KUBERNETES_TLS:
        text = "has no type, which means Opaque" if kind is None else f"is of type {shown(kind)}"
        yield Violation(text=text, location=secret.locate("type") or secret.location)


@SECRETS.rule(
    "MT404",
    "error",
    "ca.crt is missing",
    reason="With scheme kubernetes.io/tls `linkerd check`, `upgrade` and `install` take the trust anchors from the "
    "issuer Secret's ca.crt, and fail if it is missing. The mesh itself does not read it.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, FetchExternalIssuerData",
    fix="Write the root there that the issuer chains to",
    applies=_is_issuer,
)
def _ca_there(secret: CredentialSecret) -> Iterator[Violation]:
    if "tls.crt" in secret.keys and "ca.crt" not in secret.keys:
        yield Violation(text=f"has no ca.crt; it holds {listed(secret.keys)}")


@SECRETS.rule(
    "MT405",
    "warning",
    "ca.crt is an intermediate, not the root",
    reason="`linkerd check` then judges an intermediate as the trust anchor. cert-manager writes the highest "
    "certificate of the chain there that it knows: where its CA Secret does not end with the root, that is an "
    "intermediate.",
    source="cert-manager pkg/util/pki/parse_certificate_chain.go; linkerd2 pkg/issuercerts/issuercerts.go",
    fix="Write the root after the intermediate into tls.crt of the Secret that the Issuer signs with",
    applies=_is_issuer,
)
def _ca_is_a_root(secret: CredentialSecret) -> Iterator[Violation]:
    trusted = {facts.fingerprint for facts in secret.roots or ()}
    for facts in secret.certificates("ca.crt"):
        if not facts.self_signed and facts.fingerprint not in trusted:
            yield secret.violation("ca.crt", f"holds {facts.subject}, which is not self-signed")


@SECRETS.rule(
    "MT406",
    "warning",
    "ca.crt is not a root of the bundle",
    reason="`linkerd check` then judges the issuer by another anchor than the mesh does, and may pass what does not "
    "work.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, FetchExternalIssuerData; pkg/healthcheck/healthcheck.go",
    fix="Write the root there that the issuer chains to, and trust it in the bundle",
    applies=_is_issuer,
)
def _ca_is_trusted(secret: CredentialSecret) -> Iterator[Violation]:
    trusted = {facts.fingerprint for facts in secret.roots or ()}
    for facts in secret.certificates("ca.crt") if trusted else []:
        if facts.self_signed and facts.fingerprint not in trusted:
            yield secret.violation(
                "ca.crt", f"holds {facts.subject}, which is not one of the {len(trusted)} trusted roots"
            )


@SECRETS.rule(
    "MT407",
    "error",
    "The Secret's data is not base64",
    reason="The API server refuses a Secret whose data is not base64.",
    source="Kubernetes, Secrets: data and stringData",
    fix="Encode it, or write it under stringData",
)
def _base64(secret: CredentialSecret) -> Iterator[Violation]:
    for key in ("tls.crt", "tls.key", "ca.crt", "crt.pem", "key.pem"):
        if key in mapping(secret.manifest.get("data")) and key not in secret._plain and secret.content(key) is None:
            value = mapping(secret.manifest.get("data"))[key]
            hint = "; it is plain PEM, which belongs under stringData" if "-----BEGIN" in text(value) else ""
            yield secret.violation(key, f"is not base64{hint}")


@SECRETS.rule(
    "MT408",
    "warning",
    "A CA's Secret holds an intermediate without its root",
    reason="cert-manager writes the highest certificate that it knows into ca.crt of what it issues: without the root "
    "in tls.crt that is the intermediate, which `linkerd check` then takes for the trust anchor.",
    source="cert-manager pkg/util/pki/csr.go, SignCSRTemplate; pkg/util/pki/parse_certificate_chain.go",
    fix="Write the root after the intermediate into tls.crt",
    applies=lambda secret: secret.role == "ca",
)
def _ca_has_its_root(secret: CredentialSecret) -> Iterator[Violation]:
    certificates = secret.certificates("tls.crt")
    if certificates and not path_to_root(certificates[0], certificates[1:])[-1].self_signed:
        yield secret.violation("tls.crt", f"holds {certificates[0].subject}, and not the root above it")


@SECRETS.rule(
    "MT409",
    "error",
    "A CA's Secret holds more than one chain",
    reason="cert-manager reads tls.crt of a CA's Secret as one chain, from the CA up to its root, and issues nothing "
    "if it is not one: two roots in it stop every renewal.",
    source="cert-manager pkg/util/pki/parse_certificate_chain.go (certificate chain is malformed or broken)",
    fix="Keep only the signing CA and its issuers there; trust the other root in the bundle alone",
    applies=lambda secret: secret.role == "ca",
)
def _one_chain(secret: CredentialSecret) -> Iterator[Violation]:
    certificates = list({facts.fingerprint: facts for facts in secret.certificates("tls.crt")}.values())
    roots = [facts for facts in certificates if facts.self_signed]
    if len(roots) > 1:
        subjects = listed(facts.subject for facts in roots)
        yield secret.violation(
            "tls.crt", f"holds {len(roots)} roots, {subjects}, with which cert-manager issues nothing"
        )
        return
    above = {
        id(lower) for lower in certificates if any(upper is not lower and upper.issued(lower) for upper in certificates)
    }
    tops = [facts for facts in certificates if id(facts) not in above]
    if len(tops) > 1:
        subjects = listed(facts.subject for facts in tops)
        wrong = f"holds {len(tops)} chains, up to {subjects}, with which cert-manager issues nothing"
        yield secret.violation("tls.crt", wrong)
