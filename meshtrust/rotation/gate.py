"""The gates of a rotation: what in a cluster makes a step unsafe, judged on evidence that was read before."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509

from meshtrust.cluster.api import LOOK_SECONDS, Api
from meshtrust.linkerd.evidence import (
    SETTLED,
    Leaf,
    Mesh,
    ends_at,
    look_again,
    matches_secret,
    read_injectors,
    read_leaves,
    read_mesh,
    read_served_issuers,
)
from meshtrust.linkerd.external_peers import FleetPeers, Outsiders, read_outsiders
from meshtrust.linkerd.injector import read_injections
from meshtrust.linkerd.owners import find_owners, how_to_restart
from meshtrust.linkerd.pods import MeshedPod, ProxyTrust, Workload
from meshtrust.linkerd.rollout import can_restart
from meshtrust.lint import LEAF_LIFETIME
from meshtrust.names import IDENTITY, IDENTITY_ISSUER, TRUST_ROOTS
from meshtrust.pki.chain import find_chain
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.acknowledgements import Acknowledgements
from meshtrust.rotation.steps import Step


@dataclass(frozen=True, kw_only=True)
class Blocker:
    """One thing that makes a step unsafe.

    Attributes:
        subject: What it is: ``namespace/pod``, or another object by name.
        reason: Why it blocks.
        workload: What the pod belongs to; None for other objects.
        curable: Whether a restart of the workload takes it away.
        deployable: Whether to deploy the stack once more takes it away: a run that was killed has changed more than its
            state records, or another writer has.
        stack: The stack of the cluster that it is in, where that is another one of the fleet.
        is_external: Whether it cannot be seen from the cluster, so that a person may acknowledge it by its subject.
    """

    subject: str
    reason: str
    workload: Workload | None = None
    curable: bool = True
    deployable: bool = False
    stack: str = ""
    is_external: bool = False

    @property
    def is_cured_by_restart(self) -> bool:
        """Whether a restart takes it away, and there is a known way to restart its workload."""
        return self.curable and self.workload is not None and can_restart(self.workload)

    def __str__(self) -> str:
        """Return it as a line."""
        owner = f" ({self.workload})" if self.workload is not None and self.workload.kind != "Pod" else ""
        where = f"{self.stack}: " if self.stack else ""
        return f"{where}{self.subject}{owner}: {self.reason}"


NONE_GIVEN = Acknowledgements()


def workloads_to_restart(blockers: Iterable[Blocker]) -> list[Workload]:
    """Return the workloads whose restart takes blockers away, in the order of their names."""
    cured = {entry.workload for entry in blockers if entry.workload is not None and entry.is_cured_by_restart}
    return sorted(cured, key=str)


# The other steps only add trust, or begin where there is none to lose.
_JUDGED = ("switch", "retire", "replace")
# Room for what the identity service adds to a leaf's life: 20 s by the chart's ``identity.issuer.clockSkewAllowance``
# (linkerd2 ``pkg/tls/ca.go``), which a user may raise.
_SKEW = timedelta(minutes=10)
# What cannot be seen for a moment, as in a pod that starts or ends, is asked again for so long.
_PATIENCE_SECONDS = 60.0


async def find_blockers(
    api: Api,
    namespace: str,
    step: Step,
    roots: Mapping[str, x509.Certificate],
    *,
    acknowledged: Acknowledgements = NONE_GIVEN,
    fleet: FleetPeers | None = None,
) -> list[Blocker]:
    """Read the cluster and return what makes a step unsafe; a step that only adds trust is always safe.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        step: The step.
        roots: The roots of the generations before the step.
        acknowledged: How what cannot be seen from the cluster was seen to; only blockers that say so can be
            acknowledged.
        fleet: The peers that its fleet takes care of; None if it is in none.

    Raises:
        ClusterError: The cluster cannot be read, so that the step cannot be judged.
    """
    if step.kind not in _JUDGED:
        return []
    if step.kind == "replace":
        return await judge_step(api, await read_mesh(api, namespace), step, roots)
    if unknown := _blocks_unknown(step, roots):
        return unknown
    mesh, injections = await _read_in_order(api, namespace, fingerprint(roots[step.after.signer]))
    return await judge_step(api, mesh, step, roots, acknowledged=acknowledged, fleet=fleet, injections=injections)


def _blocks_unknown(step: Step, roots: Mapping[str, x509.Certificate]) -> list[Blocker]:
    """Return the generations of a step whose roots no outputs record, as after a run that left them out."""
    return [
        Blocker(
            subject=f"generation {name}",
            reason="its root is not in the outputs of the last deployment; deploy once without a step",
            deployable=True,
        )
        for name in dict.fromkeys((step.after.signer, *step.after.anchors))
        if name not in roots
    ]


async def judge_step(
    api: Api,
    mesh: Mesh,
    step: Step,
    roots: Mapping[str, x509.Certificate],
    *,
    acknowledged: Acknowledgements = NONE_GIVEN,
    fleet: FleetPeers | None = None,
    injections: Mapping[MeshedPod, ProxyTrust] | None = None,
) -> list[Blocker]:
    """Return what makes a step unsafe in a mesh that has been read, as `find_blockers` does; it raises the same.

    Args:
        api: Client of the cluster.
        mesh: The installation.
        step: The step.
        roots: As of `find_blockers`, and so are the two that follow.
        acknowledged: As above.
        fleet: As above.
        injections: What the injectors would give to a pod, asked before the pods were listed; None has them asked now,
            which shows nothing of a pod that an injector has made since.
    """
    if step.kind not in _JUDGED:
        return []
    if step.kind == "replace":
        before = step.before.anchors if step.before else ()
        ended = [roots[name] for name in before if name in roots]
        if not ended or datetime.now(UTC) > silent_from(ended, mesh.leaf_lifetime):
            return []
        silent = silent_from(ended, mesh.leaf_lifetime)
        return blocks_replace(await _patiently_read_leaves(api, mesh), silent, datetime.now(UTC))
    if unknown := _blocks_unknown(step, roots):
        return unknown
    mesh = await _patiently_see(api, mesh, fingerprint(roots[step.after.signer]))
    outsiders = await read_outsiders(api, mesh, fleet=fleet)
    if injections is None:
        _, injections = await _patiently_read_injections(api, mesh, fingerprint(roots[step.after.signer]))
    signer = step.after.signer
    root = fingerprint(roots[signer])
    manual = {owner for owner, trusted in outsiders.templates.items() if trusted is None or root not in trusted}
    if step.kind == "switch":
        blockers = blocks_switch(mesh, root, signer, datetime.now(UTC))
    else:
        remaining = [roots[name] for name in step.after.anchors]
        mesh, served, leaves = await _patiently_see_issuers(api, mesh, remaining)
        blockers = blocks_retire(mesh, remaining, served=served, leaves=leaves, now=datetime.now(UTC))
        blockers += _pods_known_not_to_trust(mesh, root, signer)
    blockers += blocks_injection(injections, root, signer)
    blockers += await _blocks_outsiders(api, outsiders, step, roots, acknowledged, in_fleet=fleet is not None)
    blockers = [entry for entry in blockers if not (entry.is_external and acknowledged.reason(step, entry.subject))]
    return await _name_owners(api, blockers, manual)


async def find_overtaken(api: Api, namespace: str, root: x509.Certificate, name: str) -> list[Blocker]:
    """Return the pods whose proxies do not trust a root that signs, to be called right after it was made to.

    Whatever is seen before a switch may be overtaken: a pod that was being admitted with the old bundle becomes
    visible later, and a proxy may restart. The certificates of the others stay under the old root until they are
    renewed, for most of a day, and a restart of what is found within that time cures it.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        root: The root that signs.
        name: Its generation, for the reasons.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    mesh = await _patiently_see(api, await read_mesh(api, namespace), fingerprint(root))
    return await _name_owners(api, list(_pods_not_trusting(mesh, fingerprint(root), name)))


