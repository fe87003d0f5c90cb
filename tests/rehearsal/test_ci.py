"""The set-up of Pulumi Deployments, with the CLI that it calls."""

import os
import subprocess

import pytest

from rehearsal.pulumi.cli import find_cli
from rehearsal.workspace import REPOSITORY


@pytest.mark.parametrize("role", ["cluster", "anchor"])
def test_the_cli_knows_each_option_that_sets_pulumi_deployments_up(tmp_path, role):
    """The CLI reads the options before it shows its help, and refuses one that it does not know."""
    asked = tmp_path / "asked"
    stand_in = tmp_path / "bin" / "pulumi"
    stand_in.parent.mkdir()
    real = find_cli().path
    stand_in.write_text(
        f'#!/bin/sh\necho "$@" >> {asked}\ncase $1 in\n'
        f'  config) {real} "$@" --help > /dev/null && echo {role} ;;\n  *) exec {real} "$@" --help ;;\nesac\n'
    )
    stand_in.chmod(0o755)
    script = REPOSITORY / "ci" / "pulumi-deployments" / "set-up.sh"
    path = f"{stand_in.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", script, "production"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    asked_for, edited, deployed, watched = asked.read_text().splitlines()
    assert asked_for.startswith("config get role")
    assert edited.startswith("deployment settings edit")
    assert ("--pre-run-command aws eks" in edited) == (role == "cluster"), "an anchor stack touches no cluster"
    assert "--push-to-deploy" in edited
    assert deployed.startswith("stack schedule new --stack production --kind raw --operation update --cron")
    assert watched.startswith("stack schedule new --stack production --kind drift --cron")
