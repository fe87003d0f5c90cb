"""A CA's credentials: its certificate, the chain above it, and its key."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Literal

from meshtrust.lint.facts import CertificateFacts, KeyFacts, path_to_root, read_key
from meshtrust.lint.reading.pem_text import PemText, read_pem
from meshtrust.lint.requirements import CLOCK_SKEW, ECDSA_SIGNATURES, LEAF_LIFETIME
from meshtrust.lint.rule import Location, RuleSet, Violation
from meshtrust.lint.rules.anchors import expiring_soon, missing_usages, outside_validity
from meshtrust.lint.values import listed
from meshtrust.pki.chain import ChainError, verify_chain
from meshtrust.pki.durations import format_duration

KEY_LABELS = ("EC PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY")


@dataclass(frozen=True, kw_only=True)
class LeafLifetime:
    """Lifetime that Linkerd gives to a proxy's certificate.

    Attributes:
        issuance: The lifetime.
        skew: Time that Linkerd adds for clocks that differ.
        hidden: Whether both are secret, and no message may show them.
    """

    issuance: timedelta = LEAF_LIFETIME
    skew: timedelta = CLOCK_SKEW
    hidden: bool = False

    @property
    def whole(self) -> timedelta:
        """The time from the issue of a certificate to its end."""
        return self.issuance + self.skew

    def __str__(self) -> str:
        if self.hidden:
            return "the life of a proxy's certificate, issuanceLifetime and clockSkewAllowance together"
        return (
            f"the {format_duration(self.issuance)} of a proxy's certificate and the {format_duration(self.skew)} of "
            "clock skew that Linkerd adds"
        )


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A CA's credentials, as texts.

    Attributes:
        name: Their holder, for the beginning of a sentence.
        role: Whether it is the identity issuer, or a CA that signs it.
        chain: The certificate, followed by those that are served with it.
        key: Its private key; None if it was not read. Nothing prints it.
        roots: The trusted roots; None if they were not read.
        at: Moment at which all of it is judged.
        leaf: Lifetime of the certificates that the issuer signs.
        location: Place at which the chain begins.
        key_location: Place at which the key begins.
    """

    name: str
    role: Literal["issuer", "ca"]
    chain: str
    key: str | None
    roots: tuple[CertificateFacts, ...] | None
    at: datetime
    leaf: LeafLifetime = LeafLifetime()
    location: Location | None = None
    key_location: Location | None = None

    @cached_property
    def pem(self) -> PemText:
        """The chain's blocks."""
        return read_pem(self.chain)

    @property
    def certificates(self) -> list[CertificateFacts]:
        """The certificates that can be read."""
        return [facts for _, facts in self.pem.certificates]

    @cached_property
    def key_facts(self) -> KeyFacts | None:
        """The public half of the key; None if there is no key, or if Linkerd cannot read it."""
        blocks = read_pem(self.key or "").blocks
        return read_key(blocks[0].label, blocks[0].der) if blocks and blocks[0].label in KEY_LABELS else None

    @cached_property
    def path(self) -> list[CertificateFacts]:
        """The certificate and its issuers, as far as the chain and the roots hold them."""
        first, *others = self.certificates
        return path_to_root(first, [*others, *(self.roots or ())])

    def below(self, facts: CertificateFacts) -> Location | None:
        """Return the location of one of the certificates."""
        lines = [block.line for block, other in self.pem.certificates if other is facts]
        return self.location and self.location.below(lines[0]) if lines else self.location


# Certificates that are made in one go for equally long end in the order in which they were made.
_MADE_TOGETHER = timedelta(hours=1)

CREDENTIALS = RuleSet[Credentials]("The identity issuer's credentials, and those of the CAs above it")


def _is_issuer(credentials: Credentials) -> bool:
    return credentials.role == "issuer"


