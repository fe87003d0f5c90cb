"""Random chains of certificates, sound and broken in every way that a mesh meets, for two verifiers to judge."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
SOUND_USAGES = [None, None, None, [SERVER, CLIENT], [SERVER]]
BROKEN_USAGES = [[CLIENT], [ExtendedKeyUsageOID.CODE_SIGNING], [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]]


@dataclass
class Plan:
    """Contents of one certificate."""

    name: str
    issuer: str
    key: ec.EllipticCurvePrivateKey
    signer: ec.EllipticCurvePrivateKey
    ca: bool | None
    path_length: int | None = None
    key_usage: bool = True
    cert_sign: bool = True
    usages: list[x509.ObjectIdentifier] | None = None
    days_before: int = 5
    days_after: int = 5
    corrupted: bool = False
    key_ids: bool = False

    def make(self) -> x509.Certificate:
        """Make the certificate."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(self.name))
            .issuer_name(_name(self.issuer))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=self.days_before))
            .not_valid_after(NOW + timedelta(days=self.days_after))
        )
        if self.ca is not None:
            length = self.path_length if self.ca else None
            builder = builder.add_extension(x509.BasicConstraints(self.ca, length), critical=True)
        if self.key_usage:
            usage = x509.KeyUsage(True, False, False, False, False, self.cert_sign, self.cert_sign, False, False)
            builder = builder.add_extension(usage, critical=True)
        if self.usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.usages), critical=False)
        if self.key_ids:
            builder = builder.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
            ).add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.signer.public_key()), critical=False
            )
        certificate = builder.sign(self.signer, hashes.SHA256())
        if not self.corrupted:
            return certificate
        der = bytearray(certificate.public_bytes(serialization.Encoding.DER))
        der[-1] ^= 1
        return x509.load_der_x509_certificate(bytes(der))


@dataclass
class Chain:
    """A chain from a certificate up to just below its root, as it is presented; and the roots that are trusted."""

    certificates: list[x509.Certificate]
    roots: list[x509.Certificate]
    faults: list[str] = field(default_factory=list)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class _Draft:
    """A chain that is being made: its plans from the root down."""

    def __init__(self, rng: random.Random, number: int, keys: list[ec.EllipticCurvePrivateKey]) -> None:
        self.rng, self.keys = rng, keys
        depth = rng.randint(1, 4)
        own = rng.sample(keys, depth + 1)
        self.spare = next(key for key in keys if key not in own)
        self.plans = [
            Plan(f"{number}-{level}", f"{number}-{max(level - 1, 0)}", own[level], own[max(level - 1, 0)], ca=True)
            for level in range(depth + 1)
        ]
        for level, plan in enumerate(self.plans):
            needed = depth - 1 - level
            if level < depth:
                plan.path_length = rng.choice([None, None, needed, needed + 1])
            plan.key_usage = rng.random() < 0.8
            plan.usages = rng.choice(SOUND_USAGES)
        if rng.random() < 0.5:
            # The lowest is a leaf; else it is an identity issuer, which Linkerd verifies as it is.
            self.leaf.ca, self.leaf.cert_sign = rng.choice([False, None]), False
        self.trusted = [0]
        self.finish: list[Callable[[Chain], None]] = []

    @property
    def leaf(self) -> Plan:
        return self.plans[-1]

    @property
    def any(self) -> Plan:
        return self.rng.choice(self.plans)

    @property
    def any_ca(self) -> Plan:
        return self.rng.choice(self.plans[:-1])

    @property
    def below(self) -> Plan:
        return self.rng.choice(self.plans[1:])


def _expired(draft: _Draft) -> None:
    plan = draft.any
    plan.days_before, plan.days_after = 5, -1


def _not_yet_valid(draft: _Draft) -> None:
    plan = draft.any
    plan.days_before, plan.days_after = -1, 5


def _wrong_issuer_name(draft: _Draft) -> None:
    plan = draft.below
    plan.issuer = plan.issuer + "-other"


def _wrong_signer(draft: _Draft) -> None:
    draft.below.signer = draft.spare


def _corrupted_signature(draft: _Draft) -> None:
    draft.below.corrupted = True


