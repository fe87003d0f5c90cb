"""Trust anchors: each root, and the bundle that holds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from cryptography import x509

from meshtrust.lint.facts import CertificateFacts, certificate_facts
from meshtrust.lint.reading.pem_text import PemText, read_pem
from meshtrust.lint.requirements import ANCHOR_KEYS, ECDSA_SIGNATURES, RSA_SIGNATURES
from meshtrust.lint.rule import Finding, Location, RuleSet, Violation
from meshtrust.lint.values import listed
from meshtrust.pki.durations import format_duration

# linkerd2 pkg/issuercerts/issuercerts.go, expirationWarningThresholdInDays.
_SOON = timedelta(days=60)
_REQUIRED_USAGES = ("server auth", "client auth")


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """One trusted root.

    Attributes:
        root: The certificate.
        at: The moment at which it is judged; None if its dates are judged elsewhere.
        location: Its place in the file.
    """

    root: CertificateFacts
    at: datetime | None = None
    location: Location | None = None

    @property
    def name(self) -> str:
        """The name."""
        return f"Trust anchor {self.root.subject}"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """The trusted roots as the text that Linkerd reads.

    Attributes:
        name: Its holder, for the beginning of a sentence.
        text: The PEM text.
        at: Moment at which it is judged.
        location: Place at which the text begins.
        hashed: Whether Helm hashes the text as it is: it is the value `identityTrustAnchorsPEM`.
        trimmed: Whether Helm trims the text before Linkerd reads it.
    """

    name: str
    text: str
    at: datetime
    location: Location | None = None
    hashed: bool = False
    trimmed: bool = False

    @cached_property
    def pem(self) -> PemText:
        """The text's blocks."""
        return read_pem(self.text)

    @property
    def roots(self) -> list[CertificateFacts]:
        """The certificates that can be read."""
        return [facts for _, facts in self.pem.certificates]

    @property
    def anchors(self) -> list[Anchor]:
        """The roots one by one."""
        return [
            Anchor(root=facts, at=self.at, location=self.below(block.line)) for block, facts in self.pem.certificates
        ]

    def below(self, lines: int) -> Location | None:
        """Return the location of one of the text's lines."""
        return self.location and self.location.below(lines)

    def about_text(self, text: str, line: int = 0, fix: str | None = None) -> Violation:
        """Return a violation by the text itself; a text with a placeholder is never wrong."""
        return Violation(text=text, fix=fix, location=self.below(line), value=self.text)


ANCHORS = RuleSet[Anchor]("A trust anchor")
BUNDLES = RuleSet[Bundle]("A bundle of trust anchors")


@ANCHORS.rule(
    "MT101",
    "error",
    "The key is neither ECDSA P-256 nor RSA of 2048 or 4096 bits",
    reason="`linkerd check` fails with such an anchor; the identity service and the proxies do not look.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, CheckTrustAnchorAlgoRequirements",
    fix="Make the root with an ECDSA P-256 key",
)
def _anchor_key(anchor: Anchor) -> Iterator[str]:
    algorithm = anchor.root.key.algorithm
    if algorithm in ANCHOR_KEYS:
        return
    if algorithm.startswith("ECDSA"):
        yield f"has an {algorithm.replace('ECDSA', 'ECDSA key')}, and Linkerd takes only P-256"
    elif algorithm.startswith("RSA"):
        yield f"has an {algorithm.replace('RSA', 'RSA key')}, and Linkerd takes only 2048 and 4096"
    else:
        yield f"has a key of type {algorithm}, and Linkerd takes only ECDSA and RSA"


@ANCHORS.rule(
    "MT102",
    "error",
    "The signature is not made with SHA-256",
    reason="Linkerd takes ECDSA-SHA256 and SHA256-RSA alone, the latter alone where the key is RSA. cert-manager "
    "signs with SHA-384 or SHA-512 as soon as the signing key is larger than P-256 or RSA 2048.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, checkECDSACertRequirements and checkRSACertRequirements; "
    "cert-manager pkg/util/pki/csr.go, signatureAlgorithmFromPublicKey",
    fix="Make a new root with an ECDSA P-256 key, which signs with SHA-256",
)
def _anchor_signature(anchor: Anchor) -> Iterator[str]:
    taken = RSA_SIGNATURES if anchor.root.key.algorithm.startswith("RSA") else ECDSA_SIGNATURES
    if anchor.root.signature not in taken:
        yield f"is not signed with SHA-256 but with {anchor.root.signature}, and Linkerd takes only {listed(taken)}"


