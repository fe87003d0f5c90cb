"""cert-manager Certificates of the identity issuer, the trust anchor, intermediates and webhooks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from meshtrust.lint.reading.schema import USAGES, is_misspelt
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.rules.credentials import LeafLifetime
from meshtrust.lint.rules.windows import Role, Window
from meshtrust.lint.values import at, has_placeholder, listed, sequence, shown, text
from meshtrust.names import CERT_MANAGER_GROUP, IDENTITY_ISSUER, POLICY_VALIDATOR, SECRET_SERVICES
from meshtrust.pki.durations import format_duration, parse_duration

# cert-manager, pkg/apis/certmanager/v1/const.go, DefaultCertificateDuration.
_DEFAULT_DURATION = timedelta(days=90)
_EXTENDED_USAGES = set(USAGES[USAGES.index("any") :])


@dataclass(frozen=True, kw_only=True)
class CertificateSpec:
    """A cert-manager Certificate.

    Attributes:
        object_name: Its name in Kubernetes.
        namespace: Its namespace; empty if it does not name one.
        role: Its purpose.
        spec: Its `spec`, as it was read.
        trust_domain: Linkerd's trust domain; None if it was not read.
        leaf: Lifetime of the certificates that the identity issuer signs.
        issuer_elsewhere: Namespaces, other than its own, that have the Issuer it names, where its own has none.
        part: Whether it is a patch or is patched, so that a missing field may be set elsewhere.
        locate: Returns the place of a dotted path of the object.
    """

    object_name: str
    namespace: str
    role: Role
    spec: Mapping[str, Any]
    trust_domain: str | None = None
    leaf: LeafLifetime = field(default_factory=LeafLifetime)
    issuer_elsewhere: tuple[str, ...] = ()
    part: bool = False
    locate: Callable[[str], Location | None] = lambda _: None

    @property
    def name(self) -> str:
        """The name."""
        return f"Certificate {'/'.join(filter(None, (self.namespace, self.object_name)))}"

    @property
    def location(self) -> Location | None:
        """The place in the file."""
        return self.locate("spec")

    def get(self, path: str) -> Any:
        """Return the value at a dotted path below `spec`; None if there is none."""
        return at(self.spec, path)

    def violation(self, path: str, text: str, fix: str | None = None) -> Violation:
        """Return a violation by a member of `spec`."""
        location, value = self.locate(f"spec.{path}"), self.get(path)
        return Violation(
            text=text,
            fix=fix,
            member=f"spec.{path}",
            location=location,
            value=value,
            elsewhere=self.part and value is None,
        )

    @property
    def duration(self) -> timedelta | None:
        """The lifetime; None if it cannot be read."""
        if self.get("duration") is not None:
            return _duration(self.get("duration"))
        return None if self.part else _DEFAULT_DURATION

    @property
    def renew_before(self) -> timedelta | None:
        """Time before its end at which it is renewed; None if that cannot be read, or if it is not renewed."""
        duration, percentage = self.duration, self.get("renewBeforePercentage")
        if duration is None or self.get("renewal.policy") == "Disabled" or has_placeholder(self.get("renewal")):
            return None
        if self.get("renewBefore") is not None:
            return _duration(self.get("renewBefore"))
        if isinstance(percentage, int) and 0 < percentage < 100:
            return duration * percentage / 100
        if (
            percentage is not None
            or self.part
            or is_misspelt(self.spec, "renewBefore", "renewBeforePercentage", "renewal")
        ):
            return None
        # cert-manager pkg/util/pki/renewaltime.go, desiredRenewalTime.
        return duration / 3

    @property
    def window(self) -> Window | None:
        """The lifetime and the renewal; None if one of them cannot be read, or if it is not renewed."""
        duration, renew_before = self.duration, self.renew_before
        if duration is None or renew_before is None:
            return None
        by_percentage = self.get("renewBefore") is None and self.get("renewBeforePercentage") is not None
        member = "spec.renewBeforePercentage" if by_percentage else "spec.renewBefore"
        return Window(
            name=self.name,
            role=self.role,
            duration=duration,
            renew_before=renew_before,
            leaf=self.leaf,
            defaulted=self.get("renewBefore") is None and not by_percentage,
            renew_before_name=member,
            duration_location=self.locate("spec.duration"),
            renew_before_location=self.locate(member),
        )

    @property
    def key(self) -> tuple[str, int]:
        """Algorithm and size of the key, with cert-manager's defaults filled in."""
        algorithm = self.get("privateKey.algorithm") or "RSA"
        size = self.get("privateKey.size")
        defaults = {"RSA": 2048, "ECDSA": 256}
        return str(algorithm), int(size) if type(size) in (int, float) and size else defaults.get(str(algorithm), 0)

    @property
    def has_external_issuer(self) -> bool:
        """Whether another controller than cert-manager issues it."""
        return self.get("issuerRef.group") not in (None, "", CERT_MANAGER_GROUP)

    @property
    def has_known_key(self) -> bool:
        """Whether algorithm and size of the key are such as the API knows."""
        algorithm, size = self.get("privateKey.algorithm"), self.get("privateKey.size")
        return algorithm in (None, "RSA", "ECDSA", "Ed25519") and (size is None or type(size) in (int, float))


