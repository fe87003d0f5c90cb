"""The gates of a rotation: what in a cluster makes a step unsafe, judged on evidence that was read before."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from meshtrust.chain import ChainError, verify_chain
from meshtrust.cluster import Api
from meshtrust.evidence import (
    Mesh,
    MeshedPod,
    Workload,
    is_served,
    read_leaves,
    read_mesh,
    read_served_issuers,
)
from meshtrust.pem import fingerprint
from meshtrust.rotation import Step


@dataclass(frozen=True, kw_only=True)
class Blocker:
    """One thing that makes a step unsafe.

    Attributes:
        subject: What it is: ``namespace/pod``, or another object by name.
        reason: Why it blocks.
        workload: What the pod belongs to; nothing for other objects.
        curable: Whether a restart of the workload takes it away.
        deployable: Whether to deploy the stack once more takes it away: a run that was killed has changed more than its
            state says, or someone else has.
        stack: The stack of the cluster that it is in, where that is another one of the fleet.
    """

    subject: str
    reason: str
    workload: Workload | None = None
    curable: bool = True
    deployable: bool = False
    stack: str = ""

    def __str__(self) -> str:
        """Return it as a line."""
        owner = f" ({self.workload})" if self.workload is not None and self.workload.kind != "Pod" else ""
        where = f"{self.stack}: " if self.stack else ""
        return f"{where}{self.subject}{owner}: {self.reason}"


# The other steps only add trust, or begin where there is none to lose.
_JUDGED = ("switch", "retire")


async def find_blockers(api: Api, namespace: str, step: Step, roots: Mapping[str, x509.Certificate]) -> list[Blocker]:
    """Read the cluster and return what makes a step unsafe; a step that only adds trust is always safe.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        step: The step.
        roots: The roots of the generations before the step.

    Raises:
        ClusterError: The cluster cannot be read, so that the step cannot be judged.
    """
    if step.kind not in _JUDGED:
        return []
    return await judge_step(api, await read_mesh(api, namespace), step, roots)


async def judge_step(api: Api, mesh: Mesh, step: Step, roots: Mapping[str, x509.Certificate]) -> list[Blocker]:
    """Return what makes a step unsafe in a mesh that has been read, as `find_blockers` does; it raises the same."""
    if step.kind not in _JUDGED:
        return []
    if step.kind == "switch":
        [signer] = step.generations
        return blocks_switch(mesh, fingerprint(roots[signer]), signer, datetime.now(UTC))
    served, leaves = await asyncio.gather(read_served_issuers(api, mesh), read_leaves(api, mesh, mesh.pods))
    remaining = [roots[name] for name in step.after.anchors]
    return blocks_retire(mesh, remaining, served=served, leaves=leaves, now=datetime.now(UTC))


def blocks_switch(mesh: Mesh, root: str, name: str, now: datetime) -> list[Blocker]:
    """Return what keeps a root from signing: every proxy that does not trust it, control plane included.

    Args:
        mesh: The installation.
        root: Fingerprint of the root that is to sign.
        name: Its generation, for the reasons.
        now: The time.

    A proxy refuses a leaf that chains to none of its anchors, its own new one as well as a peer's (linkerd2-proxy
    ``linkerd/meshtls``); the identity service reads its anchors once (linkerd2 ``controller/cmd/identity/main.go``).
    """
    blockers = []
    known = {fingerprint(certificate): certificate for certificate in mesh.roots}
    if root in known and known[root].not_valid_after_utc <= now:
        end = known[root].not_valid_after_utc
        blockers.append(Blocker(subject=f"generation {name}", reason=f"its root ended on {end:%Y-%m-%d %H:%M} UTC"))
    if root not in known:
        blockers.append(Blocker(subject=mesh.bundle_name, reason=f"does not hold {name}", deployable=True))
    blockers += _untrusting(
        mesh, root, name, "it started with other anchors than those deployed now, and cannot tell which"
    )
    return blockers


def blocks_deploy(mesh: Mesh, roots: Mapping[str, x509.Certificate], signer: str, now: datetime) -> list[Blocker]:
    """Return what a first deployment would cut off of a mesh that is there; nothing where no control plane is.

    Args:
        mesh: What the cluster holds.
        roots: What is to be trusted, by generation, without the roots that are still to be made.
        signer: The generation that is to sign.
        now: The time.

    It is a switch and a retirement at once: see `blocks_switch` and `blocks_retire`. Which of the roots that it would
    take away nothing is under any more, nobody has to say then: whoever takes a mesh over brings all of them along. One
    that leaves bundle and signer what they are takes nothing from anybody, whatever it is that they trust.
    """
    kept = set(map(fingerprint, roots.values()))
    is_same = signer in roots and kept == set(map(fingerprint, mesh.roots))
    if not mesh.is_there or (is_same and _chains(mesh.issuer, [roots[signer]], now)):
        return []
    # What is still to be made has no fingerprint, and nothing trusts it.
    signing = fingerprint(roots[signer]) if signer in roots else ""
    blockers = [*_untrusting(mesh, signing, signer, "it cannot be told what its proxy trusts")]
    for root in mesh.roots:
        if fingerprint(root) not in kept and root.not_valid_after_utc > now:
            reason = f"its root {fingerprint(root)[:8]} ({root.subject.rfc4514_string()}) is not among the anchors"
            blockers.append(Blocker(subject=mesh.bundle_name, reason=reason, curable=False))
    return blockers


def blocks_served(mesh: Mesh, served: Mapping[MeshedPod, datetime | str]) -> list[Blocker]:
    """Return the replicas of the identity service that are not seen to sign with the issuer in the Secret."""
    blockers = []
    for pod in mesh.identity_pods:
        end = served[pod]
        seen = not isinstance(end, str)
        if isinstance(end, str):
            reason = f"which issuer it signs with cannot be seen: {end}"
        elif not is_served(mesh, end):
            reason = f"it still signs with an issuer that ends {end:%Y-%m-%d %H:%M} UTC, not with the Secret's"
        else:
            continue
        blockers.append(Blocker(subject=str(pod), reason=reason, workload=pod.workload, curable=seen))
    if not mesh.identity_pods:
        blockers.append(
            Blocker(subject=f"Deployment {mesh.namespace}/linkerd-identity", reason="no replica of it is running")
        )
    return blockers


def blocks_retire(
    mesh: Mesh,
    remaining: Sequence[x509.Certificate],
    *,
    served: Mapping[MeshedPod, datetime | str],
    leaves: Mapping[MeshedPod, list[x509.Certificate] | str],
    now: datetime,
) -> list[Blocker]:
    """Return what keeps the other anchors from being retired: all that does not chain to those that remain.

    Args:
        mesh: The installation.
        remaining: The roots that stay trusted.
        served: What each identity replica signs with, as `read_served_issuers` tells it.
        leaves: The live certificate of each pod, as `read_leaves` tells it.
        now: The time.
    """
    blockers = list(_blocks_issuer(mesh, remaining, now))
    blockers += blocks_served(mesh, served)
    for pod, leaf in leaves.items():
        seen = not isinstance(leaf, str)
        if isinstance(leaf, str):
            reason = f"its live certificate cannot be seen: {leaf}"
        elif not _chains(leaf, remaining, now):
            reason = "its live certificate is not under the anchors that remain"
        else:
            continue
        blockers.append(Blocker(subject=str(pod), reason=reason, workload=pod.workload, curable=seen))
    return blockers


def _untrusting(mesh: Mesh, root: str, name: str, untold: str) -> Iterable[Blocker]:
    """Yield the pods whose proxies do not trust a root, or of which that cannot be told, with the reason for those."""
    for pod in mesh.pods:
        if pod.anchors is None:
            yield Blocker(subject=str(pod), reason=untold, workload=pod.workload)
        elif root not in pod.anchors:
            yield Blocker(subject=str(pod), reason=f"its proxy does not trust {name}", workload=pod.workload)


def _blocks_issuer(mesh: Mesh, remaining: Sequence[x509.Certificate], now: datetime) -> Iterable[Blocker]:
    subject = f"Secret {mesh.namespace}/linkerd-identity-issuer"
    if not mesh.issuer:
        yield Blocker(subject=subject, reason="there is no issuer in it")
    elif not _chains(mesh.issuer, remaining, now):
        yield Blocker(subject=subject, reason="its issuer is not under the anchors that remain")


def _chains(certificates: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime) -> bool:
    try:
        verify_chain(certificates, roots, now)
    except (ChainError, ValueError):
        return False
    return True
