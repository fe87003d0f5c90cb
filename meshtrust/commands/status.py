"""`meshtrust status` and `meshtrust verify`: a mesh's credentials, and the findings about them."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import get_args

import typer
from cryptography import x509
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from meshtrust.commands.options import (
    HERE,
    AnchorDays,
    Context,
    Directory,
    IssuerHours,
    Json,
    Kubeconfig,
    Namespace,
    Stack,
    UntilState,
    WaitTimeout,
    choose_wait,
    console,
    select,
)
from meshtrust.commands.options import write_json as write
from meshtrust.commands.work import wait_for_goals
from meshtrust.lint import Finding
from meshtrust.pki.durations import format_left
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.report import RotationReport
from meshtrust.rotation.steps import Phase
from meshtrust.stacks.inspection import Inspection, MinimumLifetimes, inspect, judge
from meshtrust.stacks.stack import Stack as OpenedStack
from meshtrust.stacks.target import Selection, open_target

# A retirement ends in the phase that the next rotation begins in.
_PHASES = get_args(Phase)
# From this width on, fingerprints have a column of their own.
WIDE = 80
_MARKS = {"error": Text("✗", style="bold red"), "warning": Text("!", style="yellow")}


def status(
    *,
    stack: Stack = "",
    directory: Directory = HERE,
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    namespace: Namespace = "",
    until: UntilState = None,
    timeout: WaitTimeout = None,
    as_json: Json = False,
) -> None:
    """Show what is deployed, what the cluster holds, and what needs attention; or wait for the goal of a rotation.

    Works on any Linkerd installation by --context. Exit codes: 0 shown, whatever it is, or the goal is reached; 3 it
    cannot be read; 4 the time is over, and what is waited for is listed.
    """
    seconds = choose_wait(until, timeout, context=context, kubeconfig=kubeconfig, namespace=namespace)
    if seconds is not None:
        if not stack:
            msg = "waits for a stack. Name it: --stack"
            raise typer.BadParameter(msg, param_hint="--until")
        opened = OpenedStack(stack, directory)
        opened.check()
        wait_for_goals([opened], seconds, as_json=as_json)
        return
    inspection = _look(select(stack, directory, context, kubeconfig, namespace))
    findings = judge(inspection, MinimumLifetimes())
    if as_json:
        write({**inspection.as_json(), "findings": _as_json(findings)})
        return
    show_inspection(inspection, console(), stack)
    show_findings(findings, console())


def verify(
    *,
    stack: Stack = "",
    directory: Directory = HERE,
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    namespace: Namespace = "",
    as_json: Json = False,
    issuer_hours: IssuerHours = 24,
    anchor_days: AnchorDays = 60,
) -> None:
    """Judge the served credentials by their rules and by what life they have left.

    Works on any Linkerd installation by --context. Exit codes: 0 no error; 1 an error, each of which is listed; 3 it
    cannot be read.
    """
    inspection = _look(select(stack, directory, context, kubeconfig, namespace))
    findings = judge(
        inspection, MinimumLifetimes(issuer=timedelta(hours=issuer_hours), anchor=timedelta(days=anchor_days))
    )
    failed = any(finding.severity == "error" for finding in findings)
    if as_json:
        write({"context": inspection.context, "ok": not failed, "findings": _as_json(findings)})
    else:
        show_findings(findings, console())
    if failed:
        raise typer.Exit(1)


def _look(selection: Selection) -> Inspection:
    async def look() -> Inspection:
        return await inspect(await open_target(selection))

    return asyncio.run(look())


def _as_json(findings: list[Finding]) -> list[dict[str, str]]:
    return [
        {"severity": entry.severity, "subject": entry.subject, "wrong": entry.wrong, "fix": entry.fix}
        for entry in findings
    ]


def show_inspection(inspection: Inspection, console: Console, stack: str = "") -> None:
    """Draw a mesh: the phase, the roots, the issuer, and how many proxies trust which roots.

    Args:
        inspection: The mesh.
        console: The terminal. At 60 columns and more, names are broken into lines and nothing is cut.
        stack: Name of the stack, if one was named.
    """
    is_wide = console.width >= WIDE
    parts = (
        # Not as the panel's title, which is cut when it is longer than the panel.
        Text.assemble((inspection.context, "bold"), f" namespace {inspection.mesh.namespace}"),
        phase_line(inspection.phase, stack),
        *([rotation_text(inspection.rotation)] if inspection.rotation else []),
        Text(),
        _certificates(inspection, is_wide=is_wide),
        Text(),
        _proxies(inspection),
        *([Text(), _unseen(inspection)] if inspection.unseen is None or inspection.unseen.subjects else []),
    )
    console.print(Panel(Group(*parts), padding=(0, 1), expand=False))


def phase_line(phase: str, stack: str = "") -> Text:
    """Return the phases of a rotation with the current one marked.

    Args:
        phase: The phase, or another word if no deployed stack says which.
        stack: Name of the stack, if one was named.
    """
    if phase not in _PHASES:
        why = f"Stack {stack} has not been deployed yet: pulumi up" if stack else "No stack was named"
        return Text(f"{why}. The phase of a rotation is not known without that.", style="dim")
    line = Text("phase  ", style="dim")
    for position, name in enumerate(_PHASES):
        line.append(" → " if position else "", style="dim")
        line.append(f" {name} ", style="bold black on cyan" if name == phase else "dim")
    return line


def rotation_text(report: RotationReport) -> Text:
    """Return the goal of a stack's rotation, the next step, and what that waits for, a line for each.

    Args:
        report: The report that the stack's last run has left.
    """
    style = "green" if report.is_converged else "yellow" if report.waiting_count else ""
    text = Text.assemble(("goal   ", "dim"), report.goal_text)
    for state in report.state_texts:
        text.append("\n  ").append(state, style=style)
    for line in report.waiting_lines:
        text.append(f"\n  - {line}")
    return text


def _certificates(inspection: Inspection, *, is_wide: bool) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", overflow="fold")
    for heading in (*(["sha256"] if is_wide else []), "until (UTC)", "left", ""):
        table.add_column(heading, no_wrap=True)
    signing = fingerprint(inspection.issuer_chain[-1]) if inspection.issuer_chain else ""
    for root in inspection.mesh.roots:
        mark = fingerprint(root)
        signs = Text("signs", style="green") if mark == signing else Text("trusted", style="dim")
        cells = name_cells(f"trust anchor {inspection.name(mark)}", root, is_wide=is_wide)
        table.add_row(*cells, *_life(root, inspection), signs)
    if inspection.mesh.issuer:
        issuer = inspection.mesh.issuer[0]
        current = sum(inspection.has_current_issuer(pod) for pod in inspection.served)
        served = f"served {current}/{len(inspection.served)}"
        style = "green" if current == len(inspection.served) > 0 else "red"
        cells = name_cells("identity issuer", issuer, is_wide=is_wide)
        table.add_row(*cells, *_life(issuer, inspection), Text(served, style=style))
    return table


def name_cells(name: str, certificate: x509.Certificate, *, is_wide: bool) -> list[Text]:
    """Return the cells with a certificate's name and fingerprint: two, or one of two lines if there is little room."""
    name_text, mark = Text(name), Text(fingerprint(certificate)[:12], style="" if is_wide else "dim")
    return [name_text, mark] if is_wide else [Text.assemble(name_text, "\n", mark)]


