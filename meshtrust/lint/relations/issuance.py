"""The graph of issuers: cert-manager Certificates, the Issuers that sign them, and the CAs that those sign with."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshtrust.lint.objects import Object, is_related, nearest, same_namespace
from meshtrust.lint.relations.installations import Operators
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.rules.vault import VaultIssuer
from meshtrust.lint.rules.windows import Role
from meshtrust.lint.values import has_placeholder, is_placeholder, listed, mapping, sequence, text
from meshtrust.names import CERT_MANAGER_GROUP, IDENTITY_ISSUER, OLD_CERT_MANAGER_GROUP, SECRET_SERVICES

_ANCHOR_NAME = re.compile(r"trust-(anchor|root)|linkerd.*(anchor|root-ca)")
_NOT_LINKERDS = re.compile(r"webhook|injector|validator|tap|dapr|istio|etcd|vpn|ingress")
_GROUPS = (CERT_MANAGER_GROUP, OLD_CERT_MANAGER_GROUP)
# Default namespace in which cert-manager reads the Secrets of ClusterIssuers.
DEFAULT_OPERATOR_NAMESPACE = "cert-manager"
# Tools that copy a Secret into other namespaces.
_COPIERS = re.compile(r"reflector|replicat|kubed|kyverno|config-syncer")


class Issuance:
    """The Certificates that matter to Linkerd, with their purposes and signers.

    Attributes:
        certificates: The Certificates, each with its purpose.
    """

    def __init__(self, objects: Sequence[Object], operators: Operators, anchor_secrets: frozenset[str]) -> None:
        """Sort the objects.

        Args:
            objects: All objects.
            operators: Namespaces in which cert-manager reads the Secrets of ClusterIssuers.
            anchor_secrets: Names of the Secrets that a Bundle of trust roots reads.
        """
        self._operators = operators
        self._anchor_secrets = anchor_secrets
        self._secrets = [one for one in objects if one.kind in ("Secret", "SealedSecret", "ExternalSecret")]
        self._issuers = [one for one in objects if one.group in _GROUPS and one.kind in ("Issuer", "ClusterIssuer")]
        self._all = [one for one in objects if one.group in _GROUPS and one.kind == "Certificate"]
        self._signed = {id(one): self._signed_by(one) for one in self._all}
        roles: dict[int, Role] = {}
        for one in self._all:
            role = _role_by_secret(one)
            if role is not None:
                roles[id(one)] = role
        for one in self._all:
            for above in self.above(one) if roles.get(id(one)) == "issuer" else []:
                roles.setdefault(id(above), self._role_above(above))
        for one in self._all:
            if id(one) not in roles and self._is_anchor(one):
                roles[id(one)] = "anchor"
        self.certificates: list[tuple[Object, Role]] = [(one, roles[id(one)]) for one in self._all if id(one) in roles]

    @property
    def issuers(self) -> list[Object]:
        """The Issuers that sign the Certificates, and those with a name of Linkerd, each once."""
        found = [self.issuer(certificate) for certificate, _ in self.certificates]
        found += [one for one in self._issuers if "linkerd" in f"{one.name} {one.namespace} {ca_secret(one)}"]
        return list({id(one): one for one in found if one is not None}.values())

    def issuer(self, certificate: Object) -> Object | None:
        """Return the Issuer that signs a Certificate; None if it was not read, or if several fit."""
        reference = certificate.get("spec.issuerRef")
        if (text(mapping(reference).get("group")) or CERT_MANAGER_GROUP) != CERT_MANAGER_GROUP or has_placeholder(
            reference
        ):
            return None
        kind = text(certificate.get("spec.issuerRef.kind")) or "Issuer"
        named = [
            issuer
            for issuer in self._issuers
            if issuer.kind == kind
            and issuer.name == text(certificate.get("spec.issuerRef.name"))
            and (kind == "ClusterIssuer" or same_namespace(issuer, certificate))
        ]
        return _only(named, certificate.file)

    def issuer_elsewhere(self, certificate: Object) -> tuple[str, ...]:
        """Return the namespaces that have the Issuer of a Certificate, if its own has none."""
        reference = mapping(certificate.get("spec.issuerRef"))
        own_kind = (
            text(reference.get("kind")) in ("", "Issuer")
            and (text(reference.get("group")) or CERT_MANAGER_GROUP) == CERT_MANAGER_GROUP
        )
        if not own_kind or self.issuer(certificate) is not None:
            return ()
        named = {
            one.namespace
            for one in self._issuers
            if one.kind == "Issuer"
            and one.name == text(reference.get("name"))
            and is_related(one.file, certificate.file)
        }
        return () if any(same_or_unknown(name, certificate.namespace) for name in named) else tuple(sorted(named))

    def is_authority(self, secret: Object) -> bool:
        """Whether a Secret is that of a CA which signs one of the Certificates."""
        return any(self.signs_with(certificate, secret) for certificate, role in self.certificates if role != "webhook")

    def signs_with(self, certificate: Object, secret: Object) -> bool:
        """Whether a Secret is that of the CA which signs a Certificate."""
        issuer = self.issuer(certificate)
        if issuer is None or not ca_secret(issuer) or secret.name != ca_secret(issuer):
            return False
        # An argument of cert-manager names the namespace of a ClusterIssuer's Secret.
        return issuer.kind == "ClusterIssuer" or same_namespace(issuer, secret)

    def parent(self, certificate: Object) -> Object | None:
        """Return the Certificate that makes the CA which signs a Certificate; None if it was not read."""
        return self._signed.get(id(certificate))

    def above(self, certificate: Object) -> list[Object]:
        """Return the Certificates of the CAs above a Certificate, from the nearest up."""
        found: list[Object] = []
        parent = self.parent(certificate)
        while parent is not None and not any(parent is one for one in found):
            found.append(parent)
            parent = self.parent(parent)
        return found

    def makers(self, secret: str) -> list[Object]:
        """Return the Certificates that are written to a Secret of a name, in any namespace."""
        return [one for one in self._all if text(one.get("spec.secretName")) == secret]

    def secrets(self, name: str) -> list[Object]:
        """Return the Secrets of a name, and the objects that make one, in any namespace."""
        return [one for one in self._secrets if one.name == name]

    def reading_namespace(self, file: str, *, trust: bool = False) -> str:
        """Return the namespace in which an operator reads the Secrets that cluster-wide resources name."""
        known = self._operators.trust if trust else self._operators.cluster_resources or self._operators.cert_manager
        near = nearest(known, file, lambda one: one[0])
        return near[0][1] if near else DEFAULT_OPERATOR_NAMESPACE

    def written_elsewhere(self, name: str, reads: str) -> tuple[str, ...]:
        """Return the namespaces that a Secret is written to; empty if it is read from one of them."""
        found = [*self.makers(name), *self.secrets(name)]
        copied = any(
            _COPIERS.search(str(one.get("spec.secretTemplate.annotations") or one.get("metadata.annotations") or ""))
            for one in found
        )
        namespaces = {one.namespace for one in found}
        if copied or not reads or any(same_or_unknown(one, reads) or is_placeholder(one) for one in namespaces):
            return ()
        return tuple(sorted(namespaces))

    def _signed_by(self, certificate: Object) -> Object | None:
        issuer = self.issuer(certificate)
        if issuer is None or not ca_secret(issuer):
            return None
        makers = [
            other
            for other in self.makers(ca_secret(issuer))
            if issuer.kind == "ClusterIssuer" or same_namespace(issuer, other)
        ]
        return _only(makers, certificate.file)

    def _role_above(self, certificate: Object) -> Role:
        """Return the role of a CA above the identity issuer: an anchor signs itself, or the mesh trusts it."""
        issuer = self.issuer(certificate)
        if issuer is not None and issuer.get("spec.selfSigned") is not None:
            return "anchor"
        return (
            "anchor"
            if self._is_trusted(certificate) or (issuer is None and _is_named_anchor(certificate))
            else ("intermediate")
        )

    def _is_trusted(self, certificate: Object) -> bool:
        return text(certificate.get("spec.secretName")) in self._anchor_secrets

    def _is_anchor(self, certificate: Object) -> bool:
        """Whether a CA that signs no known identity issuer is nevertheless the mesh's anchor.

        The objects that use a CA show its purpose; its name decides only if nothing uses it.
        """
        if self._is_trusted(certificate):
            return True
        used = any(
            parent is certificate for one, parent in ((o, self.parent(o)) for o in self._all) if one is not certificate
        )
        return certificate.get("spec.isCA") is True and not used and _is_named_anchor(certificate)


def same_or_unknown(one: str, other: str) -> bool:
    """Whether two namespaces may be the same; one that is not named may be any."""
    return not one or not other or one == other


def ca_secret(issuer: Object) -> str:
    """Return the name of the Secret that an Issuer signs with; empty if there is none, or if it is not known."""
    name = issuer.get("spec.ca.secretName")
    return "" if is_placeholder(name) else text(name)


def _only(candidates: list[Object], file: str) -> Object | None:
    """Return the candidate that is nearest to a file; None if different ones are equally near."""
    near = nearest(candidates, file, lambda one: one.file)
    alike = all(one.manifest.get("spec") == near[0].manifest.get("spec") for one in near)
    return near[0] if near and alike else None


def _is_named_anchor(certificate: Object) -> bool:
    names = (certificate.name, text(certificate.get("spec.secretName")))
    return any(map(_ANCHOR_NAME.search, names)) and not any(map(_NOT_LINKERDS.search, names))


def _role_by_secret(certificate: Object) -> Role | None:
    secret = text(certificate.get("spec.secretName"))
    if IDENTITY_ISSUER in (certificate.name, secret):
        return "issuer"
    service = SECRET_SERVICES.get(secret)
    if service is None:
        return None
    # Other software may use some of the names.
    names = [text(name) for name in sequence(certificate.get("spec.dnsNames"))]
    called = any(name.startswith(f"{service}.") and name.endswith(".svc") for name in names)
    return "webhook" if "linkerd" in f"{secret}{certificate.namespace}" or called else None


@dataclass(frozen=True, kw_only=True)
class Signing:
    """A Certificate and the Issuer that signs it.

    Attributes:
        certificate: The Certificate.
        role: Its purpose.
        issuer: The Issuer.
        reads: Namespace that the Issuer reads its CA's Secret in.
        written: Namespaces that the Secret is written to instead.
        mesh: Namespace of the mesh, in which cert-manager is not expected.
    """

    certificate: Object
    role: Role
    issuer: Object
    reads: str = ""
    written: tuple[str, ...] = ()
    mesh: str = "linkerd"

    @property
    def name(self) -> str:
        """The name."""
        return self.certificate.title

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.certificate.locate("spec.issuerRef")

    @property
    def issuer_name(self) -> str:
        """The Issuer, within a sentence."""
        return f"{self.issuer.kind} {self.issuer.name}"


SIGNINGS = RuleSet[Signing]("Who signs what")


@SIGNINGS.rule(
    "MT331",
    "error",
    "The identity issuer is issued by a selfSigned Issuer",
    reason="A selfSigned Issuer makes each certificate its own root. Every renewal of the identity issuer is then "
    "under no trust anchor that a proxy trusts, and the identity service skips it.",
    source="cert-manager pkg/controller/certificaterequests/selfsigned; linkerd2 pkg/identity/service.go",
    fix="Make a trust anchor by the selfSigned Issuer, a CA Issuer on the anchor's Secret, and name that in issuerRef",
    applies=lambda signing: signing.role == "issuer",
)
def _self_signed(signing: Signing) -> Iterator[str]:
    if signing.issuer.get("spec.selfSigned") is not None:
        yield f"is issued by {signing.issuer_name}, which is selfSigned, so no trust anchor signs it"


@SIGNINGS.rule(
    "MT333",
    "error",
    "An ACME issuer is to sign a certificate that no public CA signs",
    reason="ACME CAs issue certificates only for public DNS names, never a CA, and none for names of the cluster.",
    source="RFC 8555; cert-manager, ACME",
    fix="Name an Issuer of a CA of your own in issuerRef",
)
def _acme(signing: Signing) -> Iterator[str]:
    if signing.issuer.get("spec.acme") is not None:
        yield f"is to be signed by {signing.issuer_name}, an ACME issuer, which issues no such certificate"


@SIGNINGS.rule(
    "MT334",
    "error",
    "A CA is to be signed by itself through its own Secret",
    reason="The Issuer signs with the Secret that this Certificate is to write, so neither can come first.",
    source="cert-manager pkg/issuer/ca/setup.go; pkg/controller/certificaterequests/ca",
    fix="Let a selfSigned Issuer issue the root, and a CA Issuer with the root's Secret issue this certificate",
)
def _own_secret(signing: Signing) -> Iterator[str]:
    secret = ca_secret(signing.issuer)
    if secret and secret == text(signing.certificate.get("spec.secretName")):
        yield f"is to be signed by {signing.issuer_name}, which signs with Secret {secret}, the one it is written to"


@SIGNINGS.rule(
    "MT335",
    "error",
    "The Issuer does not find its CA's Secret",
    reason="A ClusterIssuer reads its Secret in cert-manager's cluster resource namespace, by default cert-manager's "
    "own, and an Issuer in its own namespace; in another one they do not find it, and nothing is issued.",
    source="cert-manager charts/cert-manager/templates/deployment.yaml, --cluster-resource-namespace; issue 7120",
    fix="Write the CA's Secret to the namespace that it is read in",
)
def _secret_found(signing: Signing) -> Iterator[Violation]:
    if signing.written:
        secret = ca_secret(signing.issuer)
        sure = signing.issuer.kind == "Issuer" or signing.mesh in signing.written
        yield Violation(
            text=f"is signed by {signing.issuer_name}, which does not find Secret {secret}: it is read in namespace "
            f"{signing.reads}, and written to namespace {listed(signing.written)}",
            location=signing.issuer.locate("spec.ca.secretName"),
            severity=None if sure else "warning",
        )


def find_signings(issuance: Issuance) -> Iterator[Signing]:
    """Yield the Certificates that matter with their Issuers, as far as these were read."""
    for certificate, role in issuance.certificates:
        issuer = issuance.issuer(certificate)
        if issuer is None or has_placeholder(issuer.get("spec.ca")):
            continue
        cluster = issuer.kind == "ClusterIssuer"
        reads = issuance.reading_namespace(issuer.file) if cluster else issuer.namespace or certificate.namespace
        written = issuance.written_elsewhere(ca_secret(issuer), reads) if ca_secret(issuer) else ()
        meshes = {one.namespace for one, known in issuance.certificates if known == "issuer" and one.namespace}
        yield Signing(
            certificate=certificate,
            role=role,
            issuer=issuer,
            reads=reads,
            written=written,
            mesh=next(iter(sorted(meshes & set(written))), "linkerd"),
        )


def find_vault_issuers(issuance: Issuance, is_part: Callable[[Object], bool]) -> Iterator[VaultIssuer]:
    """Yield the Issuers at hand that have Vault sign a CA of the mesh, each once.

    Args:
        issuance: The graph of issuers.
        is_part: Tells whether an object is a patch or is patched.
    """
    signing = [issuance.issuer(one) for one, role in issuance.certificates if role != "webhook"]
    for issuer in {id(one): one for one in signing if one is not None}.values():
        vault = issuer.get("spec.vault")
        if isinstance(vault, Mapping):
            yield VaultIssuer(title=issuer.title, vault=vault, part=is_part(issuer), locate=issuer.locate)
