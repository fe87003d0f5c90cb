"""cert-manager's Vault Issuers that sign for the mesh: where they sign, how they log in, and whom they trust."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.values import at, listed, mapping, shown, text

# Vault's endpoints that leave the CA flag out, and those that set it (Vault, PKI secrets engine API).
_LEAF = re.compile(r"(^|/)(sign|issue|sign-verbatim)(/[^/]+)?/?$")
_INTERMEDIATE = re.compile(r"^/?(?!v1/)[^/]+(/[^/]+)*/(root|issuer/[^/]+)/sign-intermediate/?$")
_SIGN_INTERMEDIATE = "<mount>/root/sign-intermediate"
# cert-manager pkg/apis/certmanager/v1/types_issuer.go, VaultAuth.
_METHODS = ("tokenSecretRef", "appRole", "clientCertificate", "kubernetes", "aws")


@dataclass(frozen=True, kw_only=True)
class VaultIssuer:
    """An Issuer or ClusterIssuer that has Vault sign a CA of the mesh.

    Attributes:
        title: Its kind and name.
        vault: Its `spec.vault`.
        part: Whether it is a patch or is patched, so that what it lacks may stand elsewhere.
        locate: Tells where a dotted path of the object stands.
    """

    title: str
    vault: Mapping[str, Any]
    part: bool = False
    locate: Callable[[str], Location | None] = lambda _: None

    @property
    def name(self) -> str:
        """The name."""
        return self.title

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.locate("spec.vault")

    @property
    def methods(self) -> list[str]:
        """The ways to log in that it names."""
        return [name for name in _METHODS if mapping(self.vault.get("auth")).get(name) is not None]

    def violation(self, member: str, wrong: str, **details: Any) -> Violation:
        """Return what is wrong with a member of `spec.vault`."""
        path = f"spec.vault.{member}"
        return Violation(text=wrong, location=self.locate(path), value=at(self.vault, member), **details)


VAULT_ISSUERS = RuleSet[VaultIssuer]("cert-manager's Vault Issuers")


@VAULT_ISSUERS.rule(
    "MT332",
    "error",
    "Vault's path issues no CA",
    reason="Vault's paths <mount>/sign/<role> and <mount>/issue/<role> leave the CA flag out, whatever is asked for. "
    "cert-manager calls the certificate ready nevertheless, and the identity service refuses it as an issuer.",
    source="Vault, PKI secrets engine API; linkerd2 pkg/identity/service.go, loadCredentials; linkerd2 issues 6428 and "
    "10391",
    fix=f"Set spec.vault.path to {_SIGN_INTERMEDIATE}",
)
def _issues_no_ca(issuer: VaultIssuer) -> Iterator[Violation]:
    path = issuer.vault.get("path")
    if _LEAF.search(text(path)):
        yield issuer.violation("path", f"signs by Vault's path {shown(path)}, which issues no CA")


@VAULT_ISSUERS.rule(
    "MT336",
    "error",
    "Vault's path signs no intermediate",
    reason="cert-manager sends its request to the path as it is given, below /v1/. Only <mount>/root/sign-intermediate "
    "and <mount>/issuer/<issuer>/sign-intermediate sign a request for a CA.",
    source="cert-manager internal/vault/vault.go, sign; Vault, PKI secrets engine API, Sign intermediate",
    fix=f"Set spec.vault.path to {_SIGN_INTERMEDIATE}, without v1/ before it",
)
def _signs_intermediates(issuer: VaultIssuer) -> Iterator[Violation]:
    path = issuer.vault.get("path")
    if not path and not issuer.part:
        yield issuer.violation("path", "has no path in Vault")
    elif path and not _LEAF.search(text(path)) and not _INTERMEDIATE.search(text(path)):
        yield issuer.violation("path", f"signs by Vault's path {shown(path)}, which is not one that signs a CA")


@VAULT_ISSUERS.rule(
    "MT337",
    "error",
    "The Issuer cannot log in to Vault",
    reason="cert-manager logs in by one method, and needs each of its members. Given several, it calls the Issuer not "
    "ready.",
    source="cert-manager pkg/issuer/vault/setup.go",
    fix=f"Give spec.vault.auth one of {listed(_METHODS)}",
)
def _logs_in(issuer: VaultIssuer) -> Iterator[Violation]:
    if len(issuer.methods) > 1:
        yield issuer.violation("auth", f"logs in to Vault by {listed(issuer.methods)}, of which it can have one")
    if not issuer.methods and not issuer.part:
        yield issuer.violation("auth", "does not say how to log in to Vault")
    needed = {
        "tokenSecretRef": ("name",),
        "appRole": ("roleId", "secretRef.name", "secretRef.key"),
        "kubernetes": ("role",),
    }
    for method in issuer.methods if not issuer.part else []:
        for member in needed.get(method, ()):
            if not at(issuer.vault, f"auth.{method}.{member}"):
                yield issuer.violation(
                    f"auth.{method}", f"has no auth.{method}.{member}", fix=f"Set spec.vault.auth.{method}.{member}"
                )
        given = mapping(at(issuer.vault, "auth.kubernetes"))
        if method == "kubernetes" and bool(given.get("secretRef")) == bool(given.get("serviceAccountRef")):
            yield issuer.violation(
                "auth.kubernetes",
                "names both or neither of a service account and a Secret to log in with",
                fix="Give spec.vault.auth.kubernetes.serviceAccountRef, and no secretRef",
            )


@VAULT_ISSUERS.rule(
    "MT338",
    "error",
    "The path to log in at is not Vault's",
    reason="cert-manager takes auth.kubernetes.mountPath from the root of the server, /v1/ included, and appRole.path "
    "below /v1/auth/. With the other form Vault answers 403 or 404.",
    source="cert-manager internal/vault/vault.go, requestTokenWithAppRoleRef and requestTokenWithKubernetesAuth",
    fix="Set auth.kubernetes.mountPath to /v1/auth/<mount>, or auth.appRole.path to <mount>",
)
def _login_path(issuer: VaultIssuer) -> Iterator[Violation]:
    for member in ("kubernetes.mountPath", "clientCertificate.mountPath"):
        mount = text(at(issuer.vault, f"auth.{member}"))
        if mount and not re.match(r"/?v1/(.+/)?auth/", mount):
            yield issuer.violation(f"auth.{member}", f"has {shown(mount)} as its auth.{member}, not below /v1/auth/")
    path = text(at(issuer.vault, "auth.appRole.path"))
    if re.match(r"/?(v1|auth)/", path):
        wrong = f"has {shown(path)} as its auth.appRole.path, which cert-manager takes below /v1/auth/"
        yield issuer.violation("auth.appRole.path", wrong)


@VAULT_ISSUERS.rule(
    "MT339",
    "error",
    "Whom the Issuer takes for Vault is not settled",
    reason="cert-manager trusts the public CAs of its image unless the Issuer names Vault's own authority. Without TLS "
    "anyone on the way can answer for Vault, and reads the token.",
    source="cert-manager internal/vault/vault.go, newConfig; internal/apis/certmanager/validation/issuer.go",
    fix="Set spec.vault.caBundle to the authority of Vault's own certificate (PEM in base64), or caBundleSecretRef",
)
def _trusts(issuer: VaultIssuer) -> Iterator[Violation]:
    server, bundle = text(issuer.vault.get("server")), issuer.vault.get("caBundle")
    reference = issuer.vault.get("caBundleSecretRef")
    if server.startswith("http://"):
        wrong = f"reaches Vault without TLS ({shown(server)})"
        yield issuer.violation("server", wrong, severity="warning", fix="Serve Vault by TLS and name it by https://")
    elif server.startswith("https://"):
        if not bundle and not reference and not issuer.part:
            wrong = "names no authority of Vault's certificate: only one of a public CA is trusted"
            yield issuer.violation("server", wrong, severity="note")
    elif server or not issuer.part:
        wrong = f"has {shown(server)} as Vault's server, which is no URL" if server else "does not say where Vault is"
        yield issuer.violation("server", wrong, fix="Set spec.vault.server to https:// and Vault's address")
    if bundle and reference:
        wrong = "has both caBundle and caBundleSecretRef"
        yield issuer.violation("caBundle", wrong, fix="Keep one of the two")
    if bundle and not _has_certificate(bundle):
        yield issuer.violation("caBundle", "has a caBundle in which there is no certificate")


@VAULT_ISSUERS.rule(
    "MT340",
    "warning",
    "The Issuer logs in with a token that nobody renews",
    reason="cert-manager uses the token in auth.tokenSecretRef as it is. Once that has ended, nothing is renewed, and "
    "the identity issuer ends within two days.",
    source="cert-manager internal/vault/vault.go, setToken; Vault, Tokens",
    fix="Log in by auth.kubernetes or auth.appRole",
)
def _static_token(issuer: VaultIssuer) -> Iterator[Violation]:
    if issuer.methods == ["tokenSecretRef"]:
        yield issuer.violation("auth.tokenSecretRef", "logs in with a token that cert-manager does not renew")


def _has_certificate(bundle: Any) -> bool:
    try:
        return b"-----BEGIN CERTIFICATE-----" in base64.b64decode(text(bundle))
    except (binascii.Error, ValueError):
        return False
