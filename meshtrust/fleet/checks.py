"""Checks of a fleet that need more than one cluster: whether the clusters trust each other, and their Links."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from meshtrust.fleet.view import ClusterView, LinkState, LinkView
from meshtrust.linkerd.links import Link
from meshtrust.lint import Finding
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.pledge import Pledge
from meshtrust.stacks.inspection import Inspection

# A switch is written down a little before the last replica of the identity service has taken the new issuer over.
_SETTLING = timedelta(hours=1)
_PLEDGE_FIX = "Put it right before any cluster takes a step: see docs/fleet.md, What a pledge rests on"
_TRUST_FIX = (
    "Deploy its stack with the anchors of the others, and restart its workloads; in the middle of a rotation, "
    "`meshtrust fleet rotate` does both"
)


def check_pledge(inspection: Inspection, pledge: Pledge) -> Iterator[Finding]:
    """Find pledges that no longer hold, as after a change by hand: the other clusters rely on them."""
    for name, root in inspection.deployed.items():
        known = fingerprint(root)
        lacking = sum(inspection.workloads_not_trusting(known).values())
        if name in pledge.accepts and lacking:
            yield Finding(
                subject=f"{lacking} of {len(inspection.mesh.pods)} proxies",
                wrong=f"do not trust {name}, although the stack has pledged to the fleet that all do",
                fix=_PLEDGE_FIX,
            )
        chain = inspection.issuer_chain
        if name in pledge.released and chain and fingerprint(chain[-1]) == known:
            yield Finding(
                subject="The identity issuer",
                wrong=f"is under {name}, although the stack has pledged to the fleet that nothing is",
                fix=_PLEDGE_FIX,
            )


def find_earlier_signers(
    transitions: Sequence[Mapping[str, Any]], released: frozenset[str], lifetime: timedelta, now: datetime
) -> frozenset[str]:
    """Return the generations that sign no more in a cluster, and that live certificates may be under still.

    Args:
        transitions: The steps that its stack has taken, oldest first.
        released: The generations that it has seen nothing under any more.
        lifetime: How long a proxy's certificate lives.
        now: The time.
    """
    ended: dict[str, datetime] = {}
    signing: tuple[str, ...] = ()
    for entry in transitions:
        if entry["step"] in ("deploy", "switch", "replace"):
            at = datetime.fromisoformat(entry["at"])
            ended.update(dict.fromkeys(signing, at))
            signing = tuple(map(str, entry["generations"]))
    return frozenset(
        name
        for name, end in ended.items()
        if name not in signing and name not in released and end + lifetime + _SETTLING > now
    )


def check_clusters(views: Sequence[ClusterView]) -> tuple[list[ClusterView], list[LinkView]]:
    """Judge how the clusters of a fleet fit together.

    Args:
        views: The clusters, each judged by itself.

    Returns:
        The clusters with what was found besides, and the Links of all of them.
    """
    by_name: dict[str, list[ClusterView]] = defaultdict(list)
    under: dict[str, list[str]] = defaultdict(list)
    for view in views:
        by_name[view.link_name].append(view)
        for root in view.live_roots:
            under[root].append(view.stack)
    refused = {view.stack: frozenset(root for root in under if _lacks(view, root)) for view in views}
    links: list[LinkView] = []
    found: dict[str, list[Finding]] = defaultdict(list)
    linked: dict[str, set[str]] = defaultdict(set)
    for view in views:
        for link in view.links.found:
            named = by_name.get(link.target, [])
            wrong = list(_judge_link(view, link, named))
            target = named[0] if len(named) == 1 else None
            links.append(
                LinkView(
                    link=link,
                    source=view.stack,
                    target=target.stack if target else "",
                    state=_state(view, target, wrong, refused),
                )
            )
            found[view.stack] += wrong
            if target:
                linked[view.stack].add(target.stack)
                linked[target.stack].add(view.stack)
    signing = {view.stack: view.signing_root for view in views}
    for view in views:
        foreign = {root: under[root] for root in under if root in refused[view.stack]}
        found[view.stack][:0] = _check_others(view, foreign, signing, linked[view.stack])
        found[view.stack] += _check_unread(view)
    return [replace(view, findings=(*found[view.stack], *view.findings)) for view in views], links


def _check_others(
    view: ClusterView, refused: Mapping[str, list[str]], signing: Mapping[str, str], linked: set[str]
) -> Iterator[Finding]:
    """Find what a cluster's proxies refuse of the others: all of them, for two may be linked at any time.

    Args:
        view: The cluster.
        refused: The roots that it does not trust, by fingerprint, with the clusters that have certificates under them.
        signing: The root that signs in each cluster.
        linked: The clusters that a Link ties it to, in whichever direction: both ends show a certificate.
    """
    if view.inspection is None:
        return
    for root, there in refused.items():
        # The check of the cluster alone has reported it if proxies do not trust the root of their own issuer.
        if root == view.signing_root:
            continue
        groups: dict[tuple[bool, bool], list[str]] = defaultdict(list)
        for stack in there:
            if stack != view.stack:
                groups[stack in linked, signing[stack] == root].append(stack)
        for (is_linked, signs), stacks in groups.items():
            yield _refusal(view.inspection, root, stacks, is_linked=is_linked, signs=signs)


def _refusal(inspection: Inspection, root: str, stacks: Sequence[str], *, is_linked: bool, signs: bool) -> Finding:
    names = ", ".join(stacks)
    what = f"what signs in {names}" if signs else f"what certificates in {names} may still be under"
    then = "connections over their Links are refused" if is_linked else "connections from there are refused"
    lacking = sum(inspection.workloads_not_trusting(root).values())
    if lacking:
        return Finding(
            subject=f"{lacking} of {len(inspection.mesh.pods)} proxies",
            wrong=f"do not trust {what}: {then}",
            fix=_TRUST_FIX,
        )
    return Finding(
        subject=inspection.mesh.bundle_name,
        wrong=f"does not hold {what}: with the next restart of a proxy here {then}",
        fix="Deploy its stack with the anchors of the others",
    )


def _lacks(view: ClusterView, root: str) -> bool:
    """Whether a proxy of a cluster does not trust a root, or one that starts from now on would not."""
    seen = view.inspection
    return seen is not None and (
        bool(seen.workloads_not_trusting(root)) or root not in map(fingerprint, seen.mesh.roots)
    )


def _state(
    view: ClusterView,
    target: ClusterView | None,
    wrong: Sequence[Finding],
    refused: Mapping[str, frozenset[str]],
) -> LinkState:
    if any(finding.severity == "error" for finding in wrong):
        return "refused"
    if target is None or target.inspection is None:
        return "unchecked"
    ends = ((view, target), (target, view))
    return "refused" if any(refused[end.stack] & other.live_roots for end, other in ends) else "well"


def _judge_link(view: ClusterView, link: Link, named: Sequence[ClusterView]) -> Iterator[Finding]:
    """Find what is wrong with one Link by itself.

    Args:
        view: The cluster that holds it.
        link: The Link.
        named: The clusters that have the name of its target.
    """
    if len(named) != 1:
        yield _unknown_target(link, named)
        return
    [target] = named
    if view.inspection is None or target.inspection is None:
        state = "cannot be read" if target.error else "is not deployed yet"
        yield Finding(
            subject=str(link),
            wrong=f"leads to {target.stack}, which {state}: whether the two accept each other is not known",
            fix="Look again once that is put right" if target.error else "Deploy it: meshtrust fleet up",
            severity="warning",
        )
        return
    here, there = view.inspection.mesh, target.inspection.mesh
    # Whatever the gateway's service account is called, and wherever it runs (linkerd2 `gateway.yaml` of the chart).
    ending = f".serviceaccount.identity.{there.namespace}.{there.trust_domain}"
    if link.gateway_identity and not link.gateway_identity.endswith(ending):
        yield Finding(
            subject=str(link),
            wrong=f"expects {link.gateway_identity} of the gateway in {target.stack}, where every identity ends with "
            f"{ending}: proxies here refuse that gateway",
            fix=f"Make the Link again from what {target.stack} has now: linkerd multicluster link-gen",
        )
    elif link.target_namespace and link.target_namespace != there.namespace:
        yield Finding(
            subject=str(link),
            wrong=f"looks for Linkerd of {target.stack} in namespace {link.target_namespace}, and it is in "
            f"{there.namespace}",
            fix=f"Make the Link again from what {target.stack} has now: linkerd multicluster link-gen",
            severity="warning",
        )
    if here.trust_domain != there.trust_domain:
        # linkerd2 `policy-controller/k8s/index/src/cluster_info.rs`
        yield Finding(
            subject=str(link),
            wrong=f"ties trust domain {here.trust_domain} to {there.trust_domain} of {target.stack}: policies there "
            "that name service accounts take them for those of their own trust domain, and refuse clients from here",
            fix="Name such clients by their identities (MeshTLSAuthentication, spec.identities)",
            severity="warning",
        )


def _unknown_target(link: Link, named: Sequence[ClusterView]) -> Finding:
    if named:
        stacks = ", ".join(view.stack for view in named)
        wrong = f"leads to {link.target}, as {stacks} are all called: which one it is is not known"
        fix = "Give each stack a meshtrust:linkName of its own"
    else:
        wrong = f"leads to {link.target}, which is no cluster of this fleet: what that trusts and signs with is unknown"
        fix = (
            "If it is one, set meshtrust:linkName of its stack; if not, rotate no anchor before that cluster trusts "
            "the new one"
        )
    return Finding(subject=str(link), wrong=wrong, fix=fix, severity="warning")


def _check_unread(view: ClusterView) -> Iterator[Finding]:
    if view.links.error:
        yield Finding(
            subject="Links to other clusters",
            wrong=f"are not known: {view.links.error.rstrip('.')}",
            fix="Until then it is judged as a cluster without Links; the right to list them is in "
            "deploy/rbac/read-only.yaml",
            severity="warning",
        )