@ANCHORS.rule(
    "MT103",
    "warning",
    "The certificate is not self-signed",
    reason="Go and the proxies take any certificate as an anchor, so the mesh works; but other verifiers (openssl) "
    "stop only at a self-signed one, and cert-manager never writes such an anchor into `ca.crt`.",
    source="RFC 5280 §6.1; Go crypto/x509 verify.go; cert-manager pkg/util/pki/parse_certificate_chain.go",
    fix="Trust the root that issued it instead, or accept that this CA's key is your anchor",
)
def _anchor_self_signed(anchor: Anchor) -> Iterator[str]:
    if not anchor.root.self_signed:
        issuer = anchor.root.certificate.issuer.rfc4514_string()
        yield f"is not self-signed but issued by {issuer or 'a CA without a name'}, so it is not a root"


@ANCHORS.rule(
    "MT104",
    "error",
    "The certificate is not marked as a CA",
    reason="A certificate without the CA flag may sign none: neither the identity service nor a proxy accepts what it "
    "issued.",
    source="RFC 5280 §4.2.1.9; Go crypto/x509 x509.go, CheckSignatureFrom",
    fix="Make a new root with basic constraints CA:TRUE",
    applies=lambda anchor: not anchor.root.is_v1,
)
def _anchor_ca(anchor: Anchor) -> Iterator[str]:
    if not anchor.root.ca:
        yield "is not marked as a CA, so that nothing it signs chains to a trusted root"


@ANCHORS.rule(
    "MT110",
    "note",
    "The certificate is of X.509 version 1",
    reason="Version 1 has no CA flag to set. Go and the proxies take such a certificate as a root; other verifiers "
    "may not.",
    source="Go crypto/x509 verify.go, isValid, and x509.go, CheckSignatureFrom; rustls-webpki src/trust_anchor.rs",
    fix="Make the next root one of version 3, with basic constraints CA:TRUE",
    applies=lambda anchor: anchor.root.is_v1,
)
def _anchor_version(_: Anchor) -> Iterator[str]:
    yield "is of X.509 version 1"


@ANCHORS.rule(
    "MT105",
    "error",
    "The key usage does not include certificate signing",
    reason="A CA whose key usage leaves out certificate signing may sign none; Go refuses all it issued.",
    source="RFC 5280 §4.2.1.3; Go crypto/x509 x509.go, CheckSignatureFrom",
    fix="Make a new root with the key usages certificate signing and CRL signing",
)
def _anchor_key_usage(anchor: Anchor) -> Iterator[str]:
    if not anchor.root.signs_certificates:
        yield "has a key usage without certificate signing"


@ANCHORS.rule(
    "MT106",
    "error",
    "The path length does not allow the identity issuer",
    reason="Below the root come the identity issuer, itself a CA, and the leaf. A path length of 0 lets only leaves "
    "follow.",
    source="RFC 5280 §4.2.1.9; Go crypto/x509 verify.go, isValid",
    fix="Make a new root without a path length, or with 1, or 2 where an intermediate comes between",
)
def _anchor_path_length(anchor: Anchor) -> Iterator[str]:
    if anchor.root.path_length == 0:
        yield "has a path length of 0, which does not allow the identity issuer below it to sign"


@ANCHORS.rule(
    "MT107",
    "error",
    "Extended key usages leave out server auth or client auth",
    reason="A list of extended key usages in a root binds all below it in Go's verifier, which Linkerd asks for "
    "server auth: the identity service refuses its issuer.",
    source="Go crypto/x509 verify.go, checkChainForKeyUsage; linkerd2 pkg/tls/cred.go, Verify (no KeyUsages given)",
    fix="Make a new root without extended key usages",
)
def _anchor_extended_usages(anchor: Anchor) -> Iterator[str]:
    missing = missing_usages(anchor.root)
    if missing:
        usages = listed(anchor.root.extended_usages)
        yield f"is limited to the extended key usages {usages}, without {listed(missing)}"


@ANCHORS.rule(
    "MT108",
    "warning",
    "The certificate has expired, or is not valid yet",
    reason="`linkerd check` fails while any anchor is outside its validity. Identity issuers under it are refused by "
    "the identity service, though proxies, which do not look at a root's validity, still trust it.",
    source="linkerd2 pkg/healthcheck/healthcheck.go, l5d-identity-trustAnchors-are-time-valid; Go crypto/x509 "
    "verify.go",
    fix="Remove it from the bundle, once no identity issuer and no proxy's certificate chains to it",
)
def _anchor_validity(anchor: Anchor) -> Iterator[str]:
    if anchor.at is not None:
        yield from outside_validity(anchor.root, anchor.at)


