"""`meshtrust due`: an exit code says whether a trust anchor has to be rotated, and nothing but the stack is asked."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from meshtrust.commands.cli import app
from meshtrust.pki.pem import fingerprint, to_pem
from meshtrust.stacks.stack import cli
from tests.certificates import make_certificate
from tests.recorder import REPOSITORY


@pytest.fixture
def stack_with(tmp_path, monkeypatch):
    """Write a stack's file, and put a `pulumi` on PATH that knows its outputs."""

    def write(configured, roots, **outputs):
        cli.cache_clear()
        (tmp_path / "stacks").mkdir()
        (tmp_path / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
        lines = [f"  meshtrust:anchors: {json.dumps(configured)}", f'  meshtrust:signer: "{configured[-1]}"']
        (tmp_path / "stacks" / "Pulumi.dev.yaml").write_text("\n".join(["config:", *lines, ""]))
        deployed = {
            "anchors": list(roots),
            "trustAnchors": "".join(map(to_pem, roots.values())),
            "roots": {name: {"fingerprint": fingerprint(root)} for name, root in roots.items()},
            **outputs,
        }
        (tmp_path / "outputs.json").write_text(json.dumps(deployed if roots else {}))
        path = tmp_path / "bin" / "pulumi"
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo v3.276.0 && exit\ncat {tmp_path}/outputs.json\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
        return lambda *arguments: CliRunner().invoke(app, ["due", "--stack", "dev", "--cwd", str(tmp_path), *arguments])

    yield write
    cli.cache_clear()


def root_with(days):
    return make_certificate(days=days, hours=1, age=9).certificate


@pytest.mark.parametrize(("days", "code"), [(91, 0), (89, 5), (-1, 5)])
def test_the_exit_code_tells_whether_the_signer_ends_within_the_days(stack_with, days, code):
    result = stack_with(["2026"], {"2026": root_with(days)}, signer="2026")("--days", "90")
    assert result.exit_code == code
    assert ("meshtrust rotate --stack dev --to" in result.output) == (code == 5)


def test_a_rotation_that_is_under_way_makes_nothing_due(stack_with):
    result = stack_with(["2026", "2027"], {"2026": root_with(3)}, signer="2026")()
    assert (result.exit_code, result.output) == (0, "dev: a rotation to 2027 is under way, and nothing else is due.\n")


def test_the_newest_generation_of_an_anchor_stack_decides(stack_with):
    roots = {"2026": root_with(3), "2027": root_with(400)}
    result = stack_with(["2026", "2027"], roots)("--json")
    assert result.exit_code == 0
    assert {key: json.loads(result.output)[key] for key in ("generation", "due", "to")} == {
        "generation": "2027",
        "due": False,
        "to": "",
    }


def test_the_proposed_generation_has_a_name_that_was_never_used(stack_with):
    year = str(datetime.now(UTC).year)
    outputs = {"signer": year, "retired": {f"{year}-2": {"fingerprint": "00" * 32}}}
    result = stack_with([year], {year: root_with(3)}, **outputs)("--json")
    assert (result.exit_code, json.loads(result.output)["to"]) == (5, f"{year}-3")


def test_a_stack_that_was_not_deployed_is_an_error_in_words(stack_with):
    result = stack_with(["2026"], {})()
    assert "has not been deployed yet" in str(result.exception)