CERTIFICATES = RuleSet[CertificateSpec]("A cert-manager Certificate")


def _is_issuer(certificate: CertificateSpec) -> bool:
    return certificate.role == "issuer"


def _duration(value: Any) -> timedelta | None:
    try:
        return parse_duration(text(value))
    except ValueError:
        return None


@CERTIFICATES.rule(
    "MT311",
    "error",
    "A duration cannot be read",
    reason="cert-manager reads Go durations: hours, minutes and seconds. They have no unit for days.",
    source="Go time.ParseDuration; cert-manager pkg/apis/certmanager/v1/types_certificate.go",
    fix='Write hours, minutes and seconds, such as "48h" or "1h30m"',
)
def _readable_durations(certificate: CertificateSpec) -> Iterator[Violation]:
    for member in ("duration", "renewBefore"):
        value = certificate.get(member)
        if value is not None and _duration(value) is None:
            yield certificate.violation(member, f"is {shown(value)}, which is not a Go duration")


@CERTIFICATES.rule(
    "MT312",
    "error",
    "Both renewBefore and renewBeforePercentage are set",
    reason="cert-manager's webhook refuses a Certificate with both.",
    source="cert-manager internal/apis/certmanager/validation/certificate.go, ValidateDuration",
    fix="Remove one of them",
)
def _one_renewal(certificate: CertificateSpec) -> Iterator[Violation]:
    percentage = certificate.get("renewBeforePercentage")
    if certificate.get("renewBefore") is not None and percentage is not None:
        yield certificate.violation("renewBeforePercentage", f"is {shown(percentage)}, and renewBefore is set as well")


@CERTIFICATES.rule(
    "MT313",
    "error",
    "A CA's Certificate does not ask for a CA",
    reason="The identity service refuses an issuer without the CA flag, and a CA that signs it needs the flag as well.",
    source="linkerd2 pkg/identity/service.go, loadCredentials; RFC 5280 §4.2.1.9",
    fix="Set isCA: true",
    applies=lambda certificate: certificate.role != "webhook",
)
def _asks_for_a_ca(certificate: CertificateSpec) -> Iterator[Violation]:
    if certificate.get("isCA") in (None, False):
        value = certificate.get("isCA")
        found = certificate.violation("isCA", "is not set" if value is None else f"is {shown(value)}")
        # An issuer of another group may make a CA whatever is asked for.
        yield replace(found, severity="warning" if certificate.has_external_issuer else None)


@CERTIFICATES.rule(
    "MT314",
    "error",
    "The identity issuer's Certificate does not ask for an ECDSA P-256 key",
    reason="cert-manager makes an RSA key where no algorithm is set. Linkerd takes only ECDSA P-256 for its issuer.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, CheckIssuerCertAlgoRequirements; cert-manager "
    "pkg/apis/certmanager/v1/types_certificate.go, CertificatePrivateKey",
    fix="Set privateKey.algorithm: ECDSA and privateKey.size: 256",
    applies=_is_issuer,
)
def _issuer_key(certificate: CertificateSpec) -> Iterator[Violation]:
    if certificate.has_known_key and certificate.key != ("ECDSA", 256):
        yield certificate.violation(
            "privateKey", f"asks for {_key_text(certificate)}, and Linkerd takes only ECDSA of 256"
        )


@CERTIFICATES.rule(
    "MT315",
    "error",
    "A CA's Certificate asks for a key that makes cert-manager sign with more than SHA-256",
    reason="With a key larger than P-256 or RSA 2048 cert-manager signs with SHA-384 or SHA-512, which Linkerd "
    "refuses in an anchor and in an issuer, RSA of 4096 bits included; `spec.signatureAlgorithm` is for the request "
    "alone. Ed25519 Linkerd does not take at all.",
    source="cert-manager pkg/util/pki/csr.go, SignCertificate and signatureAlgorithmFromPublicKey; linkerd2 "
    "pkg/issuercerts/issuercerts.go",
    fix="Set privateKey.algorithm: ECDSA and privateKey.size: 256",
    applies=lambda certificate: certificate.role in ("anchor", "intermediate"),
)
def _ca_key(certificate: CertificateSpec) -> Iterator[Violation]:
    if certificate.has_known_key and certificate.key not in (("ECDSA", 256), ("RSA", 2048)):
        wrong = f"asks for {_key_text(certificate)}, which cert-manager does not sign with by SHA-256"
        yield certificate.violation("privateKey", wrong)