@CREDENTIALS.rule(
    "MT201",
    "error",
    "The identity issuer's key is not ECDSA P-256",
    reason="The identity service signs with ECDSA-SHA256 alone, and `linkerd check`, `install` and `upgrade` refuse "
    "every other issuer.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, CheckIssuerCertAlgoRequirements; pkg/tls/ca.go, createTemplate",
    fix="Issue it with an ECDSA key of 256 bits",
    applies=_is_issuer,
)
def _issuer_key(credentials: Credentials) -> Iterator[str]:
    for facts in credentials.certificates[:1]:
        if not facts.key.is_p256:
            yield f"has a key of type {facts.key.algorithm}, and Linkerd takes only ECDSA P-256"


@CREDENTIALS.rule(
    "MT202",
    "error",
    "The identity issuer is not signed with ECDSA-SHA256 or SHA256-RSA",
    reason="`linkerd check`, `install` and `upgrade` refuse every other signature. cert-manager signs with SHA-384 or "
    "SHA-512 as soon as the signing CA's key is larger than P-256 or RSA 2048.",
    source="linkerd2 pkg/issuercerts/issuercerts.go, checkECDSACertRequirements; cert-manager pkg/util/pki/csr.go, "
    "SignCertificate",
    fix="Let a CA with an ECDSA P-256 or RSA 2048 key sign it",
    applies=_is_issuer,
)
def _issuer_signature(credentials: Credentials) -> Iterator[str]:
    for facts in credentials.certificates[:1]:
        if facts.signature not in ECDSA_SIGNATURES:
            yield f"is signed with {facts.signature}, and Linkerd takes only ECDSA-SHA256 and SHA256-RSA"


@CREDENTIALS.rule(
    "MT203",
    "error",
    "A certificate of the chain is not marked as a CA",
    reason="The identity service refuses an issuer without the CA flag: it ends at its start, or keeps the old issuer "
    "until that expires. Vault's `sign` endpoints always leave the flag out; `root/sign-intermediate` "
    "sets it.",
    source="linkerd2 pkg/identity/service.go, loadCredentials; RFC 5280 §4.2.1.9; linkerd2 issue 6428",
    fix="Issue it as a CA (isCA: true in a cert-manager Certificate)",
)
def _chain_ca(credentials: Credentials) -> Iterator[Violation]:
    for facts in credentials.certificates:
        if not facts.ca:
            yield Violation(
                text=f"holds {facts.subject}, which is not marked as a CA", location=credentials.below(facts)
            )


@CREDENTIALS.rule(
    "MT204",
    "error",
    "A certificate of the chain has a key usage without certificate signing",
    reason="A CA whose key usage leaves out certificate signing may sign none: Go and the proxies refuse all it "
    "issued.",
    source="RFC 5280 §4.2.1.3; Go crypto/x509 x509.go, CheckSignatureFrom; rustls-webpki src/verify_cert.rs, "
    "check_key_usage_cert_sign",
    fix='Issue it with the key usage "cert sign"',
)
def _chain_key_usage(credentials: Credentials) -> Iterator[Violation]:
    for facts in credentials.certificates:
        if not facts.signs_certificates:
            text = f"holds {facts.subject}, whose key usage does not include certificate signing"
            yield Violation(text=text, location=credentials.below(facts))


@CREDENTIALS.rule(
    "MT205",
    "error",
    "A path length does not allow the CAs below",
    reason="The path length limits the number of CAs between a certificate and the leaf. The identity service "
    "verifies only its issuer and may not notice; every proxy then refuses every leaf.",
    source="RFC 5280 §4.2.1.9; Go crypto/x509 verify.go, isValid; rustls-webpki src/verify_cert.rs, "
    "check_basic_constraints",
    fix="Issue it without a path length, or with a larger one",
)
def _chain_path_length(credentials: Credentials) -> Iterator[Violation]:
    if not credentials.certificates:
        return
    first = 0 if credentials.role == "issuer" else 1
    for needed, facts in enumerate(credentials.path, first):
        if facts.path_length is not None and facts.path_length < needed:
            yield Violation(
                text=f"chains to {facts.subject}, whose path length is {facts.path_length}: {needed} "
                f"CA{'s' if needed > 1 else ''} come between it and a leaf",
                location=credentials.below(facts),
            )


