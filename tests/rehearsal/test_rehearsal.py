"""`make rehearse`: it goes through, and says so when something does not hold."""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from rehearsal.cluster import Cluster
from rehearsal.rehearse import Rehearsal
from rehearsal.workspace import REPOSITORY


@pytest.fixture
def run():
    """Run a module of the rehearsal as a user does; its clusters are apart from those of this machine."""
    with tempfile.TemporaryDirectory(prefix="r-") as apart:

        def start(*arguments):
            command = [sys.executable, "-m", *arguments]
            environment = {**os.environ, "TMPDIR": apart}
            return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)

        yield start
        left = set(Path(apart).rglob("*")) - {Path(apart) / f"meshtrust-{os.getuid()}"}
        assert not left, "a cluster or a temporary file was left"


@pytest.mark.parametrize("stack", ["dev", *(pytest.param(name, marks=pytest.mark.soak) for name in ("guide", "vault"))])
def test_a_stack_lives_through_its_rehearsal(stack, linkerd_charts):
    console = Console(record=True, width=120, file=io.StringIO())
    name = f"{stack}-{os.getpid()}"
    Rehearsal(stack, console, linkerd_charts=linkerd_charts, name=name).run()
    text = console.export_text()
    assert "All of it held" in text
    assert "event IssuerUpdated" in text
    assert ("intermediate" in text) == (stack == "dev")
    assert name not in [cluster.name for cluster in Cluster.running()]


def test_a_rehearsal_that_does_not_go_through_fails_and_leaves_nothing(run, tmp_path):
    result = run("rehearsal", "rehearse", "dev", "--charts", str(tmp_path))
    assert result.returncode == 1
    assert f'meshtrust:linkerd.charts is "{tmp_path}", where there is no linkerd-crds/Chart.yaml' in result.stdout
    assert result.stderr.strip() == "error: `up` failed; what it wrote is above."
    assert "All of it held" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rehearsal", "rehearse", "nowhere"], 1, 'error: Stack "nowhere" is not in stacks/. Use one of: '),
        (["rehearsal", "preview", "nowhere"], 1, 'error: Stack "nowhere" is not in stacks/. Use one of: '),
        (["rehearsal", "rehearse", "--charts", "/nowhere"], 2, "does not exist"),
        (["rehearsal", "watch"], 2, "No such command 'watch'"),
        (["rehearsal.cluster", "stop", "nowhere"], 1, "error: No cluster named nowhere is running (running: none)."),
        (["rehearsal.cluster", "start", "UPPER"], 1, 'error: "UPPER" is not a name of a cluster.'),
        (["rehearsal.cluster", "start"], 2, "Missing argument"),
    ],
)
def test_a_command_that_cannot_be_served_gives_one_message(run, arguments, code, message):
    result = run(*arguments)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_preview_shows_the_plan_of_a_stack_without_a_cluster(run):
    result = run("rehearsal", "preview", "production")
    assert result.returncode == 0, result.stderr
    assert re.search(r"(?m)^\d+ to create\. Nothing was changed, and no cluster was asked\.$", result.stdout)
    assert result.stdout.index("the root that every proxy trusts") < result.stdout.index("Linkerd's control plane")
