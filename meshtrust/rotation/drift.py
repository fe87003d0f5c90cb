"""Steps that a run takes although nobody has configured them, because the cluster is ahead of the stack's state."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509

from meshtrust.cluster.api import Api
from meshtrust.linkerd.evidence import read_leaves, read_mesh
from meshtrust.names import IDENTITY_ISSUER
from meshtrust.pki.chain import find_chain
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.known_roots import Held, foreign_roots, generation_of, name_root
from meshtrust.rotation.steps import Step, Trust


def find_drift(
    held: Held,
    known: Mapping[str, x509.Certificate],
    wanted: Mapping[str, x509.Certificate],
    trust: Trust,
    last: Trust,
    *,
    signs: bool,
) -> Iterator[Step]:
    """Yield the steps that deploying a stack once more would take in a cluster, as they are to be judged.

    Args:
        held: The trust that the cluster holds.
        known: The roots that the last deployment or the configuration names, by generation.
        wanted: Those of them that are to be trusted.
        trust: The trust that is to be deployed.
        last: The trust that was deployed last.
        signs: Whether the stack decides what signs the identity issuer.
    """
    after = Trust(anchors=tuple(wanted), signer=trust.signer)
    gone = [
        root
        for root in foreign_roots(held, map(fingerprint, known.values()))
        if generation_of(root) not in trust.anchors
    ]
    if gone:
        yield Step(kind="retire", generations=tuple(map(name_root, gone)), before=last, after=after)
    signer = wanted.get(trust.signer)
    if not signs or signer is None or trust.signer != last.signer:
        return
    others = [root for root in held.roots if fingerprint(root) != fingerprint(signer)]
    if not _is_under(held.issuer, [signer]) and _is_under(held.issuer, others):
        yield Step(kind="switch", generations=(trust.signer,), before=last, after=after)


async def find_left_behind(api: Api, namespace: str, remaining: Sequence[x509.Certificate]) -> list[Blocker]:
    """Return what is seen to be under roots that would go: the issuer in the Secret, and live certificates.

    What cannot be seen is no evidence that a cluster is ahead of a stack's state, and must not stop a repair.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        remaining: The roots that stay trusted.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    mesh = await read_mesh(api, namespace)
    blockers = []
    others = [root for root in mesh.roots if root not in remaining]
    if not _is_under(mesh.issuer, remaining) and _is_under(mesh.issuer, others):
        reason = "its issuer is under a root that would go"
        blockers.append(Blocker(subject=f"Secret {namespace}/{IDENTITY_ISSUER}", reason=reason))
    for pod, leaf in (await read_leaves(api, mesh, mesh.pods)).items():
        if (
            leaf.state == "shown"
            and _is_under(leaf.certificates, others)
            and not _is_under(leaf.certificates, remaining)
        ):
            reason = "its live certificate is under a root that would go"
            blockers.append(Blocker(subject=str(pod), reason=reason, workload=pod.workload))
    return blockers


def _is_under(issuer: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    return bool(find_chain(issuer, roots, datetime.now(UTC)))
