"""Reports of the linter: text for people, JSON for programs, SARIF for CI systems."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from meshtrust.lint.rule import SEVERITIES, Finding, Rule, Severity
from meshtrust.lint.runner import LintResult

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
# Number of kinds of documents, and of files, that a report names of those that were not judged; the others are counted.
_MOST_NAMED = 8
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def summary(result: LintResult) -> str:
    """Return the number of findings and files, and what was not judged, as sentences.

    "Nothing wrong" applies only to what was judged.
    """
    counted = Counter(finding.severity for finding in result.findings)
    parts = [_count(counted[severity], severity) for severity in SEVERITIES if counted[severity]]
    where = f"in {_count(result.files, 'file')}"
    if parts or result.judged:
        judged = f"{result.judged or 'nothing'} judged"
        text = f"{', '.join(parts) or 'Nothing wrong'} {where} ({judged})."
    elif result.files:
        text = f"Nothing was judged: no credentials of Linkerd were recognised {where}."
    else:
        text = "Nothing was judged: there are no YAML, JSON or PEM files."
    return text + _passed_over(result)


def _passed_over(result: LintResult) -> str:
    kinds = [
        _count(number, kind) if kind.islower() else f"{number} {kind}"
        for kind, number in result.passed_over.most_common(_MOST_NAMED)
    ]
    more = len(result.passed_over) - len(kinds)
    kinds += [f"{_count(more, 'other kind')}"] if more > 0 else []
    files = list(result.pem_files[:_MOST_NAMED])
    more = len(result.pem_files) - len(files)
    files += [_count(more, "other PEM file")] if more > 0 else []
    named = ", ".join([*kinds, *files])
    text = f" Not judged, because nothing connects it with Linkerd: {named}." if named else ""
    return text + (" To judge a PEM file, name it on the command line." if files else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def print_text(result: LintResult, console: Console) -> None:
    """Print findings for people, by file: each with what is wrong, the reason, and the fix."""
    shown = ""
    for finding in result.findings:
        file, line = _place(finding)
        if file != shown:
            console.print(Text(file, style="bold underline"), soft_wrap=True)
            shown = file
        head = Text("  ")
        head.append(f"line {line}  " if line else "")
        head.append(finding.severity, style=_STYLES[finding.severity])
        head.append(f" {finding.rule.id}" if finding.rule else "", style="bold")
        head.append(f"  {finding.subject} {finding.wrong}.")
        console.print(head, soft_wrap=True)
        if finding.rule:
            console.print(Text(f"      why: {finding.rule.reason}", style="dim"), soft_wrap=True)
            console.print(Text(f"      source: {finding.rule.source}", style="dim"), soft_wrap=True)
        console.print(Text(f"      fix: {finding.fix}."), soft_wrap=True)
    console.print(Text(summary(result)), soft_wrap=True)


def as_json(result: LintResult) -> str:
    """Return findings as JSON: a list of flat objects, and their number by severity."""
    counted = Counter(finding.severity for finding in result.findings)
    document = {
        "files": result.files,
        "judged": result.judged,
        "notJudged": {"documents": dict(result.passed_over.most_common()), "pemFiles": list(result.pem_files)},
        "summary": {severity: counted[severity] for severity in SEVERITIES},
        "findings": [_flat(finding) for finding in result.findings],
    }
    return json.dumps(document, indent=2)


def _flat(finding: Finding) -> dict[str, Any]:
    file, line = _place(finding)
    return {
        "id": finding.rule.id if finding.rule else None,
        "severity": finding.severity,
        "subject": finding.subject,
        "wrong": finding.wrong,
        "reason": finding.rule.reason if finding.rule else None,
        "source": finding.rule.source if finding.rule else None,
        "fix": finding.fix,
        "file": file or None,
        "line": line,
    }


def as_sarif(findings: Sequence[Finding], rules: Sequence[Rule]) -> str:
    """Return findings as SARIF 2.1.0, with the rules that they break.

    Args:
        findings: The findings, each of a rule.
        rules: All rules, in the order of their ids.
    """
    broken = {finding.rule.id for finding in findings if finding.rule}
    described = [rule for rule in rules if rule.id in broken]
    index = {rule.id: position for position, rule in enumerate(described)}
    results = [_result(finding, finding.rule, index[finding.rule.id]) for finding in findings if finding.rule]
    driver = {"name": "meshtrust", "rules": [_described(rule) for rule in described]}
    document = {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
    return json.dumps(document, indent=2)


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": f"{rule.title}."},
        "fullDescription": {"text": rule.reason},
        "help": {"text": f"{rule.reason}\nSource: {rule.source}.\nFix: {rule.fix}."},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(finding: Finding, rule: Rule, index: int) -> dict[str, Any]:
    file, line = _place(finding)
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(PurePath(file).as_posix())}}
    if line:
        physical["region"] = {"startLine": line}
    # Stays the same while lines move, so that CI systems recognise new findings.
    identity = hashlib.sha256("\n".join((rule.id, file, finding.subject, finding.wrong)).encode()).hexdigest()
    return {
        "ruleId": rule.id,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": f"{finding} {rule.reason}"},
        "locations": [{"physicalLocation": physical}] if file else [],
        "partialFingerprints": {"meshtrust/v1": identity},
    }


def _place(finding: Finding) -> tuple[str, int | None]:
    return (finding.location.file, finding.location.line) if finding.location else ("", None)