def _no_ca_flag(draft: _Draft) -> None:
    draft.any_ca.ca = False


def _no_constraints(draft: _Draft) -> None:
    plan = draft.any_ca
    # openssl takes a key usage with certificate signing in their stead; Go and rustls-webpki take nothing.
    plan.ca, plan.key_usage = None, False


def _short_path(draft: _Draft) -> None:
    plan = draft.any_ca
    plan.path_length = draft.rng.randint(0, 2)


def _no_certificate_signing(draft: _Draft) -> None:
    plan = draft.any_ca
    plan.key_usage, plan.cert_sign = True, False


def _extended_usage(draft: _Draft) -> None:
    draft.any.usages = draft.rng.choice(BROKEN_USAGES)


def _reordered(draft: _Draft) -> None:
    draft.finish.append(lambda chain: draft.rng.shuffle(chain.certificates))


def _reordered_above_the_first(draft: _Draft) -> None:
    def shuffle(chain: Chain) -> None:
        first, *others = chain.certificates
        draft.rng.shuffle(others)
        chain.certificates[:] = [first, *others]

    draft.finish.append(shuffle)


def _missing(draft: _Draft) -> None:
    def drop(chain: Chain) -> None:
        if len(chain.certificates) > 1:
            chain.certificates.pop(draft.rng.randrange(1, len(chain.certificates)))

    draft.finish.append(drop)


def _root_served_too(draft: _Draft) -> None:
    draft.finish.append(lambda chain: chain.certificates.append(chain.roots[0]))


def _served_twice(draft: _Draft) -> None:
    draft.finish.append(lambda chain: chain.certificates.append(draft.rng.choice(chain.certificates)))


def _stranger_served(draft: _Draft) -> None:
    stranger = Plan(f"{draft.leaf.name}-stranger", draft.plans[0].name, draft.spare, draft.spare, ca=True)
    draft.finish.append(lambda chain: chain.certificates.append(stranger.make()))


def _namesake_trusted_too(draft: _Draft) -> None:
    """Two roots of one name, as in every rotation; key identifiers tell them apart."""
    for plan in draft.plans:
        plan.key_ids = True
    root = draft.plans[0]
    namesake = Plan(root.name, root.issuer, draft.spare, draft.spare, ca=True, key_ids=True)
    draft.finish.append(lambda chain: chain.roots.insert(draft.rng.randint(0, 1), namesake.make()))


def _only_a_namesake_trusted(draft: _Draft) -> None:
    root = draft.plans[0]
    namesake = Plan(root.name, root.issuer, draft.spare, draft.spare, ca=True)
    draft.finish.append(lambda chain: chain.roots.__setitem__(slice(None), [namesake.make()]))


def _intermediate_trusted(draft: _Draft) -> None:
    """Trust a certificate of the chain itself: Linkerd takes any certificate as an anchor."""
    draft.trusted = [draft.rng.randrange(0, len(draft.plans) - 1)]


FAULTS: list[Callable[[_Draft], None]] = [
    _expired,
    _not_yet_valid,
    _wrong_issuer_name,
    _wrong_signer,
    _corrupted_signature,
    _no_ca_flag,
    _no_constraints,
    _short_path,
    _no_certificate_signing,
    _extended_usage,
    _reordered,
    _reordered_above_the_first,
    _missing,
    _root_served_too,
    _served_twice,
    _stranger_served,
    _namesake_trusted_too,
    _only_a_namesake_trusted,
    _intermediate_trusted,
]


def random_chain(rng: random.Random, number: int, keys: list[ec.EllipticCurvePrivateKey]) -> Chain:
    """Make a chain with names of its own, sound or with up to two faults."""
    draft = _Draft(rng, number, keys)
    chosen = rng.sample(FAULTS, rng.choice([0, 1, 1, 1, 2]))
    for fault in chosen:
        fault(draft)
    made = [plan.make() for plan in draft.plans]
    chain = Chain(
        certificates=made[:0:-1],
        roots=[made[level] for level in draft.trusted],
        faults=[fault.__name__.strip("_") for fault in chosen],
    )
    for finish in draft.finish:
        finish(chain)
    return chain
