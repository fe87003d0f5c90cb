"""`status --until converged`: stacks are waited for by the reports in their outputs, and no cluster is asked."""

import asyncio
import json
import time

import pytest
from typer.testing import CliRunner

from meshtrust.commands.cli import app
from meshtrust.stacks import convergence
from meshtrust.stacks.progress import BlockedError
from meshtrust.stacks.stack import Stack, StackError, cli
from tests.recorder import REPOSITORY

WEB = "shop/web-1: its proxy does not trust 2027"
AT_GOAL = {
    "goal": {"anchors": ["2027"], "signer": "2027"},
    "phase": "steady",
    "next": "",
    "waitingFor": {"count": 0, "first": []},
    "converged": True,
    "since": "2026-11-20T08:00:00+00:00",
}
WAITS = {**AT_GOAL, "phase": "introduce", "next": "switch-2027", "waitingFor": {"count": 2, "first": [WEB]}}
OWNED = {**AT_GOAL, "goal": {"anchors": ["2027"], "signer": ""}}
OLD_GOAL = {**AT_GOAL, "goal": {"anchors": ["2026"], "signer": "2026"}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A fleet of an anchor stack, east and west with the goal 2027, and a `pulumi` that has a file with each's outputs.

    The outputs of a stack move on by one each time that they are read, and stay at the last.
    """
    cli.cache_clear()
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    texts = {
        "anchor": 'meshtrust:role: anchor\n  meshtrust:clusters: [east, west]\n  meshtrust:anchors: ["2027"]\n',
        **dict.fromkeys(
            ("east", "west"),
            'meshtrust:anchorStack: anchor\n  meshtrust:anchors: ["2027"]\n  meshtrust:signer: "2027"\n',
        ),
    }
    for name, text in texts.items():
        (tmp_path / "stacks" / f"Pulumi.{name}.yaml").write_text(f"config:\n  {text}")
    path = tmp_path / "bin" / "pulumi"
    path.parent.mkdir()
    path.write_text(
        f"""#!/bin/sh
[ "$1" = version ] && echo v3.276.0 && exit
for argument; do [ "$last" = --stack ] && stack="$argument"; last="$argument"; done
cd {tmp_path}
cat "$stack.1.json" || exit 1
[ -e "$stack.2.json" ] && mv "$stack.2.json" "$stack.1.json"
exit 0
"""
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    yield tmp_path
    cli.cache_clear()


def leave(project, stack, *reports):
    for number, report in enumerate(reports, start=1):
        is_report = report is not None and "converged" in report
        outputs = {"anchors": report["goal"]["anchors"], "rotation": report} if is_report else report
        (project / f"{stack}.{number}.json").write_text("no JSON" if outputs is None else json.dumps(outputs))


def status(project, *arguments, fleet=False):
    command = ["fleet", "status"] if fleet else ["status", "--stack", "east"]
    return CliRunner().invoke(app, [*command, "--until", "converged", "-C", str(project), *arguments])


def test_a_stack_at_its_goal_is_not_waited_for(project):
    leave(project, "east", AT_GOAL)
    result = status(project, "--timeout", "0")
    assert (result.exit_code, result.output) == (0, "Done.\n")


def test_a_stack_is_waited_for_until_a_run_reports_the_goal(project):
    leave(project, "east", WAITS, AT_GOAL)
    result = status(project, "--timeout", "60")
    assert result.exit_code == 0
    assert f"Waiting for east: next step switch-2027, waits for 2 since 2026-11-20 08:00 UTC: {WEB}; and 1 more" in (
        result.output
    )
    assert result.output.endswith("Done.\n")


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (WAITS, f"next step switch-2027, waits for 2 since 2026-11-20 08:00 UTC: {WEB}; and 1 more"),
        (
            {**WAITS, "waitingFor": {"count": 0, "first": []}},
            "next step switch-2027, the next run takes it if it is safe",
        ),
        # The last run reached a goal, which is not the one that was merged since.
        (OLD_GOAL, "a run with the goal in Pulumi.east.yaml (the goal of the last run was anchors 2026, signer 2026)"),
        ({}, "its first deployment"),
        ({"anchorStack": "anchor", "requests": {"2027": "..."}}, "its first deployment"),
    ],
)
def test_what_is_still_waited_for_is_told_when_the_time_is_over(project, report, says):
    leave(project, "east", report)
    result = status(project, "--timeout", "0")
    assert isinstance(result.exception, BlockedError), "the command line ends with exit code 4"
    assert f"The goal is not reached after 0 s. This waits for east: {says}" in " ".join(str(result.exception).split())


def test_the_wait_ends_with_its_time_and_looks_once_more_then(project, monkeypatch):
    monkeypatch.setattr(convergence, "_LONGEST_PAUSE_SECONDS", 600.0)
    leave(project, "east", WAITS)
    began = time.monotonic()
    with pytest.raises(BlockedError):
        asyncio.run(convergence.wait_until_converged([Stack("east", project)], 1.5, lambda _: None))
    assert time.monotonic() - began < 30


def test_outputs_of_an_earlier_version_are_an_error_and_not_a_goal(project):
    leave(project, "east", {"anchors": ["2027"], "signer": "2027", "rotation": None})
    result = status(project, "--timeout", "60")
    assert isinstance(result.exception, StackError), "the command line ends with exit code 3"
    assert 'stack "east" have no report' in str(result.exception)
    assert "pulumi up --stack east" in str(result.exception)


def test_a_backend_that_fails_ends_the_first_look_and_no_later_one(project):
    result = status(project, "--timeout", "60")
    assert isinstance(result.exception, StackError)
    leave(project, "east", WAITS)
    told = []

    def notify(line):
        told.append(line)
        (project / "east.1.json").unlink(missing_ok=True)
        if "an answer of the backend" in line:
            leave(project, "east", AT_GOAL)

    asyncio.run(convergence.wait_until_converged([Stack("east", project)], 60, notify))
    assert len(told) == 2


def test_a_fleet_is_waited_for_as_a_whole(project):
    leave(project, "anchor", {**OWNED, "next": "retire-2026", "waitingFor": {"count": 1, "first": ["west trusts"]}})
    leave(project, "east", AT_GOAL)
    leave(project, "west", WAITS)
    result = status(project, "--timeout", "0", fleet=True)
    assert isinstance(result.exception, BlockedError)
    assert "waits for anchor: next step retire-2026" in str(result.exception)
    assert "; west: next step switch-2027" in str(result.exception)
    assert "east" not in str(result.exception)
    leave(project, "anchor", OWNED)
    leave(project, "west", AT_GOAL)
    result = status(project, "--json", fleet=True)
    assert (result.exit_code, json.loads(result.output)["finished"]) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "--until", "converged"], "waits for a stack"),
        (["status", "--until", "converged", "--stack", "east", "--context", "x"], "does not go with --context"),
        (["status", "--stack", "east", "--timeout", "5"], "is for --until"),
        (["fleet", "status", "--until", "converged", "--html", "page.html"], "does not go with --html"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(project, arguments, says):
    result = CliRunner().invoke(app, [*arguments, "-C", str(project)])
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", "").split())
