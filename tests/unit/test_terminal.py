"""Every output survives any encoding and any width: nothing ends half-way because of a message."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from meshtrust.commands.display.fleet_table import show_fleet
from meshtrust.commands.display.renderers import LiveRenderer, PlainRenderer
from meshtrust.commands.status import show_findings, show_inspection
from meshtrust.fleet.view import FleetView
from meshtrust.linkerd.external_peers import Unseen
from meshtrust.linkerd.links import Link
from meshtrust.linkerd.pods import Workload
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.inspection import MinimumLifetimes, judge
from meshtrust.stacks.progress import Progress
from tests import fleet_views
from tests.certificates import make_certificate
from tests.fleet_views import view
from tests.recorder import REPOSITORY
from tests.unit.every_command import CODES, COMMANDS
from tests.unit.test_inspection import NEW, OLD, inspection, mesh, pod, prints

# What the environment of a person or of a CI system may be like.
ENVIRONMENTS = {
    "ascii": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    "latin": {"PYTHONIOENCODING": "iso-8859-1"},
    "no locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "no colour": {"NO_COLOR": "1"},
    "narrow": {"COLUMNS": "60"},
}
WRITES = """
import sys
from meshtrust.commands.cli import accept_every_text
from meshtrust.commands.options import console
from meshtrust.commands.status import show_findings
from meshtrust.lint import Finding
import typer
accept_every_text()
show_findings([Finding(subject="Größe 界 \\udcff", wrong="→ is · wrong", fix="█ it")], console())
show_findings([], console())
console().rule("Größe")
typer.echo("→ 界 \\udcff")
print("the end")
"""


def ascii_only(program):
    """A program whose texts an interpreter reads alike in any locale."""
    return program.encode("ascii", "backslashreplace")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_text_is_written_whatever_the_encoding_is(environment):
    written = subprocess.run(
        [sys.executable, "-"],
        input=ascii_only(WRITES),
        env={**os.environ, **ENVIRONMENTS[environment]},
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert written.returncode == 0, written.stderr.decode(errors="replace")
    assert written.stdout.rstrip().endswith(b"the end")
    assert b"Nothing needs attention." in written.stdout


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_command_ends_by_its_own_message_whatever_the_encoding_is(environment, tmp_path):
    (tmp_path / "Pulumi.yaml").write_text("name: meshtrust\n")
    ran = subprocess.run(
        [sys.executable, "-m", "meshtrust", "status", "--stack", "größe", "--cwd", str(tmp_path)],
        env={**os.environ, **ENVIRONMENTS[environment]},
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 3, ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"There is no stack" in ran.stderr


def drawn(width, show):
    console = Console(width=width, record=True, force_terminal=False, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    show(console)
    return console.export_text()


def many(count):
    pods = [pod(f"web-{number}") for number in range(count)]
    identity = [pod(f"identity-{number}", component="linkerd-identity") for number in range(11)]
    roots = (OLD.certificate, NEW.certificate)
    issuer = make_certificate("identity", issuer=OLD, days=2)
    return mesh(
        roots=roots, issuer=(issuer.certificate,), pods=(*identity, *pods, pod("x-1", anchors=prints(OLD, NEW)))
    )


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("named", [True, False])
def test_numbers_are_whole_at_every_width(width, named):
    looked_at = inspection(many(400), names={} if not named else dict.fromkeys(prints(OLD), f"2026-{'x' * 30}"))
    text = drawn(width, lambda console: show_inspection(looked_at, console))
    assert "…" not in text, text
    for number in ("3650 days", "48 hours", "served 11/11", "411 proxies", "1 proxies"):
        assert number in text, text
    assert all(len(line) <= width for line in text.splitlines())
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d", text)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_numbers_of_a_fleet_are_whole_at_every_width(width):
    clusters = [view("production-in-the-west-of-europe-2"), view("east")]
    roots = {"2026": fleet_views.OLD.certificate, "2027": fleet_views.NEW.certificate}
    fleet = FleetView(anchor_stack="anchor", roots=roots, clusters=clusters, links=(), now=clusters[0].inspection.now)
    text = drawn(width, lambda console: show_fleet(fleet, console))
    for number in ("3650 days", "2 of 2"):
        assert number in text, text


def test_a_stack_that_was_not_deployed_yet_is_told_so_and_not_that_none_was_named():
    fresh = inspection(trust=None, deployed={})
    text = drawn(80, lambda console: show_inspection(fresh, console, "acme/meshtrust/prod.eu_2"))
    assert "Stack acme/meshtrust/prod.eu_2 has not been deployed yet: pulumi up" in " ".join(
        text.replace("│", "").split()
    )
    assert "No stack was named" in drawn(80, lambda console: show_inspection(fresh, console))


def test_only_phases_that_there_are_are_shown():
    text = drawn(80, lambda console: show_inspection(inspection(), console))
    assert "steady" in text
    assert "retire" not in text


def test_who_cannot_be_asked_from_the_cluster_is_named_by_status():
    link = Link(namespace="linkerd-multicluster", name="west", target="west")
    gateway = Workload(kind="Deployment", namespace="linkerd-multicluster", name="linkerd-gateway")
    unseen = Unseen(external=("shop/vm-1",), links=(link,), gateways=(gateway,))
    looked_at = inspection(unseen=unseen)
    subjects = [
        "ExternalWorkload shop/vm-1",
        "Link linkerd-multicluster/west",
        "Deployment linkerd-multicluster/linkerd-gateway",
    ]
    text = drawn(80, lambda console: show_inspection(looked_at, console))
    assert all(f"- {subject}" in text for subject in subjects), text
    assert looked_at.as_json()["unseen"] == subjects
    text = drawn(80, lambda console: show_inspection(inspection(unseen=None), console))
    assert "it cannot be listed" in " ".join(text.replace("│", "").split())
    assert "not seen from here" not in drawn(80, lambda console: show_inspection(inspection(), console))


def test_what_a_message_holds_is_never_taken_for_markup():
    looked_at = replace(inspection(), context="kind[/]dev [bold]", now=inspection().now + timedelta(days=400))
    findings = judge(looked_at, MinimumLifetimes())

    def draw(console):
        show_inspection(looked_at, console)
        show_findings(findings, console)

    text = drawn(200, draw)
    assert "kind[/]dev [bold]" in text
    assert json.dumps(text)


# Each has several conditions, since they are independent: a run of all commands takes seconds.
TERMINALS: dict[str, dict[str, str]] = {
    "narrow log without a locale": {
        "COLUMNS": "60",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
    },
    "log in ISO-8859-1": {"COLUMNS": "80", "PYTHONIOENCODING": "iso-8859-1"},
    "terminal": {"COLUMNS": "80", "TERM": "xterm-256color"},
    "narrow terminal without colour": {"COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"},
}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module", params=TERMINALS)
def shown(request, tmp_path_factory):
    """Output of every command in an environment, with the exit codes and the texts that each has to show."""
    directory = tmp_path_factory.mktemp("every")
    is_terminal = "TERM" in TERMINALS[request.param]
    reader, writer = pty.openpty() if is_terminal else os.pipe()
    environment = {key: value for key, value in os.environ.items() if key not in ("TERM", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.every_command", str(directory)],
        env={**environment, **TERMINALS[request.param]},
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    written = bytearray()
    # The end of a pty is an error of its reader.
    with contextlib.suppress(OSError), open(reader, "rb", buffering=0) as file:  # noqa: PTH123 a descriptor
        while block := file.read(65536):
            written += block
    encoding = TERMINALS[request.param].get("PYTHONIOENCODING", "utf-8")
    text = _ESCAPES.sub("", written.decode(encoding)).replace("\r\n", "\n")
    assert process.wait() == 0, text
    parts = re.split(r"^#### (.*)\n", text, flags=re.MULTILINE)[1:]
    result = json.loads((directory / "result.json").read_text())
    return SimpleNamespace(
        is_terminal=is_terminal,
        width=int(TERMINALS[request.param]["COLUMNS"]),
        outputs=dict(zip(parts[::2], parts[1::2], strict=True)),
        **result,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_alike_and_cuts_nothing_that_matters_on_every_terminal(shown, command):
    text = shown.outputs[command]
    assert shown.codes[command] == CODES.get(command, 0), text
    assert "Traceback" not in text
    for fact in shown.facts.get(command, []):
        assert fact in text, text
    if not shown.is_terminal:
        # At a terminal, the line that the engine wrote last is cut, and drawn over.
        assert "…" not in text
        assert "~" not in text.replace(" ~  kubernetes", ""), "the substitute"
    assert all(len(line) <= shown.width for line in text.splitlines() if line.startswith(("│", "|"))), text


@pytest.mark.parametrize("renderer", [LiveRenderer, PlainRenderer])
def test_progress_shows_the_last_workload_that_is_ready(renderer):
    def show(console):
        made = renderer(console)
        made.start()
        progress = Progress(made.show, EngineLogs())
        progress.phase("switch", ["west"])
        progress.began("west")
        progress.of("west").note("1/2 Deployment shop/web is ready (3 s)")
        made.stop()

    assert "1/2 Deployment shop/web is ready (3 s)" in drawn(120, show)