@CREDENTIALS.rule(
    "MT206",
    "error",
    "Extended key usages in the chain leave out server auth or client auth",
    reason="For Go and the proxies, such a list in any certificate limits all certificates below it. Without server "
    "auth the identity service refuses the issuer; without client auth no proxy accepts another as a client. The "
    'proxies do not know "any" as a usage.',
    source="Go crypto/x509 verify.go, checkChainForKeyUsage; rustls-webpki src/verify_cert.rs, check_eku; "
    "linkerd2-proxy linkerd/meshtls/src/creds",
    fix="Issue it without extended key usages, or with both",
)
def _chain_extended_usages(credentials: Credentials) -> Iterator[Violation]:
    for facts in credentials.certificates:
        missing = missing_usages(facts)
        if missing:
            text = (
                f"holds {facts.subject}, limited to the extended key usages {listed(facts.extended_usages)}, "
                f"without {listed(missing)}"
            )
            yield Violation(text=text, location=credentials.below(facts))


@CREDENTIALS.rule(
    "MT207",
    "error",
    "The key is not that of the first certificate",
    reason="The identity service refuses credentials whose key does not match their first certificate.",
    source="linkerd2 pkg/tls/cred.go, ValidateAndCreateCreds",
    fix="Put the certificate and the key there that were issued together",
)
def _key_matches(credentials: Credentials) -> Iterator[Violation]:
    key, certificates = credentials.key_facts, credentials.certificates
    if key and certificates and all(facts.key.public != key.public for facts in certificates):
        text = f"has a key that does not match its first certificate, {certificates[0].subject}"
        yield Violation(text=text, location=credentials.key_location)


@CREDENTIALS.rule(
    "MT208",
    "error",
    "The certificate does not chain to a trusted root",
    reason="The identity service verifies its issuer against the roots that it read at its start. Where that fails it "
    "ends, or keeps the old issuer until that expires; proxies refuse all that the new one would sign.",
    source="linkerd2 pkg/identity/service.go, loadCredentials; linkerd2-proxy linkerd/meshtls/src/creds/store.rs, "
    "validate",
    fix="Sign it with a root of the bundle, or put its root into the bundle and restart the mesh first",
)
def _chain_verifies(credentials: Credentials) -> Iterator[str]:
    if not credentials.certificates or not credentials.roots:
        return
    if any(True for check in _EXPLAINING for _ in check(credentials)):
        return
    # Another rule reports a chain outside its validity, which must not hide other faults.
    starts = max(facts.not_before for facts in credentials.certificates)
    ends = min(facts.not_after for facts in credentials.certificates)
    try:
        verify_chain(
            [facts.certificate for facts in credentials.certificates],
            [facts.certificate for facts in credentials.roots],
            min(max(credentials.at, starts), ends),
        )
    except ChainError:
        yield f"holds a certificate that is not trusted: {_why_untrusted(credentials)}"


def _why_untrusted(credentials: Credentials) -> str:
    """Return the reason why no path leads from the first certificate to a trusted root."""
    top, roots = credentials.path[-1], credentials.roots or ()
    names = listed(f"{root.subject} (sha256 {root.fingerprint[:16]})" for root in roots)
    if top.self_signed and top.fingerprint in {root.fingerprint for root in roots}:
        return f"{top.subject} is trusted, but may not sign it"
    if top.self_signed:
        return f"it is under {top.subject} (sha256 {top.fingerprint[:16]}), and the trusted roots are {names}"
    issuer = top.certificate.issuer.rfc4514_string() or "a CA without a name"
    if any(root.certificate.subject == top.certificate.issuer for root in roots):
        return f"{top.subject} is signed by another key than that of the trusted root {issuer}"
    return f"{top.subject} is signed by {issuer}, which is not among the trusted roots, {names}, nor in the chain"


# These give the reason for which a chain does not verify, so that the rule below need not report it again.
_EXPLAINING = (_chain_ca, _chain_key_usage, _chain_path_length, _chain_extended_usages)


