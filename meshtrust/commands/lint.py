"""`meshtrust lint`: judges the files of people who need not use Pulumi."""

from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from meshtrust.commands.display.files import writing
from meshtrust.files import ENCODING
from meshtrust.lint import Finding
from meshtrust.lint.reading.files import read_files
from meshtrust.lint.report import as_json, as_sarif, print_text, summary
from meshtrust.lint.rule_sets import RULES
from meshtrust.lint.runner import LintResult, lint_material

FOUND, UNREADABLE = 1, 3
# What these find was not judged at all.
_UNREADABLE_RULES = {"MT001", "MT002"}


class Format(StrEnum):
    """Output formats of the findings."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


def lint(
    paths: Annotated[
        list[Path], typer.Argument(help="YAML and PEM files, directories of them, or - for standard input.")
    ],
    format_: Annotated[Format, typer.Option("--format", help="How findings are written.")] = Format.TEXT,
    output: Annotated[Path | None, typer.Option(help="Write to this file instead of standard output.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings as well.")] = False,
    ignore: Annotated[list[str] | None, typer.Option(help="Leave out a rule by its id; may be repeated.")] = None,
) -> None:
    """Judge Linkerd's credentials, cert-manager Certificates and Helm values in files, before a cluster meets them.

    Exit codes: 0 nothing wrong (with --strict: no warning either); 1 something is; 2 wrong usage; 3 something cannot be
    read, or the report not written. docs/lint.md has every rule.
    """
    left_out = {name.upper() for name in ignore or ()}
    unknown = sorted(left_out - {rule.id for rule in RULES})
    if unknown:
        msg = f"there is no rule {', '.join(unknown)}; docs/lint.md lists them"
        raise typer.BadParameter(msg, param_hint="--ignore")
    result = lint_material(read_files(paths), datetime.now(UTC))
    findings = [one for one in result.findings if one.rule is None or one.rule.id not in left_out]
    result = replace(result, findings=findings)
    _write(_rendered(result, format_, output), result, output)
    raise typer.Exit(_exit_code(findings, strict=strict))


def _rendered(result: LintResult, format_: Format, output: Path | None) -> str:
    if format_ is Format.JSON:
        return as_json(result) + "\n"
    if format_ is Format.SARIF:
        return as_sarif(result.findings, RULES) + "\n"
    console = Console(file=StringIO(), force_terminal=output is None and Console().is_terminal)
    with console.capture() as captured:
        print_text(result, console)
    return captured.get()


def _write(text: str, result: LintResult, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    with writing("the report", output):
        output.write_text(text, encoding=ENCODING)
    typer.echo(f"{summary(result)} Written to {output}.", err=True)


def _exit_code(findings: list[Finding], *, strict: bool) -> int:
    if any(finding.rule is not None and finding.rule.id in _UNREADABLE_RULES for finding in findings):
        return UNREADABLE
    failing = {"error", "warning"} if strict else {"error"}
    return FOUND if any(finding.severity in failing for finding in findings) else 0
