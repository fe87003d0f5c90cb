"""The trust anchor: one key and root per generation, the bundle of all of them, and the one that signs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pulumi
import pulumi_random as random
import pulumi_tls as tls

from meshtrust.pki.pem import CertificateSummary, normalise_bundle, read_bundle, sha256_hex


@dataclass(frozen=True, kw_only=True)
class TrustAnchorArgs:
    """Inputs of a trust anchor.

    Attributes:
        generations: Names of the generations that the mesh trusts, oldest first.
        signer: The generation that signs here; empty in an anchor stack, which signs with each of them.
        certificates: Roots that were made elsewhere, as PEM by generation.
        keys: Keys of such roots, as PEM by generation, as far as they are configured.
        trust_domain: Linkerd's trust domain, which the subject of a root ends with.
        validity: Lifetime of a root that is made from now on.
        protected: Generations whose key and root Pulumi refuses to delete or replace.
    """

    generations: tuple[str, ...]
    signer: str
    certificates: Mapping[str, str]
    keys: Mapping[str, str] = field(repr=False)
    trust_domain: str
    validity: timedelta
    protected: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class ExistingRoots:
    """The generations whose roots exist already, which are declared first and never made again.

    Attributes:
        generations: Their names.
        ended: Roots among them that have ended, as PEM by generation: they stay in the bundle as text, because the
            provider replaces a certificate that has ended whenever it looks at it (terraform-provider-tls
            ``internal/provider/common_cert.go``, modifyPlanIfCertificateReadyForRenewal), whatever a program ignores.
        before_create: Hook that refuses to make a key, a root or an id of them.
    """

    generations: frozenset[str] = frozenset()
    ended: Mapping[str, str] = field(default_factory=dict)
    before_create: pulumi.ResourceHook | None = None


@dataclass(frozen=True, kw_only=True)
class Signer:
    """The generation that signs.

    Attributes:
        generation: Its name.
        certificate_pem: Its root as PEM.
        private_key_pem: Its key as PEM, a secret; None if a third party holds it and signs.
    """

    generation: str
    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str] | None

    @property
    def key(self) -> pulumi.Output[str]:
        """The key, where this stack signs with it.

        Raises:
            ValueError: It is elsewhere, which program/configuration/anchors.py refuses in such a mode.
        """
        if self.private_key_pem is None:
            msg = f"the key of generation {self.generation} is not in this stack"
            raise ValueError(msg)
        return self.private_key_pem


class TrustAnchor(pulumi.ComponentResource):
    """`meshtrust:index:TrustAnchor`: the roots that a mesh trusts.

    Makes, for each generation without an external root: a `random.RandomId`, which shows a person that two roots
    differ; a `tls.PrivateKey` (ECDSA P-256, the only issuer key that linkerd2 ``pkg/issuercerts`` accepts); a
    `tls.SelfSignedCert` with no extended key usage, because Go's verifier lets one in any certificate of a chain bind
    all below it.

    It never renews a root in place: that would take the old one from proxies that still need it. A new root is a new
    generation. The signer is protected: a generation cannot leave while it signs, and needs no unprotecting after.

    What exists is declared first, so that it can be checked before `complete` makes anything new.
    """

    bundle: pulumi.Output[str]
    """The trusted roots as normalised PEM, oldest first: the value of ``identityTrustAnchorsPEM``."""
    bundle_sha256: pulumi.Output[str]
    """SHA-256 of the bundle in hex, which Linkerd puts on pods as ``linkerd.io/trust-root-sha256``."""
    roots: pulumi.Output[dict[str, dict[str, str | bool]]]
    """By generation: subject, fingerprint (SHA-256, hex), start and end of validity (ISO 8601, UTC), and whether it was
    brought along."""
    signers: Mapping[str, Signer]
    """What can sign, by generation."""

    def __init__(
        self,
        name: str,
        args: TrustAnchorArgs,
        existing: ExistingRoots | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("meshtrust:index:TrustAnchor", name, None, opts)
        self._name, self._args, self._existing = name, args, existing or ExistingRoots()
        self.signers = {
            generation: self._declare(generation)
            for generation in args.generations
            if generation in self._existing.generations
        }
        if existing is None:
            self.complete()

    def complete(self) -> None:
        """Declare the generations that are new, and publish the bundle; called once, after `existing` was checked."""
        args = self._args
        self.signers = {
            generation: self.signers.get(generation) or self._declare(generation) for generation in args.generations
        }
        certificates = {generation: signer.certificate_pem for generation, signer in self.signers.items()}
        self.bundle = pulumi.Output.all(*certificates.values()).apply(lambda pems: normalise_bundle(*pems))
        self.bundle_sha256 = self.bundle.apply(sha256_hex)
        self.roots = pulumi.Output.all(**certificates).apply(
            lambda pems: {
                generation: {
                    **CertificateSummary.of(read_bundle(pem)[0]).as_outputs(),
                    "brought": generation in args.certificates,
                }
                for generation, pem in pems.items()
            }
        )
        self.register_outputs({"bundle": self.bundle, "bundleSha256": self.bundle_sha256, "roots": self.roots})

    @property
    def signer(self) -> Signer:
        """The generation that signs in this stack's cluster."""
        return self.signers[self._args.signer]

    def _declare(self, generation: str) -> Signer:
        """Return a generation's root and its key, as far as it is here."""
        args, existing, name = self._args, self._existing, self._name
        external, external_key = args.certificates.get(generation), args.keys.get(generation)
        if external is not None:
            return Signer(
                generation=generation,
                certificate_pem=pulumi.Output.from_input(external),
                private_key_pem=pulumi.Output.secret(external_key) if external_key else None,
            )
        kept = pulumi.ResourceOptions(parent=self, protect=generation in args.protected)
        if generation in existing.generations and existing.before_create:
            kept.hooks = pulumi.ResourceHookBinding(before_create=[existing.before_create])
        serial = random.RandomId(f"{name}-{generation}-id", byte_length=4, opts=kept)
        key = tls.PrivateKey(f"{name}-{generation}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=kept)
        signing_key: pulumi.Output[str] = pulumi.Output.secret(key.private_key_pem)
        if generation in existing.ended:
            ended = pulumi.Output.from_input(existing.ended[generation])
            return Signer(generation=generation, certificate_pem=ended, private_key_pem=signing_key)
        root = tls.SelfSignedCert(
            f"{name}-{generation}-root",
            private_key_pem=key.private_key_pem,
            subject=tls.SelfSignedCertSubjectArgs(
                common_name=f"root.linkerd.{args.trust_domain}",
                organizational_unit=f"generation {generation}",
                serial_number=serial.hex,
            ),
            is_ca_certificate=True,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=args.validity // timedelta(hours=1),
            # What configuration can change must not re-key a root that proxies trust.
            opts=pulumi.ResourceOptions.merge(
                kept, pulumi.ResourceOptions(ignore_changes=["subject", "validityPeriodHours"])
            ),
        )
        return Signer(generation=generation, certificate_pem=root.cert_pem, private_key_pem=signing_key)