@CREDENTIALS.rule(
    "MT209",
    "error",
    "The first certificate is not the one that the key belongs to",
    reason="Linkerd takes the first certificate as the issuer itself, and the others as its issuers.",
    source="linkerd2 pkg/tls/cred.go, DecodePEMCrt",
    fix="Write the issuer's own certificate first, then the one that signed it, and so on",
)
def _first_is_own(credentials: Credentials) -> Iterator[str]:
    key, certificates = credentials.key_facts, credentials.certificates
    if len(certificates) < 2:
        return
    first, *others = certificates
    if key is None:
        own = next((facts for facts in others if first.issued(facts)), None)
    else:
        own = next((facts for facts in others if facts.key.public == key.public), None)
        own = None if first.key.public == key.public else own
    if own is not None:
        yield f"begins with {first.subject}, and its own certificate is {own.subject}"


@CREDENTIALS.rule(
    "MT210",
    "warning",
    "The certificates above the first are not in order",
    reason="Linkerd serves them in this order. Go and the proxies reorder them; other TLS software may not.",
    source="RFC 8446 §4.4.2; linkerd2 pkg/tls/cred.go, ExtractRaw",
    fix="Write each certificate before the one that signed it",
)
def _others_in_order(credentials: Credentials) -> Iterator[str]:
    certificates = credentials.certificates
    if len(certificates) < 3 or any(True for _ in _first_is_own(credentials)):
        return
    for lower, upper in pairwise(certificates):
        if not upper.issued(lower):
            yield f"has {upper.subject} after {lower.subject}, which it did not sign"
            return


@CREDENTIALS.rule(
    "MT211",
    "error",
    "Linkerd cannot read a key of this type",
    reason="Linkerd reads the first PEM block of the key and takes EC PRIVATE KEY, RSA PRIVATE KEY and PRIVATE KEY "
    "(PKCS#8 with an EC or RSA key). `openssl ecparam -genkey` writes EC PARAMETERS first, which it does not skip; "
    "Ed25519 and encrypted keys it refuses.",
    source="linkerd2 pkg/tls/codec.go, DecodePEMKey",
    fix="Write the key as one PKCS#8 block: openssl pkcs8 -topk8 -nocrypt",
)
def _key_kind(credentials: Credentials) -> Iterator[Violation]:
    if credentials.key is None:
        return
    pem, wrong = read_pem(credentials.key), None
    blocks = pem.blocks
    if pem.shape is not None:
        wrong = f"has a key that {pem.shape[0]}"
    elif blocks[0].label not in KEY_LABELS:
        wrong = f"has a key that begins with {blocks[0]}"
    elif credentials.key_facts is None:
        wrong = f"has a key in {blocks[0]} that cannot be read"
    elif not credentials.key_facts.algorithm.startswith(("ECDSA", "RSA")):
        wrong = f"has a key of type {credentials.key_facts.algorithm}"
    if wrong:
        yield Violation(text=wrong, location=credentials.key_location, value=credentials.key)


@CREDENTIALS.rule(
    "MT212",
    "error",
    "A certificate of the chain has expired, or is not valid yet",
    reason="The identity service verifies its issuer at its start, at every reload and at every request: outside its "
    "validity no proxy gets a certificate.",
    source="linkerd2 pkg/identity/service.go, ensureIssuerStillValid",
    fix="Issue a new one; where cert-manager does that, see the reason why it did not: kubectl describe certificate",
)
def _chain_validity(credentials: Credentials) -> Iterator[Violation]:
    for facts in credentials.certificates:
        for fault in outside_validity(facts, credentials.at):
            yield Violation(text=f"holds {facts.subject}, which {fault}", location=credentials.below(facts))