async def find_unserved(api: Api, mesh: Mesh) -> list[Blocker]:
    """Return the replicas of the identity service that are not seen to sign with the issuer in the Secret."""
    served, leaves = await asyncio.gather(read_served_issuers(api, mesh), read_leaves(api, mesh, mesh.identity_pods))
    return await _name_owners(api, blocks_served(mesh, served, leaves))


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
        reason = f"its root ended on {end:%Y-%m-%d %H:%M} UTC. Rotate to another generation"
        blockers.append(Blocker(subject=f"generation {name}", reason=reason, curable=False))
    if root not in known:
        blockers.append(Blocker(subject=mesh.bundle_name, reason=f"does not hold {name}", deployable=True))
    blockers += _pods_not_trusting(mesh, root, name)
    blockers += _blocks_identity(mesh, name)
    return blockers


def _blocks_identity(mesh: Mesh, name: str) -> Iterable[Blocker]:
    """Yield the replicas of the identity service whose program may have read another bundle than its proxy.

    It reads a file as it starts, which a new pod has fresh, and a container that is restarted in its pod has as its
    node has last brought it there.
    """
    changed = mesh.bundle_changed
    for pod in mesh.identity_pods:
        began = pod.program_started
        if began is None:
            continue
        if changed is None:
            reason = (
                f"when {mesh.bundle_name} last changed is not in its metadata.managedFields, so that its program may "
                f"not know {name}. Write it again as it is: kubectl -n {mesh.namespace} get configmap {TRUST_ROOTS} "
                "-o yaml | kubectl apply --server-side --force-conflicts -f -"
            )
            yield Blocker(subject=str(pod), reason=reason, workload=pod.workload, curable=False)
            continue
        is_new = pod.created >= changed and not pod.program_restarts
        if not is_new and began < changed + SETTLED:
            reason = f"its program was started before the bundle last changed, so that it may not know {name}"
            yield Blocker(subject=str(pod), reason=reason, workload=pod.workload)


