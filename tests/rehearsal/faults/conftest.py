import json
import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import libfaketime
import pytest
import yaml

from docs.generate import FAULTS
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.rotation_bench import bench
from tests.rehearsal.stack import NO_CHANGES, UP

WORKLOADS = 2
LEVELS = {"info": "debug", "debug": "info"}
# Where an `up` upgrades Linkerd's release.
RELEASE = "updating kubernetes:helm.sh/v3:Release linkerd-control-plane: begun"
# What differs from run to run, and says nothing of the fault.
_VOLATILE = (
    (r"/tmp/[^\s:\"']*/", "…/"),  # noqa: S108 where a rehearsal has its files
    (r"line \d+ column \d+ \(char \d+\)", "line …"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:…"),
    (r"rehearsal-[a-z0-9-]+", "production"),
    (r"linkerd-identity-[a-z0-9]+-[a-z0-9]+", "linkerd-identity-…"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?( UTC|Z)?", "…"),
    (r"\(pid \d+\)", "(pid …)"),
    (r"\d+ pending operations", "… pending operations"),
    # How a connection to the API server came to its end.
    (r"does not answer: [^.]*\.", "does not answer: …."),
    # What the CLI writes last of all, one of several files.
    (r'\(key "[^"]*"\)', "(key …)"),
    (r"dev-\d+\.[\w.]+", "dev-…"),
    (r"created by \S+", "created by …"),
)


@dataclass(frozen=True)
class Row:
    """Result of a test about a fault.

    Attributes:
        fault: What goes wrong.
        when: When it does.
        happens: What the program and the cluster make of it.
        says: Text that a user reads; empty if there is none.
        kept: What was seen to be as it should in the end.
    """

    fault: str
    when: str
    happens: str
    says: str
    kept: str


def flat(text):
    """Return an output without line breaks and without the parts that differ between runs."""
    for pattern, instead in _VOLATILE:
        text = re.sub(pattern, instead, text)
    return " ".join(text.split())


def said(written, pattern):
    """The words of an output that a pattern finds, as every run has them."""
    found = re.search(pattern, flat(written))
    assert found, f"{pattern} is not in:\n{written}"
    return found.group().strip()


@pytest.fixture
def row(request):
    """Keep what a test found out, with --record-faults; else see that it is what was kept."""
    found = []
    yield lambda **cells: found.append(Row(**cells))
    if not found:
        # The test has failed before, and says so itself.
        return
    [cells] = [vars(entry) for entry in found]
    kept = json.loads(FAULTS.read_text()) if FAULTS.exists() else {}
    name = request.node.name
    if request.config.getoption("--record-faults"):
        kept[name] = cells
        FAULTS.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    else:
        assert kept.get(name) == cells, "record it: make faults, then make docs"


@pytest.fixture(scope="package")
def mesh():
    """A stack with proxies, on a cluster that tests may break as long as they mend it."""
    with bench("faults", {"signer": "2026"}, workloads=WORKLOADS, replicas=1) as made:
        yield made


@pytest.fixture
def pid(mesh):
    """The process of a part of the cluster."""
    return lambda component: int((mesh.cluster.directory / f"{component}.pid").read_text())


@pytest.fixture
def change(mesh):
    """Make a change of Linkerd's release, or of the issuer."""

    def of(what):
        section = _section(mesh, what)
        if what == "linkerd":
            level = (section.get("values") or {}).get("controllerLogLevel", "info")
            mesh.configure(linkerd={**section, "values": {"controllerLogLevel": LEVELS[level]}})
        else:
            now = section.get("duration", "48h")
            mesh.configure(issuer={**section, "duration": "47h" if now == "48h" else "48h"})

    return of


def _section(mesh, name):
    return yaml.safe_load(mesh.file.read_text())["config"].get(f"meshtrust:{name}") or {}


@pytest.fixture
def unhurt(mesh):
    """Whatever befell it, the stack is as its configuration says in the end, and the mesh as it was."""
    before = mesh.failed()
    yield
    if mesh.engine(*UP, *NO_CHANGES).returncode != 0:
        result = mesh.engine(*UP, *NO_CHANGES)
        assert result.returncode == 0, result.stdout + result.stderr
    wait_until(lambda: mesh.cli("verify").returncode == 0, 60)
    assert mesh.failed() == before


def faulty(project):
    """The same project, whose CLI meets with what the environment says."""
    script = project.directory / "faulty-pulumi"
    command = shlex.join([sys.executable, "-m", "tests.rehearsal.faults.faulty_cli", str(project.cli.path)])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return replace(project, cli=replace(project.cli, path=script))


def meet(project, *command, **environment):
    """Run one of the engine's commands, to which something happens; return its exit code and what it wrote."""
    met = faulty(replace(project, environment={**project.environment, **environment}))
    result = met.capture(*command)
    assert "Traceback" not in result.stdout + result.stderr, result.stdout + result.stderr
    return result.returncode, result.stdout + result.stderr


def take_away_what_a_kill_left(project):
    """Do what `pulumi cancel` does, without the second that it takes to start, and what the runbook has."""
    state = project.directory / "state" / ".pulumi"
    for lock in (state / "locks").rglob("*.json"):
        lock.unlink()
    for attributes in state.rglob("*.attrs"):
        if attributes.stat().st_size == 0:
            attributes.unlink()


def clock(hours):
    """The environment in which a process has the time of another hour."""
    library = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{hours:+d}h", "DONT_FAKE_MONOTONIC": "1"}
