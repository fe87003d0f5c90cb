"""Certificates of the model: roots by generation, identity issuers and leaves, each at a time of the model's clock."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache

import time_machine
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtrust.pki.pem import fingerprint
from tests.certificates import Pair, make_certificate

START = datetime(2026, 6, 1, tzinfo=UTC)
LEAF_LIFETIME = timedelta(hours=24)
# linkerd2 charts/linkerd-control-plane/values.yaml: identity.issuer.clockSkewAllowance.
_SKEW = timedelta(seconds=20)
# One key for all leaves: no rule is about it, and a model makes thousands.
LEAF_KEY = ec.generate_private_key(ec.SECP256R1())
_DAY = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class Issuer:
    """An identity issuer with its key.

    Attributes:
        generation: Generation of the root that it chains to.
        pair: Its certificate and key.
        intermediate: What stands between it and the root.
        made: When it was made.
    """

    generation: str
    pair: Pair
    intermediate: Pair
    made: datetime

    @property
    def ends(self) -> datetime:
        return self.pair.certificate.not_valid_after_utc


@dataclass(frozen=True, eq=False)
class Leaf:
    """A proxy's certificate.

    Attributes:
        generation: Generation of the root that it chains to.
        chain: The certificate and what the proxy shows with it.
        made: When it was made.
        ends: When it ends.
    """

    generation: str
    chain: tuple[x509.Certificate, ...]
    made: datetime
    ends: datetime

    @property
    def is_due(self) -> datetime:
        """Time of the proxy's next request: at 70 % of its life (linkerd2-proxy ``identity-client/certify.rs``)."""
        return self.made + (self.ends - self.made) * 0.7


@cache
def root(generation: str) -> Pair:
    """Return a generation's root, which outlives every run of the model."""
    with time_machine.travel(START - _DAY, tick=False):
        return make_certificate(f"root.linkerd.cluster.local {generation}", days=3650)


@cache
def _intermediate(generation: str) -> Pair:
    with time_machine.travel(START - _DAY, tick=False):
        return make_certificate(f"intermediate {generation}", issuer=root(generation), days=3600, path_length=1)


def make_issuer(generation: str, at: datetime, ends: datetime | None = None) -> Issuer:
    """Make an identity issuer of 48 hours, or one with a given end."""
    between = _intermediate(generation)
    with time_machine.travel(at, tick=False):
        days = ((ends or at + 2 * _DAY) - at) / _DAY
        pair = make_certificate("identity.linkerd.cluster.local", issuer=between, days=days, path_length=0)
    return Issuer(generation, pair, between, at)


def make_leaf(issuer: Issuer, identity: str, at: datetime) -> Leaf:
    """Make a proxy's certificate: it ends after a day, and never after its issuer (linkerd2 ``pkg/tls/ca.go``)."""
    ends = min(at + LEAF_LIFETIME + _SKEW, issuer.ends)
    with time_machine.travel(at, tick=False):
        pair = make_certificate(
            identity[:64],
            issuer=issuer.pair,
            key=LEAF_KEY,
            ca=False,
            key_cert_sign=False,
            days=(ends - at) / _DAY,
            age=_SKEW / _DAY,
        )
    chain = (pair.certificate, issuer.pair.certificate, issuer.intermediate.certificate)
    return Leaf(issuer.generation, chain, at, pair.certificate.not_valid_after_utc)


def make_bundle(generations: tuple[str, ...]) -> str:
    """Return a bundle as the program writes it: one block after the other, without a newline at the end."""
    return "".join(root(name).pem for name in generations).strip()


def fingerprint_of(generation: str) -> str:
    """Return the SHA-256 of a generation's root."""
    return fingerprint(root(generation).certificate)


@lru_cache(maxsize=1024)
def read_generations(bundle: str) -> frozenset[str]:
    """Return the generations whose roots are in a bundle; the common name of a root has its generation."""
    found = x509.load_pem_x509_certificates(bundle.encode()) if bundle.strip() else []
    return frozenset(str(entry.subject.rdns[0].rfc4514_string()).rpartition(" ")[2] for entry in found)


def as_pem(*certificates: x509.Certificate) -> str:
    """Return certificates as PEM."""
    return "".join(entry.public_bytes(Encoding.PEM).decode() for entry in certificates)
