"""The trust anchor: one key and root per generation, the bundle of all of them, and the one that signs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pulumi
import pulumi_random as random
import pulumi_tls as tls

from meshtrust.pem import Identity, normalise_bundle, read_bundle, sha256_hex


@dataclass(frozen=True, kw_only=True)
class TrustAnchorArgs:
    """What a trust anchor is made from.

    Attributes:
        generations: Names of the generations that the mesh trusts, oldest first.
        signer: The generation that signs here; empty in an anchor stack, which signs with each of them.
        certificates: Roots that were made elsewhere, as PEM by generation.
        keys: Keys of such roots, as PEM by generation, as far as they are brought along.
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
class Signer:
    """The generation that signs.

    Attributes:
        generation: Its name.
        certificate_pem: Its root as PEM.
        private_key_pem: Its key as PEM, a secret; nothing where it is elsewhere, and a third party signs with it.
    """

    generation: str
    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str] | None

    @property
    def key(self) -> pulumi.Output[str]:
        """The key, where this stack signs with it.

        Raises:
            ValueError: It is elsewhere, which settings.py refuses in such a mode.
        """
        if self.private_key_pem is None:
            msg = f"the key of generation {self.generation} is not in this stack"
            raise ValueError(msg)
        return self.private_key_pem


class TrustAnchor(pulumi.ComponentResource):
    """`meshtrust:index:TrustAnchor`: the roots that a mesh trusts.

    Makes, for each generation but those that were brought along: a `random.RandomId`, by which a person tells two roots
    apart; a `tls.PrivateKey` (ECDSA P-256, the only issuer key that linkerd2 ``pkg/issuercerts`` accepts); a
    `tls.SelfSignedCert` with no extended key usage, because Go's verifier lets one in any certificate of a chain bind
    all below it.

    It never renews a root in place: that would take the old one from proxies that still need it. A new root is a new
    generation. The signer is protected: a generation cannot leave while it signs, and needs no unprotecting after.
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

    def __init__(self, name: str, args: TrustAnchorArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:TrustAnchor", name, None, opts)
        self._args = args
        certificates: dict[str, pulumi.Output[str]] = {}
        signers = {}
        for generation in args.generations:
            certificates[generation], key = self._pair(name, generation, args)
            signers[generation] = Signer(
                generation=generation, certificate_pem=certificates[generation], private_key_pem=key
            )
        self.signers = signers
        self.bundle = pulumi.Output.all(*certificates.values()).apply(lambda pems: normalise_bundle(*pems))
        self.bundle_sha256 = self.bundle.apply(sha256_hex)
        self.roots = pulumi.Output.all(**certificates).apply(
            lambda pems: {
                generation: {
                    **Identity.of(read_bundle(pem)[0]).as_outputs(),
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

    def _pair(
        self, name: str, generation: str, args: TrustAnchorArgs
    ) -> tuple[pulumi.Output[str], pulumi.Output[str] | None]:
        """Return a generation's root and its key, as far as it is here."""
        brought, brought_key = args.certificates.get(generation), args.keys.get(generation)
        if brought is not None:
            return pulumi.Output.from_input(brought), pulumi.Output.secret(brought_key) if brought_key else None
        kept = pulumi.ResourceOptions(parent=self, protect=generation in args.protected)
        serial = random.RandomId(f"{name}-{generation}-id", byte_length=4, opts=kept)
        key = tls.PrivateKey(f"{name}-{generation}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=kept)
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
        return root.cert_pem, pulumi.Output.secret(key.private_key_pem)