@ANCHORS.rule(
    "MT109",
    "warning",
    "The certificate expires soon",
    reason="A new anchor has to reach every proxy before the old one ends, which takes restarts of all workloads. "
    "`linkerd check` warns from 60 days on; here it is that, or the last third of a shorter life.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, CheckExpiringSoon",
    fix="Rotate the trust anchor now: trust the new root everywhere, then sign with it, then remove this one",
)
def _anchor_expiring(anchor: Anchor) -> Iterator[str]:
    if anchor.at is not None:
        yield from expiring_soon(anchor.root, anchor.at)


@BUNDLES.rule(
    "MT120",
    "error",
    "The bundle holds no certificate",
    reason="The identity service ends at its start if it finds no anchor, and no proxy gets an identity.",
    source="linkerd2 pkg/tls/codec.go, DecodePEMCertPool; controller/cmd/identity/main.go; Go encoding/pem",
    fix="Put the trusted roots there as PEM",
)
def _bundle_empty(bundle: Bundle) -> Iterator[Violation]:
    pem = bundle.pem
    if not (pem.certificates or pem.unreadable):
        what, fix = pem.shape or ("", "")
        yield bundle.about_text(f"holds no certificate that Linkerd reads{what and f': it {what}'}", fix=fix or None)


@BUNDLES.rule(
    "MT121",
    "error",
    "A certificate cannot be read",
    reason="One block that is not a certificate makes Linkerd refuse the whole bundle.",
    source="linkerd2 pkg/tls/codec.go, decodeCertificatePEM",
    fix="Replace the block by the root's PEM as it was issued",
)
def _bundle_unreadable(bundle: Bundle) -> Iterator[Violation]:
    for block, reason in bundle.pem.unreadable:
        yield Violation(text=f"holds a block that cannot be read: {reason}", location=bundle.below(block.line))


@BUNDLES.rule(
    "MT122",
    "error",
    "There is a BEGIN line that Go does not take for the beginning of a block",
    reason="Go passes over a block that is indented, has no END line of the same name, or holds what is not base64. "
    "The root in it is not trusted, and no message reports it; after the last block, Linkerd refuses the whole bundle.",
    source="Go encoding/pem, Decode",
    fix="Write BEGIN and END at the start of their lines, with the whole block between them",
)
def _bundle_passed_over(bundle: Bundle) -> Iterator[Violation]:
    for line, why in bundle.pem.lost if bundle.pem.blocks else ():
        yield bundle.about_text(f"has a BEGIN line that {why}", line)


@BUNDLES.rule(
    "MT123",
    "error",
    "The bundle holds a private key",
    reason="A bundle goes to every proxy and into ConfigMaps that everyone may read. Besides, Linkerd stops reading "
    "at the first block that is not a certificate, so that roots after it are not trusted.",
    source="linkerd2 pkg/tls/codec.go, decodeCertificatePEM (returns no rest); charts/linkerd-control-plane "
    "identity.yaml",
    fix="Remove the key. Others may have read it, so rotate to a new trust anchor",
)
def _bundle_private_key(bundle: Bundle) -> Iterator[Violation]:
    for block in bundle.pem.blocks:
        if "PRIVATE KEY" in block.label:
            yield Violation(text="holds a private key", location=bundle.below(block.line))


@BUNDLES.rule(
    "MT124",
    "error",
    "The bundle holds a block that is not a certificate",
    reason="Linkerd stops reading at the first block that is not a certificate: roots after it are not trusted, and no "
    "message reports that.",
    source="linkerd2 pkg/tls/codec.go, decodeCertificatePEM (returns no rest)",
    fix="Remove the block; a certificate that openssl wrote with -trustout has to be written as plain x509",
)
def _bundle_other_block(bundle: Bundle) -> Iterator[Violation]:
    for block in bundle.pem.blocks:
        if block.label != "CERTIFICATE" and "PRIVATE KEY" not in block.label:
            yield Violation(text=f"holds {block}", location=bundle.below(block.line))


