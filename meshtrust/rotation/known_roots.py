"""The roots that exist already, by generation, as the last deployment, the cluster or other stacks know them.

A generation is one root for good. Proxies distinguish roots by name and key, so that a second root of the same name is
a stranger to all that trust the first, and nothing but the name says which of them is meant.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509

from meshtrust.cluster.api import Api, MalformedError
from meshtrust.linkerd.issuer.certificate import read_issuer_certificate
from meshtrust.linkerd.trust_roots import read_trust_roots
from meshtrust.pki.pem import PemError, fingerprint, read_bundle
from meshtrust.pki.private_key import read_private_key
from meshtrust.rotation.steps import Root

_ROOT_NAME = "root.linkerd."
_GENERATION = "generation "

THE_LAST_DEPLOYMENT = "the last deployment"

_WAYS_OUT = (
    "A generation is one root for good, because proxies that trust the one refuse all that another one signs. Leave "
    "out what replaces it; or restore the stack's state; or, where that is lost for good, bring the trusted root "
    "along and rotate to a generation with a name that was never used, as docs/runbook.md has it (A lost key)"
)


class ChangedRootError(Exception):
    """A generation that would get another root; the message names the generation, both roots and the ways out."""


@dataclass(frozen=True, kw_only=True)
class KnownRoot:
    """A generation's root.

    Attributes:
        fingerprint: SHA-256 of its DER, in hex.
        known_from: Where it was seen, as a sentence names it.
    """

    fingerprint: str
    known_from: str


@dataclass(frozen=True, kw_only=True)
class Held:
    """The trust that a cluster holds at this moment.

    Attributes:
        bundle_name: The object with the bundle, as a sentence names it.
        roots: The roots of the bundle; empty if there is none.
        issuer: The identity issuer in its Secret and the certificates between it and a root; empty if there is none.
    """

    bundle_name: str = ""
    roots: tuple[x509.Certificate, ...] = ()
    issuer: tuple[x509.Certificate, ...] = ()


async def read_held(api: Api, namespace: str) -> Held:
    """Return the bundle and the identity issuer of a control plane's namespace, by one request for each.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.

    Raises:
        ClusterError: They cannot be read, or the bundle cannot be understood. An issuer that cannot is none: no
            deployment may be kept from putting it right.
    """
    trusted, issuer = await asyncio.gather(read_trust_roots(api, namespace), _read_issuer(api, namespace))
    return Held(bundle_name=trusted.name, roots=trusted.roots, issuer=issuer)


async def _read_issuer(api: Api, namespace: str) -> tuple[x509.Certificate, ...]:
    try:
        return (await read_issuer_certificate(api, namespace)).chain
    except MalformedError:
        return ()


def generation_of(root: x509.Certificate) -> str:
    """Return the generation that a root of this program's making is named after in its subject; empty for any other."""
    names = [str(entry.value) for entry in root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    units = [str(entry.value) for entry in root.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)]
    if len(names) != 1 or len(units) != 1 or not names[0].startswith(_ROOT_NAME):
        return ""
    return units[0].removeprefix(_GENERATION) if units[0].startswith(_GENERATION) else ""


def name_root(root: x509.Certificate) -> str:
    """Return how a root is called in a message: its generation, or the beginning of its fingerprint."""
    return generation_of(root) or fingerprint(root)[:8]


def find_known(
    made: Iterable[str], *, deployed: Mapping[str, Root], held: Held, elsewhere: Iterable[tuple[str, str, Root]] = ()
) -> dict[str, KnownRoot]:
    """Return the roots that exist of generations which this stack makes itself.

    Args:
        made: The generations that the run declares and whose roots the configuration does not give.
        deployed: The roots of the last deployment, by generation.
        held: The trust that the cluster holds.
        elsewhere: Roots that other stacks trust: the stack, the generation and the root.

    Raises:
        ChangedRootError: Two places know different roots by the name of one generation.
    """
    trusted = {fingerprint(root) for root in held.roots}
    named = {generation_of(root): fingerprint(root) for root in held.roots}
    others = list(elsewhere)
    known = {}
    for generation in made:
        found = []
        if generation in deployed:
            found.append(KnownRoot(fingerprint=deployed[generation].fingerprint, known_from=THE_LAST_DEPLOYMENT))
        if generation in named and not (found and found[0].fingerprint in trusted):
            found.append(KnownRoot(fingerprint=named[generation], known_from=held.bundle_name))
        found += [
            KnownRoot(fingerprint=root.fingerprint, known_from=f"stack {stack}")
            for stack, name, root in others
            if name == generation
        ]
        for other in found[1:]:
            if other.fingerprint != found[0].fingerprint:
                raise ChangedRootError(_disagreement(generation, found[0], other))
        if found:
            known[generation] = found[0]
    return known


def check_root(generation: str, known: KnownRoot, certificate_pem: str | None, key_pem: str | None) -> None:
    """Make sure that what a run declares of a generation is the root that exists, with the key that belongs to it.

    Args:
        generation: The generation.
        known: Its root.
        certificate_pem: The declared root; None if it is not known before the run has made it.
        key_pem: The declared key; None if it is not known either, or if it is not in this stack.

    Raises:
        ChangedRootError: It is another root, or another key.
    """
    if certificate_pem is None:
        raise ChangedRootError(would_change(generation, known))
    try:
        root = read_bundle(certificate_pem)[0]
        key = read_private_key(key_pem) if key_pem else None
    except PemError as error:
        msg = f'the stack\'s state holds a root or a key of generation "{generation}" that cannot be read ({error})'
        raise ChangedRootError(f"{msg}. {_WAYS_OUT}") from None
    if fingerprint(root) != known.fingerprint:
        msg = (
            f'the stack\'s state holds the root {fingerprint(root)[:16]} as generation "{generation}", and '
            f"{known.known_from} has {known.fingerprint[:16]} by that name"
        )
        raise ChangedRootError(f"{msg}. {_WAYS_OUT}")
    if key is not None and key.public_key() != root.public_key():
        msg = f'the stack\'s state holds a key of generation "{generation}" that does not belong to its root'
        raise ChangedRootError(f"{msg}. {_WAYS_OUT}")


def would_change(generation: str, known: KnownRoot) -> str:
    """Return why a run is refused that would make a key or a root of a generation which exists."""
    return (
        f'generation "{generation}" has the root {known.fingerprint[:16]} ({known.known_from} has it), and this run '
        "would make another one in its place: it is to be replaced (--target-replace, --replace, another version of "
        f"the provider), or the stack's state has lost its key, its root or its id. {_WAYS_OUT}"
    )


def foreign_roots(held: Held, kept: Iterable[str]) -> Sequence[x509.Certificate]:
    """Return the roots of the cluster's bundle that a deployment would take away.

    Args:
        held: The trust that the cluster holds.
        kept: Fingerprints of the roots that are to be trusted.
    """
    names = set(kept)
    return [root for root in held.roots if fingerprint(root) not in names]


def _disagreement(generation: str, one: KnownRoot, other: KnownRoot) -> str:
    return (
        f'generation "{generation}" is the root {one.fingerprint[:16]} by {one.known_from}, and '
        f"{other.fingerprint[:16]} by {other.known_from}. {_WAYS_OUT}"
    )