def blocks_injection(injections: Mapping[MeshedPod, ProxyTrust], root: str, name: str) -> list[Blocker]:
    """Return the replicas of the injector that would make a pod whose proxy does not trust a root.

    Args:
        injections: What each would inject, as `read_injections` returns it.
        root: Fingerprint of the root that is to sign, or signs.
        name: Its generation, for the reasons.
    """
    blockers = []
    for pod, trust in injections.items():
        if trust.state == "unseen":
            reason = f"which roots it would give to a new pod cannot be seen: {trust.reason}"
        elif trust.state == "trusts" and root not in trust.roots:
            reason = f"it would give a new pod other roots than {name}: its node has not brought it the bundle yet"
        else:
            continue
        blockers.append(Blocker(subject=str(pod), reason=reason, workload=pod.workload))
    return blockers


def silent_from(roots: Collection[x509.Certificate], leaf_lifetime: timedelta = LEAF_LIFETIME) -> datetime:
    """Return the moment from which no proxy can have a valid certificate under roots that have ended.

    The identity service signs nothing under a root that has ended (Go's verifier looks at the root's end), so that the
    last leaf ends a leaf's life after the root at the latest.
    """
    return max(root.not_valid_after_utc for root in roots) + leaf_lifetime + _SKEW


def blocks_replace(leaves: Mapping[MeshedPod, Leaf], silent: datetime, now: datetime) -> list[Blocker]:
    """Return the pods whose connections would be cut if all roots were replaced, though all of them have ended.

    Proxies do not look at a root's end (rustls-webpki): a leaf serves until it ends itself, or its issuer does.

    Args:
        leaves: The live certificate of each pod.
        silent: When the last of them ends, as `silent_from` returns it.
        now: The time.
    """
    blockers = []
    for pod, leaf in leaves.items():
        until = f"without a restart it is silent from {silent:%Y-%m-%d %H:%M} UTC on"
        if leaf.state == "unseen":
            reason = f"its live certificate cannot be seen, and may still be good: {leaf.reason}; {until}"
        elif leaf.state == "shown" and (end := _end_without_roots(leaf.certificates)) > now:
            reason = f"its live certificate outlives the ended anchors until {end:%Y-%m-%d %H:%M} UTC"
        else:
            continue
        blockers.append(Blocker(subject=str(pod), reason=reason, workload=pod.workload, curable=False))
    return blockers