@CERTIFICATES.rule(
    "MT316",
    "error",
    "Usages leave out server auth or client auth",
    reason="As soon as one extended key usage is listed, the certificate is valid only for the listed ones. Without "
    "server auth the identity service refuses the issuer; without client auth no proxy accepts another as a client.",
    source="Go crypto/x509 verify.go, checkChainForKeyUsage; rustls-webpki src/verify_cert.rs, check_eku",
    fix="Add the missing usage, or list no extended usage at all",
)
def _extended_usages(certificate: CertificateSpec) -> Iterator[Violation]:
    usages = [usage for usage in sequence(certificate.get("usages")) if text(usage) in _EXTENDED_USAGES]
    needed = ("server auth",) if certificate.role == "webhook" else ("server auth", "client auth")
    missing = [usage for usage in needed if usage not in usages]
    if usages and missing:
        yield certificate.violation("usages", f"lists {listed(usages)}, without {listed(missing)}")


@CERTIFICATES.rule(
    "MT317",
    "note",
    'A CA\'s usages do not list "cert sign"',
    reason="cert-manager's own issuers add it to every CA; other issuers (Vault, AWS PCA, step-ca) may follow the "
    "list.",
    source="cert-manager pkg/util/pki/csr.go, KeyUsagesForCertificateOrCertificateRequest",
    fix="List the guide's usages: cert sign, crl sign, server auth, client auth",
    applies=_is_issuer,
)
def _certificate_signing(certificate: CertificateSpec) -> Iterator[Violation]:
    usages = sequence(certificate.get("usages"))
    if "cert sign" not in usages:
        yield certificate.violation("usages", f"lists {listed(map(_plain, usages))}, without cert sign")


@CERTIFICATES.rule(
    "MT318",
    "error",
    "The identity issuer is written to a Secret that Linkerd does not read",
    reason="Linkerd's chart mounts the Secret linkerd-identity-issuer and no other.",
    source="linkerd2 charts/linkerd-control-plane/templates/identity.yaml",
    fix=f"Set secretName: {IDENTITY_ISSUER}",
    applies=_is_issuer,
)
def _secret_name(certificate: CertificateSpec) -> Iterator[Violation]:
    name = certificate.get("secretName")
    if name != IDENTITY_ISSUER:
        yield certificate.violation("secretName", "is not set" if name is None else f"is {shown(name)}")


@CERTIFICATES.rule(
    "MT319",
    "warning",
    "The identity issuer's names are not those of the trust domain",
    reason="Linkerd does not check the issuer's names. People do; and names of another trust domain usually mean "
    "that the file was copied from another cluster, and has other errors.",
    source="linkerd2 pkg/tls/cred.go, Verify (the name is empty); linkerd.io, Automatically Rotating Control Plane "
    "TLS Credentials",
    fix="Name it identity.linkerd.<trust domain>",
    applies=_is_issuer,
)
def _names(certificate: CertificateSpec) -> Iterator[Violation]:
    names = [("commonName", certificate.get("commonName"))]
    names += [("dnsNames", name) for name in sequence(certificate.get("dnsNames"))]
    for member, name in names:
        if not isinstance(name, str):
            continue
        control_plane, _, domain = name.removeprefix("identity.").partition(".")
        well_formed = name.startswith("identity.") and control_plane in ("linkerd", certificate.namespace) and domain
        expected = f"identity.linkerd.{certificate.trust_domain or '<trust domain>'}"
        if not well_formed or (certificate.trust_domain is not None and domain != certificate.trust_domain):
            yield certificate.violation(member, f"is {shown(name)}, not {expected}", f"Set it to {expected}")


@CERTIFICATES.rule(
    "MT320",
    "warning",
    "The rotation policy of the key is left to a default that has changed",
    reason="Without it cert-manager kept the key at each renewal up to 1.17, and makes a new one from 1.18 on: the "
    "same file means one or the other after an upgrade.",
    source="cert-manager pkg/apis/certmanager/v1/types_certificate.go, RotationPolicy; "
    "internal/apis/certmanager/v1/defaults.go",
    fix="Set privateKey.rotationPolicy: Always for an issuer or an intermediate, and Never or Always for an anchor",
)
def _rotation_policy(certificate: CertificateSpec) -> Iterator[Violation]:
    if certificate.get("privateKey.rotationPolicy") is None:
        yield certificate.violation("privateKey.rotationPolicy", "is not set")


