"""Reports of findings: as text, as JSON and as SARIF."""

import io
import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from meshtrust.lint import Finding, Location
from meshtrust.lint.report import as_json, as_sarif, print_text, summary
from meshtrust.lint.rule_sets import RULES
from meshtrust.lint.runner import LintResult

RULE = next(rule for rule in RULES if rule.id == "MT304")
NOTE = next(rule for rule in RULES if rule.severity == "note")


HERE = Location("east one/issuer.yaml", 7)


def finding(rule=RULE, wrong='is "12h"', location=HERE):
    return Finding(
        subject="Certificate x", wrong=wrong, fix="Set it", severity=rule.severity, rule=rule, location=location
    )


def result(*findings):
    return LintResult(
        findings=list(findings),
        files=2,
        judged=3,
        passed_over=Counter({"Deployment": 3, "plain document": 2, "Issuer": 1}),
        pem_files=("vpn/ca.pem",),
    )


FINDINGS = [
    finding(),
    finding(NOTE, "is [bold]not[/bold] markup", Location("east one/issuer.yaml")),
    finding(location=Location("ü.pem", 1)),
]


def test_the_text_has_what_is_wrong_why_the_source_and_the_fix_below_its_file():
    written = io.StringIO()
    print_text(result(*FINDINGS), Console(file=written, width=80))
    lines = written.getvalue().splitlines()
    assert lines[:5] == [
        "east one/issuer.yaml",
        '  line 7  warning MT304  Certificate x is "12h".',
        f"      why: {RULE.reason}",
        f"      source: {RULE.source}",
        "      fix: Set it.",
    ]
    assert lines[5] == f"  note {NOTE.id}  Certificate x is [bold]not[/bold] markup."
    assert lines[9] == "ü.pem"
    assert lines[-1] == f"2 warnings, 1 note in 2 files (3 judged).{NOT_JUDGED}"


NOT_JUDGED = (
    " Not judged, because nothing connects it with Linkerd: 3 Deployment, 2 plain documents, 1 Issuer, vpn/ca.pem. "
    "To judge a PEM file, name it on the command line."
)


def test_nothing_wrong_is_said_of_what_was_judged_alone():
    assert summary(result()) == f"Nothing wrong in 2 files (3 judged).{NOT_JUDGED}"
    nothing = replace(result(), judged=0, passed_over=Counter(), pem_files=())
    assert summary(nothing).startswith("Nothing was judged: no credentials of Linkerd were recognised in 2 files")
    assert summary(replace(nothing, files=0)) == "Nothing was judged: there are no YAML, JSON or PEM files."


def test_of_many_that_were_not_judged_the_rest_is_counted():
    many = replace(result(), passed_over=Counter({f"Kind{n}": 1 for n in range(20)}), pem_files=tuple("abcdefghijk"))
    assert "12 other kinds" in summary(many)
    assert "3 other PEM files" in summary(many)


def test_the_json_has_a_flat_object_for_each_finding():
    document = json.loads(as_json(result(*FINDINGS)))
    assert document["files"] == 2
    assert document["judged"] == 3
    assert document["notJudged"] == {
        "documents": {"Deployment": 3, "plain document": 2, "Issuer": 1},
        "pemFiles": ["vpn/ca.pem"],
    }
    assert document["summary"] == {"error": 0, "warning": 2, "note": 1}
    assert document["findings"][0] == {
        "id": "MT304",
        "severity": "warning",
        "subject": "Certificate x",
        "wrong": 'is "12h"',
        "reason": RULE.reason,
        "source": RULE.source,
        "fix": "Set it",
        "file": "east one/issuer.yaml",
        "line": 7,
    }
    assert document["findings"][1]["line"] is None


@pytest.fixture
def sarif():
    return json.loads(as_sarif(FINDINGS, RULES))


def test_the_sarif_has_what_its_schema_requires(sarif):
    """SARIF 2.1.0 §3.13 (version, runs), §3.14 (tool), §3.19 (driver), §3.27 (result), §3.49 (reportingDescriptor)."""
    assert sarif["version"] == "2.1.0"
    assert sarif["$schema"].endswith("sarif-2.1.0.json")
    (run,) = sarif["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "meshtrust"
    for rule in driver["rules"]:
        assert re.fullmatch(r"MT\d{3}", rule["id"])
        assert rule["defaultConfiguration"]["level"] in {"error", "warning", "note"}
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))
    assert run["results"]
    for result in run["results"]:
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"]:
            artifact = location["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", artifact), "a URI reference, RFC 3986"
            assert location["physicalLocation"].get("region", {"startLine": 1})["startLine"] >= 1


def test_the_sarif_says_where(sarif):
    first, second, third = (result["locations"][0]["physicalLocation"] for result in sarif["runs"][0]["results"])
    assert first == {"artifactLocation": {"uri": "east%20one/issuer.yaml"}, "region": {"startLine": 7}}
    assert second == {"artifactLocation": {"uri": "east%20one/issuer.yaml"}}
    assert third["artifactLocation"] == {"uri": "%C3%BC.pem"}


def test_the_sarif_has_each_broken_rule_once_and_no_other(sarif):
    assert [rule["id"] for rule in sarif["runs"][0]["tool"]["driver"]["rules"]] == sorted({"MT304", NOTE.id})


def test_a_finding_is_known_again_when_its_line_has_moved(sarif):
    moved = json.loads(as_sarif([finding(location=Location("east one/issuer.yaml", 99))], RULES))
    prints = [run["runs"][0]["results"][0]["partialFingerprints"] for run in (sarif, moved)]
    assert prints[0] == prints[1]
    assert len({result["partialFingerprints"]["meshtrust/v1"] for result in sarif["runs"][0]["results"]}) == 3