def _end_without_roots(certificates: Sequence[x509.Certificate]) -> datetime:
    """Return when a live certificate ends; roots shown with it do not count, since proxies ignore a root's end."""
    leaf, *others = certificates
    between = (entry for entry in others if entry.issuer != entry.subject)
    return min(entry.not_valid_after_utc for entry in (leaf, *between))


def blocks_deploy(mesh: Mesh, roots: Mapping[str, x509.Certificate], signer: str, now: datetime) -> list[Blocker]:
    """Return the pods of an existing mesh that a first deployment would cut off; empty without a control plane.

    Args:
        mesh: What the cluster holds.
        roots: What is to be trusted, by generation, without the roots that are still to be made.
        signer: The generation that is to sign.
        now: The time.

    It is a switch and a retirement at once: see `blocks_switch` and `blocks_retire`. An adoption must list every root
    in the bundle. A deployment that changes neither bundle nor signer is always safe.
    """
    kept = set(map(fingerprint, roots.values()))
    is_same = signer in roots and kept == set(map(fingerprint, mesh.roots))
    if not mesh.is_installed or (is_same and find_chain(mesh.issuer, [roots[signer]], now)):
        return []
    # What is still to be made has no fingerprint, and nothing trusts it.
    signing = fingerprint(roots[signer]) if signer in roots else ""
    blockers = list(_pods_not_trusting(mesh, signing, signer))
    for root in mesh.roots:
        if fingerprint(root) not in kept and root.not_valid_after_utc > now:
            reason = f"its root {fingerprint(root)[:8]} ({root.subject.rfc4514_string()}) is not among the anchors"
            blockers.append(Blocker(subject=mesh.bundle_name, reason=reason, curable=False))
    return blockers


def blocks_served(
    mesh: Mesh, served: Mapping[MeshedPod, datetime | str], leaves: Mapping[MeshedPod, Leaf] | None = None
) -> list[Blocker]:
    """Return the replicas of the identity service that are not seen to sign with the issuer in the Secret.

    A replica reports when its issuer ends, unless its version does not; and two issuers may end at the same time. Its
    own proxy's certificate is from itself (linkerd2 ``charts/partials/templates/_proxy.tpl``: the address is
    localhost), and shows who has signed it.

    Args:
        mesh: The installation.
        served: What each replica signs with, as `read_served_issuers` returns it.
        leaves: The live certificates of the replicas' own proxies at least.
    """
    shown = [leaf for leaf in (leaves or {}).values() if leaf.state == "shown"]
    twins = {
        entry for leaf in shown for entry in leaf.certificates[1:] if mesh.issuer and _is_twin(entry, mesh.issuer[0])
    }
    blockers = []
    for pod in mesh.identity_pods:
        end, leaf = served.get(pod, "it was not asked"), (leaves or {}).get(pod)
        if mesh.issuer and leaf is not None and mesh.issuer[0] in leaf.certificates[1:]:
            continue
        seen = leaf is not None and leaf.state == "shown"
        if isinstance(end, str):
            reason = f"which issuer it signs with cannot be seen: {end}"
            if seen:
                reason += "; and its own proxy's certificate is from another issuer than the Secret's"
        elif not matches_secret(mesh, end):
            seen, reason = (
                True,
                f"it still signs with an issuer that ends {end:%Y-%m-%d %H:%M} UTC, not with the Secret's",
            )
        elif twins:
            reason = "which of two issuers with the same end it signs with cannot be seen"
        else:
            continue
        blockers.append(Blocker(subject=str(pod), reason=reason, workload=pod.workload, curable=seen))
    if not mesh.identity_pods:
        blockers.append(
            Blocker(subject=f"Deployment {mesh.namespace}/{IDENTITY}", reason="no replica of it is running")
        )
    return blockers