def _life(certificate: x509.Certificate, inspection: Inspection) -> tuple[str | Text, ...]:
    end = certificate.not_valid_after_utc
    left = end - inspection.now
    style = "green" if left.total_seconds() > 0 else "red"
    return f"{end:%Y-%m-%d %H:%M}", Text(format_left(left), style=style)


def _proxies(inspection: Inspection) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    wanted = {inspection.name(fingerprint(root)) for root in inspection.mesh.roots}
    total, longest = len(inspection.mesh.pods), 10
    for anchors, count in sorted(inspection.pods_by_anchors.items(), key=lambda entry: -entry[1]):
        trusts = f"trust {', '.join(anchors)}" if anchors else "it is not known which anchors they trust"
        style = "green" if wanted <= set(anchors) else "yellow"
        bar = "█" * max(1, round(longest * count / total))
        table.add_row(f"{count} proxies", Text(bar, style=style), Text(trusts))
    if not total:
        table.add_row("no proxies", "", "")
    return table


def _unseen(inspection: Inspection) -> RenderableType:
    """Return who may trust the roots and cannot be asked, a line for each: the gate wants each acknowledged."""
    if inspection.unseen is None:
        return Text("who trusts the roots from outside is not known: it cannot be listed", style="yellow")
    text = Text("not seen from here, see to them before a step (docs/rotation.md):", style="dim")
    for subject in inspection.unseen.subjects:
        text.append(f"\n  - {subject}", style="not dim")
    return text


def show_findings(findings: Sequence[Finding], console: Console) -> None:
    """List findings, each with its fix."""
    for finding in findings:
        line = Text.assemble(
            _MARKS[finding.severity],
            " ",
            (finding.subject, "bold"),
            f" {finding.wrong}.\n  ",
            (f"{finding.fix}.", "dim"),
        )
        console.print(line, soft_wrap=True)
    if not findings:
        console.print("[green]✓[/] Nothing needs attention.")
