"""A fleet as one static page: no server, no script, nothing that is fetched."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape

from cryptography import x509

from meshtrust.durations import format_left
from meshtrust.fleet.view import ClusterView, FleetView, LinkState, LinkView
from meshtrust.pem import fingerprint

_LINK_STYLES: Mapping[LinkState, str] = {"well": "good", "refused": "bad", "unchecked": "warn"}
_PHASES = ("steady", "introduce", "switch")
_SOON = timedelta(days=60)
_ISSUER_SOON = timedelta(hours=24)

_STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1c2733; --soft: #55616e; --line: #dde2e8;
  --good: #0b6e4f; --warn: #8a5a00; --bad: #b3261e; --mark: #1f5fbf; --mark-ink: #fff; }
@media (prefers-color-scheme: dark) { :root { --ground: #12171d; --card: #1b222a; --ink: #e6ebf0; --soft: #a3b0bd;
  --line: #323c47; --good: #5fd0a5; --warn: #f0b95a; --bad: #ff8a80; --mark: #7eb0ff; --mark-ink: #0d1722; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 .75rem; font-size: 1.15rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); padding: 0;
  margin: 0; list-style: none; }
.cards li, .table { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.cards li { padding: 1rem 1.1rem; } .cards strong { font-size: 1.1rem; }
.table { overflow-x: auto; } table { width: 100%; border-collapse: collapse; }
caption { text-align: left; padding: .9rem 1rem .2rem; color: var(--soft); }
th, td { padding: .6rem 1rem; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; }
tbody tr { border-top: 1px solid var(--line); }
.wide { white-space: normal; min-width: 16rem; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.phases { display: inline-flex; gap: .25rem; padding: 0; margin: 0; list-style: none; }
.phases li { padding: .05rem .5rem; border-radius: 1rem; border: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
.phases li[aria-current] { background: var(--mark); border-color: var(--mark); color: var(--mark-ink);
  font-weight: 600; }
.counts { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; padding: 0; margin: 0 0 .75rem; list-style: none; }
.bar { display: block; width: 100%; height: .4rem; margin-top: .5rem; border-radius: .2rem; background: var(--line); }
.bar span { display: block; height: 100%; border-radius: inherit; background: currentColor; }
code { font: .85em ui-monospace, monospace; }
.links { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 0; list-style: none; }
ul.findings { margin: 0; padding: 0; list-style: none; }
"""