@BUNDLES.rule(
    "MT125",
    "error",
    "Text or a blank line follows the last certificate",
    reason="Linkerd reads until the text ends, and refuses the whole bundle if the rest is not a PEM block.",
    source="linkerd2 pkg/tls/codec.go, DecodePEMCertificates; linkerd2 issue 3414",
    fix="End the text with the END line of the last certificate",
)
def _bundle_trailing(bundle: Bundle) -> Iterator[Violation]:
    text = bundle.text.strip() if bundle.trimmed else bundle.text
    pem = read_pem(text)
    if pem.blocks and pem.rest_line is not None:
        follows = text.split("\n", pem.rest_line)[-1]
        what = "text" if follows.strip() else "a blank line"
        yield bundle.about_text(f"has {what} after its last certificate", pem.rest_line)


@BUNDLES.rule(
    "MT126",
    "warning",
    "The value begins or ends with white space",
    reason="Helm hashes the value as it is into `linkerd.io/trust-root-sha256` of the control plane, and trims it for "
    "the ConfigMap, whose hash injected pods get: control plane and data plane bear different hashes for the same "
    "roots.",
    source="linkerd2 charts/partials/templates/_metadata.tpl; charts/linkerd-control-plane/templates/identity.yaml; "
    "pkg/inject/inject.go, injectObjectMeta",
    fix="Write the block scalar with |- instead of |, or strip the value before it is passed",
)
def _bundle_trimmed(bundle: Bundle) -> Iterator[str]:
    if bundle.hashed and bundle.text != bundle.text.strip():
        yield "ends with a newline" if bundle.text.endswith("\n") else "begins or ends with white space"


@BUNDLES.rule(
    "MT127",
    "warning",
    "The bundle holds a root twice",
    reason="It is trusted once. But the bundle's hash differs from that of the same roots written once, so that a "
    "comparison of bundles as text reports clusters as different that trust the same.",
    source="linkerd2 pkg/inject/inject.go, injectObjectMeta; multicluster/cmd/check.go",
    fix="Remove all but the first",
)
def _bundle_duplicates(bundle: Bundle) -> Iterator[Violation]:
    seen: set[str] = set()
    for block, facts in bundle.pem.certificates:
        if facts.fingerprint in seen:
            yield Violation(text=f"holds {facts.subject} more than once", location=bundle.below(block.line))
        seen.add(facts.fingerprint)


@BUNDLES.rule(
    "MT128",
    "error",
    "No root of the bundle is valid",
    reason="The identity service verifies its issuer against a root that is valid now, and ends if there is none.",
    source="Go crypto/x509 verify.go, isValid; linkerd2 pkg/identity/service.go, loadCredentials",
    fix="Make a new trust anchor and issuer, by Linkerd's guide on replacing expired certificates",
)
def _bundle_none_valid(bundle: Bundle) -> Iterator[Violation]:
    roots = bundle.roots
    if roots and not any(root.not_before <= bundle.at <= root.not_after for root in roots):
        count = f"{len(roots)} root{'s' if len(roots) > 1 else ''}"
        yield bundle.about_text(f"holds {count}, none of which is valid on {bundle.at:%Y-%m-%d}")


def missing_usages(facts: CertificateFacts) -> list[str]:
    """Return the extended key usages that a certificate's list leaves out; None if it has no list."""
    usages = facts.extended_usages
    return [] if usages is None else [usage for usage in _REQUIRED_USAGES if usage not in usages]


def outside_validity(facts: CertificateFacts, at: datetime) -> Iterator[str]:
    """Yield a sentence if a certificate has expired or is not valid yet."""
    if at > facts.not_after:
        yield f"expired on {facts.not_after:%Y-%m-%d %H:%M} UTC"
    elif at < facts.not_before:
        yield f"is not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC"


def expiring_soon(facts: CertificateFacts, at: datetime) -> Iterator[str]:
    """Yield a sentence if a certificate ends within 60 days, or is in the last third of a life of under 180 days."""
    left = facts.not_after - at
    if facts.not_before <= at <= facts.not_after and left < min(_SOON, (facts.not_after - facts.not_before) / 3):
        yield f"expires on {facts.not_after:%Y-%m-%d %H:%M} UTC, in {_days(left)}"


def _days(length: timedelta) -> str:
    return f"{length.days} days" if length.days > 1 else format_duration(length - length % timedelta(minutes=1))


def lint_trust_anchor(certificate: x509.Certificate, at: datetime | None = None) -> Iterator[Finding]:
    """Judge a trusted root.

    Args:
        certificate: The root.
        at: The moment at which it is judged; None if its dates are judged elsewhere.
    """
    return ANCHORS.check(Anchor(root=certificate_facts(certificate), at=at))
