"""A rotation shows its own progress; the engine's output is in a log that a failure names, or shown with --verbose."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from meshtrust.commands.cli import app, main
from meshtrust.commands.rotation import rotate as rotate_command
from meshtrust.linkerd.pods import Workload
from meshtrust.rotation.gate import Blocker
from meshtrust.stacks import rotator
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import Stack, cli, find_engine_errors
from meshtrust.stacks.target import Target
from tests.recorder import REPOSITORY

# What the real engine writes when the program refuses a step (pulumi 3.272, `--skip-preview --color never`).
REFUSED = """Updating (dev):

    pulumi:pulumi:Stack meshtrust-dev running
 ~  kubernetes:core/v1:Namespace linkerd-namespace updating (0s)
    pulumi:pulumi:Stack meshtrust-dev running error: It is not safe yet to switch 2027:
    pulumi:pulumi:Stack meshtrust-dev **failed** 1 error
Diagnostics:
  kubernetes:core/v1:Namespace (linkerd-namespace):
    warning: a field is deprecated

  pulumi:pulumi:Stack (meshtrust-dev):
    error: It is not safe yet to switch 2027:
      - shop/web-1: its proxy does not trust 2027
      - shop/web-2: its proxy does not trust 2027

Resources:
    4 unchanged

Duration: 2s
"""
DEPLOYED = {"anchors": ["2026"], "signer": "2026"}


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """A stack that steps from 2026 to 2027, whose CLI answers `up` by a script."""
    project = tmp_path / "project"
    (project / "stacks").mkdir(parents=True)
    (project / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    file = project / "stacks" / "Pulumi.dev.yaml"
    file.write_text('config:\n  meshtrust:context: kind-dev\n  meshtrust:anchors: ["2026"]\n')
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "logs"))
    cli.cache_clear()

    async def open_target(_):
        api: Any = None
        stack = Stack("dev", project)
        return Target(api=api, context="kind-dev", namespace="linkerd", stack=stack, deployed=StackOutputs(DEPLOYED))

    monkeypatch.setattr(rotate_command, "open_target", open_target)
    (tmp_path / "up-0").write_text("engine: 7 unchanged\n")
    (tmp_path / "up-1").write_text(REFUSED)

    def with_cli(*, fails):
        path, code = tmp_path / "bin" / "pulumi", int(fails)
        path.parent.mkdir(exist_ok=True)
        answers_version = '[ "$1" = version ] && echo v3.272.0 && exit'
        answers_outputs = 'case "$*" in *"stack output"*) echo "{}"; exit ;; esac'
        path.write_text(f"#!/bin/sh\n{answers_version}\n{answers_outputs}\ncat {tmp_path}/up-{code}\nexit {code}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return project

    return with_cli


def command(project, *arguments):
    return ["rotate", "--stack", "dev", "--to", "2027", "--step", "-C", str(project), *arguments]


def run(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["meshtrust", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_what_the_engine_writes_is_not_shown_and_its_log_is_removed_after_success(stack, tmp_path):
    result = CliRunner().invoke(app, command(stack(fails=False)))
    assert result.exit_code == 0, result.output
    assert "introduce 2027" in result.output
    assert "pulumi up has ended" in result.output
    assert "The step is taken" in result.output
    assert "engine:" not in result.output
    assert list((tmp_path / "logs").iterdir()) == []


@pytest.mark.parametrize("as_json", [False, True])
def test_with_verbose_it_is_shown_and_standard_output_stays_json(stack, as_json):
    result = CliRunner().invoke(app, command(stack(fails=False), "--verbose", *(["--json"] if as_json else [])))
    assert "engine: 7 unchanged" in (result.stderr if as_json else result.stdout)
    if as_json:
        events = [json.loads(line) for line in result.stdout.splitlines()]
        assert [event["event"] for event in events] == ["step", "note", "note", "note", "end"]
        assert events[0] == {
            "event": "step",
            "stack": "dev",
            "text": "introduce 2027",
            "step": "introduce",
            "generations": ["2027"],
        }
        assert (events[-1]["finished"], events[-1]["error"]) == (False, None)


def test_a_log_directory_that_was_named_keeps_the_log(stack, tmp_path):
    CliRunner().invoke(app, command(stack(fails=False), "--log-directory", str(tmp_path / "kept")))
    assert (tmp_path / "kept" / "dev.log").read_text() == "engine: 7 unchanged\n"


def test_a_failed_step_shows_the_engines_errors_and_names_its_log(stack, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, command(stack(fails=True))) == 3
    told = capsys.readouterr()
    [log] = (tmp_path / "logs").glob("*/dev.log")
    assert log.read_text() == REFUSED
    assert told.err.splitlines() == [
        'error: `pulumi up` of stack "dev" failed: It is not safe yet to switch 2027:',
        "  pulumi:pulumi:Stack (meshtrust-dev):",
        "    error: It is not safe yet to switch 2027:",
        "      - shop/web-1: its proxy does not trust 2027",
        "      - shop/web-2: its proxy does not trust 2027",
        f"  The engine's whole output: {log}",
    ]
    assert "Updating (dev)" not in told.out


def test_a_failed_step_is_the_end_of_the_json_lines_with_the_same(stack, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, command(stack(fails=True), "--json")) == 3
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    [log] = (tmp_path / "logs").glob("*/dev.log")
    assert (end["event"], end["finished"]) == ("end", False)
    [outcome] = end["stacks"]
    assert (outcome["state"], outcome["log"]) == ("failed", str(log))
    assert "      - shop/web-1: its proxy does not trust 2027" in [f"  {line}" for line in outcome["engineErrors"]]


def test_an_interrupted_rotation_names_the_log_of_what_was_under_way(stack, tmp_path, monkeypatch, capsys):
    project = stack(fails=False)
    written = Stack.up

    def interrupted(self, write, **options):
        written(self, write, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "up", interrupted)
    assert run(monkeypatch, command(project)) == 130
    [log] = (tmp_path / "logs").glob("*/dev.log")
    assert log.read_text() == "engine: 7 unchanged\n"
    assert f"The engine's output so far: {log.parent}" in capsys.readouterr().err


def test_what_a_step_waits_for_is_listed_once_until_it_changes(stack, monkeypatch):
    workload = Workload(kind="Job", namespace="shop", name="import")
    blockers = [Blocker(subject=f"shop/import-{number}", reason="old", workload=workload) for number in range(7)]
    answers = [blockers, blockers, blockers[:1], []]

    async def find_blockers(*_, **__):
        return answers.pop(0)

    monkeypatch.setattr(rotator, "find_blockers", find_blockers)
    monkeypatch.setattr(rotator, "_PAUSE_SECONDS", 0)
    told = CliRunner().invoke(app, command(stack(fails=False), "--lazy")).stdout
    assert told.count("7 to go, such as shop/import-0 (Job shop/import): old") == 1
    assert told.count("1 to go, such as shop/import-0 (Job shop/import): old") == 1
    assert [f"shop/import-{number} (Job" in told for number in range(7)] == [True] * 5 + [False] * 2
    assert "and 2 more" in told


def test_the_errors_of_the_engine_are_found_by_their_resource():
    assert find_engine_errors(REFUSED.splitlines()) == [
        "pulumi:pulumi:Stack (meshtrust-dev):",
        "  error: It is not safe yet to switch 2027:",
        "    - shop/web-1: its proxy does not trust 2027",
        "    - shop/web-2: its proxy does not trust 2027",
    ]
    assert find_engine_errors(["error: no stack selected"]) == []
    long = [*REFUSED.splitlines()[:12], *(f"      - pod {number}" for number in range(100))]
    assert len(find_engine_errors(long)) == 20


def test_a_stack_named_with_its_organization_has_a_log_in_the_same_directory(tmp_path):
    logs = EngineLogs(tmp_path)
    logs.write("acme/meshtrust/dev", "a line")
    assert logs.keep("acme/meshtrust/dev") == Path(tmp_path / "acme.meshtrust.dev.log")