@CERTIFICATES.rule(
    "MT321",
    "error",
    "cert-manager renews the trust anchor by itself, with a new key",
    reason="The renewal is a new root, which no proxy trusts that runs. The next issuer is signed by it: identity "
    "services refuse that issuer, the old one ends, and no proxy gets a certificate any more.",
    source="cert-manager pkg/util/pki/renewaltime.go; linkerd2 controller/cmd/identity/main.go (anchors are read "
    "once); linkerd2-proxy linkerd/meshtls/src/creds/store.rs, validate",
    fix="Set spec.renewal.policy: Disabled (cert-manager 1.21), or make the anchor outside cert-manager, and rotate "
    "it on purpose: trust the new root everywhere before anything is signed with it",
    applies=lambda certificate: certificate.role == "anchor",
)
def _anchor_renewed_with_a_new_key(certificate: CertificateSpec) -> Iterator[Violation]:
    policy = certificate.get("privateKey.rotationPolicy")
    if policy != "Never":
        yield from _renewed_by_itself(certificate, "with a new key, which no running proxy trusts")


@CERTIFICATES.rule(
    "MT322",
    "warning",
    "cert-manager renews the trust anchor by itself",
    reason="With its old key the renewed root signs what the old one signed, and proxies keep working. But they keep "
    "the old root until they restart, the bundle's hash changes, and no person decided it.",
    source="cert-manager pkg/util/pki/renewaltime.go; linkerd2 pkg/inject/inject.go, injectObjectMeta",
    fix="Set spec.renewal.policy: Disabled (cert-manager 1.21), or make the anchor outside cert-manager",
    applies=lambda certificate: certificate.role == "anchor",
)
def _anchor_renewed(certificate: CertificateSpec) -> Iterator[Violation]:
    if certificate.get("privateKey.rotationPolicy") == "Never":
        yield from _renewed_by_itself(certificate, "with the same key")


def _renewed_by_itself(certificate: CertificateSpec, how: str) -> Iterator[Violation]:
    window = certificate.window
    if window is not None and window.renew_before < window.duration:
        after = window.renews_after
        days = f" ({after.days} days)" if after.days else ""
        how_long = f"{format_duration(after)}{days}"
        terms = f"{format_duration(window.duration)} less {format_duration(window.renew_before)}"
        text = f"is issued again by cert-manager {how_long} after each issue ({terms}), {how}"
        yield Violation(text=text, location=window.location)


@CERTIFICATES.rule(
    "MT323",
    "error",
    "The Issuer is in another namespace than the Certificate",
    reason="An Issuer signs for Certificates of its own namespace; only a ClusterIssuer signs for all.",
    source="cert-manager pkg/apis/certmanager/v1/types_certificate.go, issuerRef",
    fix="Put the Issuer into the Certificate's namespace, or make it a ClusterIssuer and set issuerRef.kind",
)
def _issuer_namespace(certificate: CertificateSpec) -> Iterator[Violation]:
    if certificate.issuer_elsewhere:
        where = listed(certificate.issuer_elsewhere)
        name = shown(certificate.get("issuerRef.name"))
        yield certificate.violation("issuerRef", f"names Issuer {name}, which is in namespace {where}")


@CERTIFICATES.rule(
    "MT324",
    "error",
    "A webhook's certificate does not fit its webhook",
    reason="The API server verifies a webhook by the name of its Service; the policy validator reads PKCS#8 keys "
    "alone. A webhook that fails closed then stops every pod or policy from being made.",
    source="linkerd.io, Automatically Rotating Webhook TLS Credentials; linkerd2 issue 13017; Kubernetes, Dynamic "
    "Admission Control",
    fix="Set dnsNames to the Service's name, and privateKey.encoding: PKCS8 for the policy validator",
    applies=lambda certificate: certificate.role == "webhook",
)
def _webhook(certificate: CertificateSpec) -> Iterator[Violation]:
    service = SECRET_SERVICES.get(text(certificate.get("secretName")))
    if service is None:
        return
    names = sequence(certificate.get("dnsNames"))
    wanted = f"{service}.{certificate.namespace or '<namespace>'}.svc"
    fits = any(text(name).startswith(f"{service}.") and text(name).endswith(".svc") for name in names)
    if not (wanted in names if certificate.namespace else fits):
        yield certificate.violation("dnsNames", f"is {listed(map(_plain, names))}, without {wanted}")
    encoding = certificate.get("privateKey.encoding")
    if service == POLICY_VALIDATOR and encoding != "PKCS8":
        yield certificate.violation(
            "privateKey.encoding", "is not set" if encoding is None else f"is {shown(encoding)}"
        )
    if certificate.get("isCA") is True:
        yield certificate.violation("isCA", "is true, and a webhook's certificate is not a CA's", "Set isCA: false")


def _key_text(certificate: CertificateSpec) -> str:
    algorithm, size = certificate.key
    return f"{_plain(algorithm)} of {size} bits" if size else f"a key of the kind {_plain(algorithm)}"


def _plain(value: Any) -> str:
    return shown(value).strip('"')