@CREDENTIALS.rule(
    "MT213",
    "warning",
    "A certificate of the chain expires soon",
    reason="No leaf outlives what signed it: with less life left than a leaf is meant to have, proxies get "
    "certificates that end early, and in the end none. Reported in the last third of its life, at most 60 days before.",
    source="linkerd2 pkg/tls/ca.go, createTemplate; pkg/issuercerts/issuercerts.go, CheckExpiringSoon",
    fix="Issue a new one; where cert-manager does that, see the reason why it did not: kubectl describe certificate",
)
def _chain_expiring(credentials: Credentials) -> Iterator[Violation]:
    for position, facts in enumerate(credentials.certificates):
        faults = list(expiring_soon(facts, credentials.at))
        left = facts.not_after - credentials.at
        is_first = position == 0 and credentials.role == "issuer"
        if not faults and is_first and timedelta() <= left < credentials.leaf.whole:
            faults = [f"has {format_duration(left)} to live, less than {credentials.leaf}"]
        for text in faults:
            yield Violation(text=f"holds {facts.subject}, which {text}", location=credentials.below(facts))


@CREDENTIALS.rule(
    "MT214",
    "warning",
    "A certificate outlives the CA above it",
    reason="When the CA ends, the certificates that it signed are refused as well, whatever their own dates. Linkerd "
    "limits a leaf's life to that of the issuer and its chain, but does not check the root.",
    source="RFC 5280 §6.1.3; linkerd2 pkg/tls/ca.go, findFirstExpiration; cert-manager issue 5864",
    fix="Issue it for a shorter time, or renew the CA first",
)
def _chain_outlives(credentials: Credentials) -> Iterator[Violation]:
    path = credentials.path if credentials.certificates else []
    for lower, upper in pairwise(path):
        if lower.not_after > upper.not_after + _MADE_TOGETHER:
            text = (
                f"chains {lower.subject}, valid until {lower.not_after:%Y-%m-%d %H:%M} UTC, to {upper.subject}, which "
                f"ends on {upper.not_after:%Y-%m-%d %H:%M} UTC"
            )
            yield Violation(text=text, location=credentials.below(lower))


@CREDENTIALS.rule(
    "MT215",
    "note",
    "The identity issuer is the trust anchor itself",
    reason="`linkerd install` does so without further options. The anchor's key is then on the cluster, and the "
    "issuer cannot be renewed without rotating the trust anchor.",
    source="linkerd2 cli/cmd/options.go, initializeIssuerCredentials",
    fix="Keep a root off the cluster, and let it sign an issuer",
    applies=_is_issuer,
)
def _issuer_is_anchor(credentials: Credentials) -> Iterator[str]:
    for facts in credentials.certificates[:1]:
        if facts.self_signed:
            yield f"holds {facts.subject}, which is self-signed"


@CREDENTIALS.rule(
    "MT216",
    "error",
    "The chain holds no certificate, or something that is not a certificate",
    reason="Linkerd reads the chain block by block. An unreadable block, or text after the last block, even a "
    "blank line, makes it refuse the whole chain; a block that is not a certificate ends the chain without a message.",
    source="linkerd2 pkg/tls/codec.go, DecodePEMCertificates; pkg/tls/cred.go, DecodePEMCrt",
    fix="Write certificates there and nothing else, up to the END line of the last",
)
def _chain_text(credentials: Credentials) -> Iterator[Violation]:
    pem = credentials.pem
    if not (pem.certificates or pem.unreadable):
        what, fix = pem.shape or ("", "")
        wrong = f"holds no certificate that Linkerd reads{what and f': it {what}'}"
        yield Violation(text=wrong, fix=fix or None, value=credentials.chain, location=credentials.location)
    for block, reason in pem.unreadable:
        yield Violation(text=f"holds a block that cannot be read: {reason}", location=_line(credentials, block.line))
    for block in pem.blocks:
        if block.label != "CERTIFICATE":
            wrong = f"holds {block} among its certificates"
            yield Violation(text=wrong, location=_line(credentials, block.line))
    for line, why in pem.lost if pem.blocks else ():
        wrong = f"has a BEGIN line that {why}"
        yield Violation(text=wrong, location=_line(credentials, line), value=credentials.chain)
    if pem.blocks and pem.rest_line is not None:
        wrong = "has something after its last certificate"
        yield Violation(text=wrong, location=_line(credentials, pem.rest_line), value=credentials.chain)


def _line(credentials: Credentials, lines: int) -> Location | None:
    return credentials.location and credentials.location.below(lines)
