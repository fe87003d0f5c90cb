"""`make rehearse KEEP=1`: after the commands that it prints, `pulumi` and `meshtrust` work on the stack it leaves."""

import io
import os
import subprocess

import pytest
from rich.console import Console

from rehearsal.cluster import Cluster
from rehearsal.rehearse import Rehearsal
from rehearsal.workspace import REPOSITORY

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def shell(linkerd_charts):
    """Run commands in a shell that has done what was printed."""
    console = Console(record=True, width=100, file=io.StringIO())
    name = f"kept-{os.getpid()}"
    try:
        Rehearsal("dev", console, linkerd_charts=linkerd_charts, name=name, keep=True).run()
        printed = console.export_text().splitlines()
        first = next(number for number, line in enumerate(printed) if line.startswith("cd "))
        commands = printed[first : printed.index("", first)]

        def run(command):
            return subprocess.run(
                ["sh", "-ec", "\n".join([*commands, command])],
                cwd=REPOSITORY,
                env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
                capture_output=True,
                text=True,
                check=False,
            )

        yield run
    finally:
        Cluster.attach(name).stop()


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("pulumi stack", 0, "Current stack is dev"),
        ("pulumi preview --non-interactive --expect-no-changes", 0, "unchanged"),
        ("pulumi up --yes --non-interactive --expect-no-changes", 0, "unchanged"),
        ("meshtrust status --stack dev", 0, "trust anchor"),
        ("meshtrust plan --stack dev --to 2027", 0, "2027"),
        ("meshtrust fleet status --anchor-stack dev", 3, "dev"),
        ("meshtrust rotate --stack dev --to 2027", 0, "2027"),
        ("meshtrust verify --stack dev", 0, ""),
    ],
)
def test_what_is_printed_leads_to_the_stack(shell, command, code, said):
    done = shell(command)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
