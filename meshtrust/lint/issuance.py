"""Who issues what: cert-manager Certificates, the Issuers that sign them, and the CAs that those sign with."""

import re
from collections.abc import Sequence

from meshtrust.lint.linkerd import IDENTITY_ISSUER, WEBHOOKS
from meshtrust.lint.objects import Object, nearest, same_namespace
from meshtrust.lint.values import text
from meshtrust.lint.windows import Role

_ANCHOR_NAME = re.compile(r"trust-(anchor|root)|linkerd.*(anchor|root-ca)")
_GROUP = "cert-manager.io"


class Issuance:
    """The Certificates that matter to Linkerd, what each is for, and what signs it.

    Attributes:
        certificates: The Certificates, each with what it is for.
    """

    def __init__(self, objects: Sequence[Object]) -> None:
        self._issuers = [one for one in objects if one.group == _GROUP and one.kind.endswith("Issuer")]
        self._all = [one for one in objects if one.group == _GROUP and one.kind == "Certificate"]
        named = [(one, role) for one in self._all if (role := _role_by_name(one)) is not None]
        roles = {id(one): role for one, role in named}
        for one, role in named:
            for above in self._above(one) if role == "issuer" else []:
                roles.setdefault(id(above), self._role_above(above))
        self.certificates: list[tuple[Object, Role]] = [(one, roles[id(one)]) for one in self._all if id(one) in roles]

    def issuer(self, certificate: Object) -> Object | None:
        """Return the Issuer or ClusterIssuer that signs a Certificate; nothing where it is not at hand."""
        kind = text(certificate.get("spec.issuerRef.kind")) or "Issuer"
        named = [
            issuer
            for issuer in self._issuers
            if issuer.kind == kind
            and issuer.name == text(certificate.get("spec.issuerRef.name"))
            and (kind == "ClusterIssuer" or same_namespace(issuer, certificate))
        ]
        return next(iter(nearest(named, certificate.file, lambda issuer: issuer.file)), None)

    def issuer_elsewhere(self, certificate: Object) -> tuple[str, ...]:
        """Return the namespaces that have the Issuer of a Certificate, where its own has none."""
        if self.issuer(certificate) is not None or text(certificate.get("spec.issuerRef.kind")) not in ("", "Issuer"):
            return ()
        name = text(certificate.get("spec.issuerRef.name"))
        return tuple(sorted({one.namespace for one in self._issuers if one.kind == "Issuer" and one.name == name}))

    def is_authority(self, secret: Object) -> bool:
        """Whether a Secret is that of a CA which signs one of the Certificates."""
        issuers = (self.issuer(certificate) for certificate, role in self.certificates if role != "webhook")
        return any(issuer is not None and _signs_with(issuer, secret) for issuer in issuers)

    def signs_with(self, certificate: Object, secret: Object) -> bool:
        """Whether a Secret is that of the CA which signs a Certificate."""
        issuer = self.issuer(certificate)
        return issuer is not None and _signs_with(issuer, secret)

    def parent(self, certificate: Object) -> Object | None:
        """Return the Certificate that makes the CA which signs a Certificate; nothing where it is not at hand."""
        issuer = self.issuer(certificate)
        if issuer is None or not _ca_secret(issuer):
            return None
        makers = [
            other
            for other in self._all
            if other is not certificate
            and text(other.get("spec.secretName")) == _ca_secret(issuer)
            and (issuer.kind == "ClusterIssuer" or same_namespace(issuer, other))
        ]
        return next(iter(nearest(makers, certificate.file, lambda other: other.file)), None)

    def _above(self, certificate: Object) -> list[Object]:
        """Return the Certificates of the CAs above a Certificate, from the nearest up."""
        found: list[Object] = []
        parent = self.parent(certificate)
        while parent is not None and not any(parent is one for one in found):
            found.append(parent)
            parent = self.parent(parent)
        return found

    def _role_above(self, certificate: Object) -> Role:
        """Return what a CA above the identity issuer is: an anchor signs itself."""
        issuer = self.issuer(certificate)
        return "anchor" if issuer is None or issuer.get("spec.selfSigned") is not None else "intermediate"


def _role_by_name(certificate: Object) -> Role | None:
    secret = text(certificate.get("spec.secretName"))
    if IDENTITY_ISSUER in (certificate.name, secret):
        return "issuer"
    if secret in WEBHOOKS:
        return "webhook"
    is_ca = certificate.get("spec.isCA") is True
    return "anchor" if is_ca and any(map(_ANCHOR_NAME.search, (certificate.name, secret))) else None


def _ca_secret(issuer: Object) -> str:
    return text(issuer.get("spec.ca.secretName"))


def _signs_with(issuer: Object, secret: Object) -> bool:
    # A ClusterIssuer's Secret is in a namespace that cert-manager is told at its start.
    in_reach = issuer.kind == "ClusterIssuer" or same_namespace(issuer, secret)
    return bool(_ca_secret(issuer)) and secret.name == _ca_secret(issuer) and in_reach
