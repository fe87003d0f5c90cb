"""`meshtrust lint` as it is called: what it writes, and how it exits."""

import json

import pytest
import typer
from typer.testing import CliRunner

from meshtrust.commands.lint import lint
from tests.certificates import make_certificate

SOUND = "identity: {issuer: {scheme: kubernetes.io/tls}, externalCA: true}\n"
WARNING = "identity: {issuer: {scheme: kubernetes.io/tls, issuanceLifetime: 1d}, externalCA: true}\n"
ERROR = "identity: {issuer: {scheme: kubernetes-tls}, externalCA: true}\n"


@pytest.fixture
def run(tmp_path):
    app = typer.Typer()
    app.command()(lint)

    def invoke(text, *options, name="values.yaml"):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        return CliRunner().invoke(app, [str(path), *options])

    return invoke


def test_nothing_wrong_exits_with_0(run):
    result = run(SOUND)
    assert (result.exit_code, result.output) == (0, "Nothing wrong in 1 file (1 judged).\n")


def test_an_error_exits_with_1(run):
    result = run(ERROR)
    assert result.exit_code == 1
    assert "error MT504" in result.output


def test_a_warning_exits_with_1_only_where_that_is_asked_for(run):
    assert run(WARNING).exit_code == 0
    assert run(WARNING, "--strict").exit_code == 1
    assert run(SOUND, "--strict").exit_code == 0


def test_what_cannot_be_read_exits_with_3_whatever_else_is_wrong(run):
    assert run(f"{ERROR}---\nidentity: [\n").exit_code == 3
    result = run(None, name="none.yaml")
    assert result.exit_code == 3
    assert "none.yaml cannot be read: No such file or directory" in result.output


def test_a_rule_can_be_left_out(run):
    assert run(ERROR, "--ignore", "mt504").exit_code == 0


def test_a_report_that_cannot_be_written_exits_with_3(run, tmp_path):
    result = run(ERROR, "--output", str(tmp_path / "none" / "report"))
    assert result.exit_code == 3
    assert "error: the report cannot be written to" in result.output


def test_wrong_usage_exits_with_2(run):
    result = run(ERROR, "--ignore", "MT999")
    assert result.exit_code == 2
    assert "there is no rule MT999" in result.output
    assert run(ERROR, "--format", "xml").exit_code == 2


def test_json_and_sarif_are_written_where_they_are_wanted(run, tmp_path):
    assert json.loads(run(ERROR, "--format", "json").stdout)["findings"][0]["id"] == "MT504"
    report = tmp_path / "report.sarif"
    result = run(ERROR, "--format", "sarif", "--output", str(report))
    assert result.exit_code == 1
    assert json.loads(report.read_text())["runs"][0]["results"][0]["ruleId"] == "MT504"
    assert "1 error in 1 file (1 judged). Written to" in result.output


@pytest.mark.parametrize("form", ["text", "json", "sarif"])
def test_no_form_repeats_a_key(run, form):
    pair = make_certificate()
    text = f"identity:\n  issuer:\n    scheme: x{pair.key_pem!r}\n    issuanceLifetime: {json.dumps(pair.key_pem)}\n"
    result = run(text, "--format", form)
    assert result.exit_code == 1
    assert all(line not in result.output for line in pair.key_pem.splitlines()[1:-1])


def test_standard_input_is_judged():
    app = typer.Typer()
    app.command()(lint)
    result = CliRunner().invoke(app, ["-"], input=ERROR)
    assert result.exit_code == 1
    assert "stdin" in result.output
