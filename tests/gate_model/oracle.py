"""The oracle: by what each process holds in memory, which handshakes fail, and what a bundle has to keep."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from tests.gate_model.pki import Leaf


class UnsafeError(AssertionError):
    """A handshake that fails though nobody did anything unsafe by hand."""


class Peer(Protocol):
    """A speaker of mTLS: a pod's proxy, or one outside the cluster."""

    @property
    def trusts(self) -> frozenset[str]: ...
    @property
    def leaf(self) -> Leaf | None: ...


def check_handshakes(peers: Iterable[tuple[str, Peer]], now: datetime) -> None:
    """Make sure that every two live proxies accept each other's certificate.

    A proxy accepts what chains to one of its anchors and is valid in time, whatever the end of the root (linkerd2-proxy
    ``linkerd/meshtls``; roots of rustls-webpki have no end).

    Raises:
        UnsafeError: Two do not.
    """
    live = [(name, peer, peer.leaf) for name, peer in peers if peer.leaf is not None]
    for name, _, leaf in live:
        if leaf.ends <= now:
            msg = f"{name} has had no new certificate since its own ended at {leaf.ends:%m-%d %H:%M}"
            raise UnsafeError(msg)
    shown = {leaf.generation: name for name, _, leaf in live}
    for name, peer, _ in live:
        if refused := shown.keys() - peer.trusts:
            root = min(refused)
            trusted = ", ".join(sorted(peer.trusts))
            msg = f"{name}, which trusts {trusted}, refuses {shown[root]}, whose leaf is under {root}"
            raise UnsafeError(msg)