def _is_twin(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return certificate != issuer and ends_at(certificate, issuer.not_valid_after_utc)


def blocks_retire(
    mesh: Mesh,
    remaining: Sequence[x509.Certificate],
    *,
    served: Mapping[MeshedPod, datetime | str],
    leaves: Mapping[MeshedPod, Leaf],
    now: datetime,
) -> list[Blocker]:
    """Return what keeps the other anchors from being retired: all that does not chain to those that remain.

    Args:
        mesh: The installation.
        remaining: The roots that stay trusted.
        served: What each identity replica signs with, as `read_served_issuers` returns it.
        leaves: The live certificate of each pod, as `read_leaves` returns it.
        now: The time.
    """
    blockers = list(_blocks_issuer(mesh, remaining, now))
    blockers += blocks_served(mesh, served, leaves)
    blockers += _blocks_leaves(leaves, remaining, now)
    return blockers


def _blocks_leaves(
    leaves: Mapping[MeshedPod, Leaf], remaining: Sequence[x509.Certificate], now: datetime
) -> Iterable[Blocker]:
    for pod, leaf in leaves.items():
        if leaf.state == "unseen":
            reason = f"its live certificate cannot be seen: {leaf.reason}"
            if not leaf.is_forbidden:
                reason += f". {_delete_lost(pod)}"
        elif leaf.state == "shown" and not find_chain(leaf.certificates, remaining, now):
            reason = "its live certificate is not under the anchors that remain"
        else:
            continue
        curable = leaf.state == "shown" and not pod.is_ending
        yield Blocker(subject=str(pod), reason=reason, workload=pod.workload, curable=curable)


def _delete_lost(pod: MeshedPod) -> str:
    """Return what a person does about a pod that no longer answers to anyone.

    Its processes may live on where its node is only cut off (Kubernetes, Force Delete StatefulSet Pods).
    """
    return (
        "If its node is gone for good, and only then: "
        f"kubectl -n {pod.namespace} delete pod {pod.name} --force --grace-period=0"
    )


def _pods_not_trusting(mesh: Mesh, root: str, name: str) -> Iterable[Blocker]:
    """Yield the pods whose proxies do not trust a root, or of which that cannot be seen."""
    for pod in mesh.pods:
        if pod.trust.state == "unseen":
            reason = f"what its proxy trusts cannot be seen: {pod.trust.reason}. {_delete_lost(pod)}"
            yield Blocker(subject=str(pod), reason=reason, workload=pod.workload)
    yield from _pods_known_not_to_trust(mesh, root, name)


def _pods_known_not_to_trust(mesh: Mesh, root: str, name: str) -> Iterable[Blocker]:
    """Yield the pods whose proxies are known not to trust a root."""
    for pod in mesh.pods:
        if pod.anchors is not None and root not in pod.anchors:
            reason, curable = f"its proxy does not trust {name}", True
            if pod.is_ending:
                reason = f"{reason}, and it is being deleted: wait until it is gone. {_delete_lost(pod)}"
                curable = False
            yield Blocker(subject=str(pod), reason=reason, workload=pod.workload, curable=curable)


async def _blocks_outsiders(
    api: Api,
    outsiders: Outsiders,
    step: Step,
    roots: Mapping[str, x509.Certificate],
    acknowledged: Acknowledgements,
    *,
    in_fleet: bool,
) -> list[Blocker]:
    """Return what outside of this control plane a switch or a retirement would cut off, acknowledged or not."""
    signer = step.after.signer
    root = fingerprint(roots[signer])
    unseen = outsiders.unseen
    external = {
        f"ExternalWorkload {name}": (f"it runs outside of the cluster, and whether it trusts {signer}", "")
        for name in unseen.external
    }
    external |= {
        str(link): (f"it leads to {link.target}, and whether the proxies there trust {signer}", "")
        for link in unseen.links
    }
    which = (
        "other clusters may connect to it that are not of this fleet" if in_fleet else "other clusters connect to it"
    )
    fleet_only = ". If only clusters of this fleet do, add its name to meshtrust:gate.fleetGateways, once"
    external |= {
        str(gateway): (f"{which}, and whether the proxies there trust {signer}", fleet_only if in_fleet else "")
        for gateway in unseen.gateways
    }
    blockers = [
        Blocker(
            subject=subject,
            reason=(
                f"{what}, or shows certificates under what is to be retired, cannot be seen from here. "
                f"{acknowledged.ask(step, subject, 'See to it, and say so')}{remedy}"
            ),
            curable=False,
            is_external=True,
        )
        for subject, (what, remedy) in external.items()
    ]
    for workload, trusted in sorted(outsiders.templates.items(), key=str):
        if trusted is None or root not in trusted:
            reason = (
                f"its template holds roots without {signer}, as `linkerd inject --manual` writes them, and so does "
                f"each pod that it makes. {_write_again(workload)}"
            )
            blockers.append(Blocker(subject=str(workload), reason=reason, curable=False))
    shared = set(map(fingerprint, roots.values()))
    for other in outsiders.others:
        if not _shares(other, shared):
            continue
        found = list(await _blocks_other(api, other, step, roots))
        if found:
            subject = f"Linkerd in namespace {other.namespace}"
            remedy = acknowledged.ask(
                step, subject, "Bring it to the new root, or if nothing goes between the two say so"
            )
            reason = (
                f"it shares a root with this one, and {len(found)} of its pods would lose mesh connectivity, such as "
                f"{found[0]}. {remedy}"
            )
            blockers.append(Blocker(subject=subject, reason=reason, curable=False, is_external=True))
    return blockers


def _write_again(workload: Workload) -> str:
    """Return how a template gets the roots of now; `linkerd inject` knows the kinds of Kubernetes itself."""
    if workload.version:
        return "Take the proxy out of it, so that the injector adds one to each pod"
    place = f"{workload.kind.lower()}/{workload.name} -n {workload.namespace}"
    return (
        f"Write it again: kubectl get {place} -o yaml | linkerd uninject - | linkerd inject --manual - | "
        "kubectl apply -f -"
    )


def _shares(other: Mesh, roots: Collection[str]) -> bool:
    trusted = {root for pod in other.pods for root in pod.anchors or ()} | set(map(fingerprint, other.roots))
    return bool(trusted & set(roots)) or not trusted


async def _blocks_other(api: Api, other: Mesh, step: Step, roots: Mapping[str, x509.Certificate]) -> list[Blocker]:
    now, signer = datetime.now(UTC), step.after.signer
    if step.kind == "switch":
        return blocks_switch(other, fingerprint(roots[signer]), signer, now)
    remaining = [roots[name] for name in step.after.anchors]
    leaves = await _patiently_read_leaves(api, other, remaining)
    return [*_blocks_issuer(other, remaining, now), *_blocks_leaves(leaves, remaining, now)]


async def _name_owners(api: Api, blockers: Sequence[Blocker], manual: Collection[Workload] = ()) -> list[Blocker]:
    """Return blockers with the owners that restarts are about, and with what a person does where none is possible.

    Args:
        api: Client of the cluster.
        blockers: What makes a step unsafe.
        manual: Workloads that a restart gives no other roots, since their templates hold them.
    """
    owners = await find_owners(api, [entry.workload for entry in blockers if entry.workload is not None])
    named = []
    for entry in blockers:
        workload = owners.get(entry.workload, entry.workload) if entry.workload is not None else None
        reason, curable = entry.reason, entry.curable
        if workload in manual:
            reason, curable = f"{reason}, and a restart does not change that: its template holds its roots", False
        elif workload is not None and curable and not can_restart(workload):
            reason = f"{reason}; {how_to_restart(workload)}"
        named.append(replace(entry, workload=workload, reason=reason, curable=curable))
    return named


async def _patiently_see(api: Api, mesh: Mesh, root: str) -> Mesh:
    """Return a mesh in which the proxies that were not seen have been asked again, until they answer or are gone.

    So have been pods that do not trust a root and are being deleted, as after a restart.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while again := {pod for pod in mesh.pods if pod.trust.state == "unseen" or (pod.is_ending and pod.may_lack(root))}:
        if time.monotonic() > deadline:
            break
        asked = await look_again(api, mesh, again)
        if len(asked.pods) == len(mesh.pods):
            await asyncio.sleep(LOOK_SECONDS)
        mesh = asked
    return mesh


async def _patiently_read_leaves(
    api: Api, mesh: Mesh, remaining: Sequence[x509.Certificate] = ()
) -> dict[MeshedPod, Leaf]:
    """Return the certificates of a mesh's pods; those that were not seen have been asked for again.

    So have been those that are under none of the roots that remain, of pods that are being deleted.
    """

    def passes(pod: MeshedPod, leaf: Leaf) -> bool:
        if leaf.state == "shown" and pod.is_ending and remaining:
            return not find_chain(leaf.certificates, remaining, datetime.now(UTC))
        return leaf.state == "unseen" and not leaf.is_forbidden

    leaves = await read_leaves(api, mesh, mesh.pods)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while again := [pod for pod, leaf in leaves.items() if passes(pod, leaf)]:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(LOOK_SECONDS)
        leaves |= await read_leaves(api, mesh, again)
    return leaves


async def _patiently_see_issuers(
    api: Api, mesh: Mesh, remaining: Sequence[x509.Certificate]
) -> tuple[Mesh, dict[MeshedPod, datetime | str], dict[MeshedPod, Leaf]]:
    """Return a mesh, what its identity replicas sign with, and its pods' certificates.

    A replica that gives no answer may have been replaced: then the mesh has other replicas.
    """
    leaves = await _patiently_read_leaves(api, mesh, remaining)
    served = await read_served_issuers(api, mesh)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(not entry.curable for entry in blocks_served(mesh, served, leaves)) and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        now = await read_mesh(api, mesh.namespace)
        if now.identity_pods == mesh.identity_pods and any(leaf.is_forbidden for leaf in leaves.values()):
            break
        others = [pod for pod in mesh.pods if pod not in mesh.identity_pods]
        mesh = replace(mesh, pods=(*others, *now.identity_pods))
        replicas = await read_leaves(api, mesh, now.identity_pods)
        leaves = {pod: leaf for pod, leaf in leaves.items() if pod in others} | replicas
        served = await read_served_issuers(api, mesh)
    return mesh, served, leaves


async def _read_in_order(api: Api, namespace: str, root: str) -> tuple[Mesh, dict[MeshedPod, ProxyTrust]]:
    """Return what the injectors would inject, and the mesh as it is after they were asked.

    A pod that is made after its injector was seen to have the bundle has it too, and one that was made before is among
    the pods. Where an injector came in between, both are done again.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        asked, injections = await _patiently_read_injections(api, await read_injectors(api, namespace), root)
        mesh = await read_mesh(api, namespace)
        known = {(pod.name, pod.created) for pod in asked.injector_pods}
        new = [pod for pod in mesh.injector_pods if (pod.name, pod.created) not in known]
        if not new:
            return mesh, injections
        if time.monotonic() > deadline:
            reason = "it came while the pods were listed. Look again"
            return mesh, injections | {pod: ProxyTrust(state="unseen", reason=reason) for pod in new}
        await asyncio.sleep(LOOK_SECONDS)


async def _patiently_read_injections(api: Api, mesh: Mesh, root: str) -> tuple[Mesh, dict[MeshedPod, ProxyTrust]]:
    """Return what the injectors of a mesh would inject, once that is seen and their nodes have brought them the bundle.

    The mesh is that with the injectors that were asked last.
    """

    def lags(trust: ProxyTrust) -> bool:
        return trust.state == "unseen" or (trust.state == "trusts" and root not in trust.roots)

    deadline = time.monotonic() + _PATIENCE_SECONDS
    holds = root in set(map(fingerprint, mesh.roots))
    while True:
        injections = await read_injections(api, mesh)
        if not (holds and any(map(lags, injections.values())) and time.monotonic() < deadline):
            return mesh, injections
        await asyncio.sleep(LOOK_SECONDS)
        if any(trust.state == "unseen" for trust in injections.values()):
            # Its pod may have been replaced.
            mesh = await read_injectors(api, mesh.namespace)


def _blocks_issuer(mesh: Mesh, remaining: Sequence[x509.Certificate], now: datetime) -> Iterable[Blocker]:
    subject = f"Secret {mesh.namespace}/{IDENTITY_ISSUER}"
    if not mesh.issuer:
        yield Blocker(subject=subject, reason="there is no issuer in it. Deploy once more", deployable=True)
    elif not find_chain(mesh.issuer, remaining, now):
        reason = (
            "its issuer is not under the anchors that remain. Deploy once more what is deployed, or have who issues it "
            "sign it under them"
        )
        yield Blocker(subject=subject, reason=reason, deployable=True)