def draw_page(fleet: FleetView) -> str:
    """Return the page as HTML: the anchors, and each cluster's phase, issuer, proxies and findings, and their Links."""
    wrong = [cluster for cluster in fleet.clusters if cluster.has_errors]
    need = "needs" if len(wrong) == 1 else "need"
    verdict = (
        _mark("bad", f"{len(wrong)} of {len(fleet.clusters)} clusters {need} attention")
        if wrong
        else _mark("good", f"all {len(fleet.clusters)} clusters are well")
    )
    anchors = "".join(_anchor(name, root, fleet) for name, root in fleet.roots.items())
    # In a fleet of fifty nobody looks for the one that is wrong.
    rows = "".join(_row(cluster) for cluster in sorted(fleet.clusters, key=_urgency))
    counts = Counter(cluster.phase for cluster in fleet.clusters)
    phases = "".join(
        f"<li><strong>{counts[phase]}</strong> {escape(phase)}</li>"
        for phase in (*_PHASES, *sorted(counts.keys() - set(_PHASES)))
        if counts[phase]
    )
    headings = "".join(
        f'<th scope="col">{heading}</th>'
        for heading in ("Cluster", "Phase", "Signed by", "Issuer", "Proxies", "What needs attention")
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fleet of {escape(fleet.anchor_stack)}: {"needs attention" if wrong else "all is well"}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Fleet of {escape(fleet.anchor_stack)}</h1>
<p>{verdict}</p>
<p class="soft">As of <time datetime="{fleet.now.isoformat(timespec="seconds")}">{fleet.now:%Y-%m-%d %H:%M} UTC</time>.
Written by <code>meshtrust fleet status --html</code>.</p>
<h2 id="anchors">Trust anchors</h2>
<ul class="cards" aria-labelledby="anchors">{anchors}</ul>
<h2 id="clusters">Clusters</h2>
<ul class="counts" aria-label="Clusters by phase">{phases}</ul>
<div class="table" role="region" aria-labelledby="clusters" tabindex="0">
<table>
<caption>Each cluster's place in a rotation, and what its proxies are served.</caption>
<thead><tr>{headings}</tr></thead>
<tbody>{rows}</tbody>
</table>
</div>
{_links(fleet)}</main>
</body>
</html>
"""


def _anchor(name: str, root: x509.Certificate, fleet: FleetView) -> str:
    whole = root.not_valid_after_utc - root.not_valid_before_utc
    left = root.not_valid_after_utc - fleet.now
    share = max(0, min(100, round(100 * left / whole)))
    style = "bad" if left <= timedelta() else "warn" if left < _SOON else "good"
    signs, trusted = fleet.signed_by(name), fleet.trusted_by(name)
    return f"""<li>
<p><strong>{escape(name)}</strong> <code class="soft">{fingerprint(root)[:12]}</code></p>
<p class="{style}">{escape(_left(left))}, until {root.not_valid_after_utc:%Y-%m-%d}
<span class="bar" aria-hidden="true"><span style="width:{share}%"></span></span></p>
<p>Signs in {_count(signs, fleet)}, trusted in {_count(trusted, fleet)}.</p>
</li>"""


def _row(cluster: ClusterView) -> str:
    seen = cluster.inspection
    cells = [f'<th scope="row">{escape(cluster.stack)}</th>', f"<td>{_phase(cluster)}</td>"]
    if seen is None:
        cells += ["<td></td>"] * 3
    else:
        current = sum(seen.serves(pod) for pod in seen.served)
        served = _mark(
            "good" if current == len(seen.served) > 0 else "bad", f"served by {current} of {len(seen.served)}"
        )
        cells += [
            f"<td>{escape(cluster.signer) or _mark('bad', 'no anchor')}</td>",
            f"<td>{_issuer(seen.mesh.issuer, seen.now)}<br>{served}</td>",
            f"<td>{_proxies(cluster)}</td>",
        ]
    cells.append(f'<td class="wide">{_findings(cluster)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _phase(cluster: ClusterView) -> str:
    if cluster.phase not in _PHASES:
        return _mark("bad" if cluster.error else "warn", cluster.phase)
    steps = "".join(
        f'<li aria-current="step">{name}</li>' if name == cluster.phase else f"<li>{name}</li>" for name in _PHASES
    )
    return f'<ol class="phases">{steps}</ol>{_told(cluster)}'


def _told(cluster: ClusterView) -> str:
    """Return what a cluster has told the others, where it is in the middle of a rotation."""
    trust = cluster.inspection.trust if cluster.inspection else None
    if trust is None or len(trust.anchors) == 1:
        return ""
    lines = [
        f"{word} {', '.join(names)}"
        for word, told in (("accepts", cluster.pledge.accepts), ("has released", cluster.pledge.released))
        if (names := [name for name in trust.anchors if name in told])
    ]
    return f'<br><span class="soft">{escape("; ".join(lines))}</span>' if lines else ""


def _urgency(cluster: ClusterView) -> int:
    return 0 if cluster.has_errors else 1 if cluster.findings else 2


def _issuer(issuer: Sequence[x509.Certificate], now: datetime) -> str:
    if not issuer:
        return _mark("bad", "none")
    left = issuer[0].not_valid_after_utc - now
    style = "bad" if left <= timedelta() else "warn" if left < _ISSUER_SOON else "good"
    return f'<span class="{style}">{escape(_left(left))}</span>'


def _proxies(cluster: ClusterView) -> str:
    if cluster.inspection is None:
        return ""
    lines = [
        f"{count} {'trusts' if count == 1 else 'trust'} {escape(', '.join(anchors)) or 'what cannot be told'}"
        for anchors, count in sorted(cluster.inspection.pods_by_anchors.items(), key=lambda entry: -entry[1])
    ]
    return "<br>".join(lines) or "none"


def _findings(cluster: ClusterView) -> str:
    if cluster.error:
        return _mark("bad", cluster.error)
    lines = [
        _mark("bad" if entry.severity == "error" else "warn", f"{entry.subject} {entry.wrong}. {entry.fix}.")
        for entry in cluster.findings
    ]
    if not lines:
        return _mark("good", "nothing") if cluster.inspection else '<span class="soft">meshtrust fleet up</span>'
    return f'<ul class="findings">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'


def _links(fleet: FleetView) -> str:
    """Return the section of Links; nothing where no cluster has one."""
    rows = "".join(
        f'<tr><th scope="row">{escape(cluster.stack)}</th><td class="wide"><ul class="links">{listed}</ul></td></tr>'
        for cluster in fleet.clusters
        if (listed := "".join(f"<li>{_link(view)}</li>" for view in fleet.links_of(cluster.stack)))
    )
    if not rows:
        return ""
    return f"""<h2 id="links">Links</h2>
<div class="table" role="region" aria-labelledby="links" tabindex="0">
<table>
<caption>To which clusters each is linked, and whether both ends accept each other.</caption>
<thead><tr><th scope="col">Cluster</th><th scope="col">Linked to</th></tr></thead>
<tbody>{rows}</tbody>
</table>
</div>
"""


def _link(view: LinkView) -> str:
    where = view.target or f"{view.link.target}, not of this fleet"
    return _mark(_LINK_STYLES[view.state], where)


def _mark(style: str, text: str) -> str:
    """Return a text with a sign before it: colour alone tells nothing to who does not see it."""
    sign, word = {"good": ("✓", "well"), "warn": ("!", "warning"), "bad": ("✗", "error")}[style]
    return f'<span class="{style}"><span role="img" aria-label="{word}">{sign}</span> {escape(text)}</span>'


def _left(left: timedelta) -> str:
    return f"{format_left(left)} left" if left > timedelta() else f"ended {format_left(-left)} ago"


def _count(stacks: Iterable[str], fleet: FleetView) -> str:
    count = len(list(stacks))
    return f"all {count}" if count == len(fleet.clusters) > 0 else f"{count} of {len(fleet.clusters)}"
