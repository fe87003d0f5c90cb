"""A fleet as one static page: no server, no script, and no request to another host."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import jinja2
from cryptography import x509

from meshtrust.fleet.view import ClusterView, FleetView, LinkState
from meshtrust.pki.durations import format_left
from meshtrust.pki.pem import fingerprint
from meshtrust.stacks.inspection import Inspection

_LINK_STYLES: Mapping[LinkState, str] = {"well": "good", "refused": "bad", "unchecked": "warn"}
_PHASES = ("steady", "introduce", "switch")
_SOON = timedelta(days=60)
_ISSUER_SOON = timedelta(hours=24)


def draw_page(fleet: FleetView) -> str:
    """Return the page as HTML: the anchors, and each cluster's phase, issuer, proxies and findings, and their Links."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("meshtrust.fleet", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    counts = Counter(cluster.phase for cluster in fleet.clusters)
    return templates.get_template("page.html.j2").render(
        fleet=fleet,
        wrong=sum(cluster.has_errors for cluster in fleet.clusters),
        anchors=[_anchor(name, root, fleet) for name, root in fleet.roots.items()],
        phases=_PHASES,
        counts=[(phase, counts[phase]) for phase in sorted(counts, key=_phase_order)],
        # In a fleet of fifty nobody looks for the one that is wrong.
        clusters=[_cluster(cluster) for cluster in sorted(fleet.clusters, key=_urgency)],
        links=_links(fleet),
        unseen=[(cluster.stack, cluster.unseen) for cluster in fleet.clusters if cluster.unseen],
    )


def _anchor(name: str, root: x509.Certificate, fleet: FleetView) -> dict[str, Any]:
    whole = root.not_valid_after_utc - root.not_valid_before_utc
    left = root.not_valid_after_utc - fleet.now
    return {
        "name": name,
        "fingerprint": fingerprint(root)[:12],
        "style": _style(left, _SOON),
        "left": _left(left),
        "end": f"{root.not_valid_after_utc:%Y-%m-%d}",
        "share": max(0, min(100, round(100 * left / whole))),
        "signs_in": _count(fleet.signed_by(name), fleet),
        "trusted_in": _count(fleet.trusted_by(name), fleet),
    }


def _cluster(cluster: ClusterView) -> dict[str, Any]:
    return {
        "stack": cluster.stack,
        "phase": cluster.phase,
        "is_in_phase": cluster.phase in _PHASES,
        "pledged": _pledged(cluster),
        "rotation": cluster.rotation,
        "signer": cluster.signer,
        "error": cluster.error,
        "findings": [
            ("bad" if entry.severity == "error" else "warn", f"{entry.subject} {entry.wrong}. {entry.fix}.")
            for entry in cluster.findings
        ],
        "is_seen": cluster.inspection is not None,
        **(_seen(cluster.inspection) if cluster.inspection else {}),
    }


def _seen(inspection: Inspection) -> dict[str, Any]:
    current = sum(inspection.has_current_issuer(pod) for pod in inspection.served)
    issuer = inspection.mesh.issuer
    left = issuer[0].not_valid_after_utc - inspection.now if issuer else timedelta()
    return {
        "issuer_left": _left(left) if issuer else "",
        "issuer_style": _style(left, _ISSUER_SOON),
        "served": f"served by {current} of {len(inspection.served)}",
        "served_style": "good" if current == len(inspection.served) > 0 else "bad",
        "proxies": [
            f"{count} {'trusts' if count == 1 else 'trust'} {', '.join(anchors) or 'unknown roots'}"
            for anchors, count in sorted(inspection.pods_by_anchors.items(), key=lambda entry: -entry[1])
        ],
    }


def _pledged(cluster: ClusterView) -> str:
    """Return what a cluster in the middle of a rotation has pledged to the others; empty outside of one."""
    trust = cluster.inspection.trust if cluster.inspection else None
    if trust is None or len(trust.anchors) == 1:
        return ""
    lines = [
        f"{word} {', '.join(names)}"
        for word, pledged in (("accepts", cluster.pledge.accepts), ("has released", cluster.pledge.released))
        if (names := [name for name in trust.anchors if name in pledged])
    ]
    return "; ".join(lines)


def _links(fleet: FleetView) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each cluster that has Links, with the style and the target of each."""
    listed = {
        cluster.stack: [
            (_LINK_STYLES[view.state], view.target or f"{view.link.target}, not of this fleet")
            for view in fleet.links_of(cluster.stack)
        ]
        for cluster in fleet.clusters
    }
    return [(stack, links) for stack, links in listed.items() if links]


def _urgency(cluster: ClusterView) -> int:
    return 0 if cluster.has_errors else 1 if cluster.findings else 2


def _phase_order(phase: str) -> tuple[int, str]:
    return _PHASES.index(phase) if phase in _PHASES else len(_PHASES), phase


def _style(left: timedelta, soon: timedelta) -> str:
    return "bad" if left <= timedelta() else "warn" if left < soon else "good"


def _left(left: timedelta) -> str:
    return f"{format_left(left)} left" if left > timedelta() else f"ended {format_left(-left)} ago"


def _count(stacks: Iterable[str], fleet: FleetView) -> str:
    count = len(list(stacks))
    return f"all {count}" if count == len(fleet.clusters) > 0 else f"{count} of {len(fleet.clusters)}"
