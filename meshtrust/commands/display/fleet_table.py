"""Tables of a fleet for a terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshtrust.commands.status import WIDE, name_cells, rotation_text, show_findings
from meshtrust.fleet.view import ClusterView, FleetView, LinkState
from meshtrust.pki.durations import format_left

_LINK_MARKS: Mapping[LinkState, tuple[str, str]] = {
    "well": ("green", "✓"),
    "refused": ("bold red", "✗"),
    "unchecked": ("yellow", "!"),
}


def show_fleet(fleet: FleetView, console: Console) -> None:
    """Draw the anchors, a line for each cluster, their Links, and what needs attention."""
    console.print(Text.assemble("Fleet of ", (fleet.anchor_stack, "bold"), "\n"))
    console.print(_anchors(fleet, is_wide=console.width >= WIDE))
    console.print()
    console.print(_clusters(fleet))
    show_rotations(fleet, console)
    show_links(fleet, console)
    _show_unseen(fleet, console)
    for cluster in fleet.clusters:
        if cluster.error or cluster.findings:
            console.print()
            show_cluster_findings(cluster, console)


def show_cluster_findings(cluster: ClusterView, console: Console) -> None:
    """Show what needs attention in one cluster."""
    console.print(Text.assemble((cluster.stack, "bold"), f" {cluster.phase}"), soft_wrap=True)
    if cluster.error:
        console.print(Text.assemble(("✗ ", "bold red"), cluster.error), soft_wrap=True)
    elif cluster.inspection:
        show_findings(list(cluster.findings), console)


def show_rotations(fleet: FleetView, console: Console) -> None:
    """Show the goal of each stack that has not reached it, and how many have; nothing if no stack reports a goal."""
    reports = fleet.rotations
    if not reports:
        return
    left = {stack: report for stack, report in reports.items() if not report.is_converged}
    console.print()
    console.print(f"{len(reports) - len(left)} of {len(reports)} stacks have reached their goal.", markup=False)
    for stack, report in left.items():
        console.print(Text.assemble((stack, "bold"), " ", rotation_text(report)), soft_wrap=True)


def show_links(fleet: FleetView, console: Console) -> None:
    """Show the links between clusters, if there are any."""
    table = _table("cluster", "linked to")
    for cluster in fleet.clusters:
        listed = [
            Text.assemble(view.target or view.link.target, " ", (sign, style))
            for view in fleet.links_of(cluster.stack)
            for style, sign in [_LINK_MARKS[view.state]]
        ]
        if listed:
            table.add_row(cluster.stack, Text(", ").join(listed))
    if table.row_count:
        console.print()
        console.print(table)


def _show_unseen(fleet: FleetView, console: Console) -> None:
    """Show what may trust the roots of each cluster and cannot be asked from it, if there is anything."""
    table = _table("cluster", "not seen from there")
    for cluster in fleet.clusters:
        if cluster.unseen:
            table.add_row(cluster.stack, ", ".join(cluster.unseen))
    if table.row_count:
        console.print()
        console.print(table)


def _anchors(fleet: FleetView, *, is_wide: bool) -> Table:
    columns = ("trust anchor", *(["sha256"] if is_wide else []), "until (UTC)", "left", "signs in", "trusted in")
    table = _table(*columns)
    for name, root in fleet.roots.items():
        left = root.not_valid_after_utc - fleet.now
        table.add_row(
            *name_cells(name, root, is_wide=is_wide),
            f"{root.not_valid_after_utc:%Y-%m-%d}",
            format_left(left),
            f"{len(fleet.signed_by(name))} of {len(fleet.clusters)}",
            f"{len(fleet.trusted_by(name))} of {len(fleet.clusters)}",
        )
    return table


def _clusters(fleet: FleetView) -> Table:
    table = _table("cluster", "phase", "trusts", "signed by", "issuer", "proxies", "")
    for cluster in fleet.clusters:
        seen = cluster.inspection
        mark = Text("✗", style="bold red") if cluster.has_errors else Text("✓" if seen else "-", style="green")
        if seen is None:
            table.add_row(cluster.stack, cluster.phase, "", "", "", "", mark)
            continue
        left = format_left(seen.mesh.issuer[0].not_valid_after_utc - seen.now) if seen.mesh.issuer else "none"
        trusts = ", ".join(seen.trust.anchors) if seen.trust else ""
        table.add_row(cluster.stack, cluster.phase, trusts, cluster.signer, left, str(len(seen.mesh.pods)), mark)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        # Numbers and dates stay whole; names are broken into lines if there is little room.
        is_name = heading in ("cluster", "linked to", "not seen from there", "trust anchor", "trusts", "signed by")
        table.add_column(heading, no_wrap=not is_name, overflow="fold" if is_name else "ellipsis")
    return table
