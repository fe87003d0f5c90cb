"""Work on a fleet: who belongs to it, its waves, the effect of a failure, the messages, and the page."""

import asyncio
import contextlib
import io
import json
import re
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from meshtrust.commands import fleet as fleet_command
from meshtrust.commands.cli import app
from meshtrust.commands.display.fleet_table import show_fleet
from meshtrust.commands.display.renderers import JsonRenderer, LiveRenderer, PlainRenderer
from meshtrust.commands.fleet import run as run_command
from meshtrust.fleet.checks import check_clusters, check_pledge
from meshtrust.fleet.members import find_fleet
from meshtrust.fleet.page import draw_page
from meshtrust.fleet.rotation_waves import _drop_others
from meshtrust.fleet.state import FleetState
from meshtrust.fleet.view import ClusterView, FleetView, LinkView
from meshtrust.fleet.waves import FleetError, run_waves, split_waves
from meshtrust.linkerd.links import Link
from meshtrust.lint import Finding
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.report import RotationReport
from meshtrust.rotation.steps import Step, Trust
from meshtrust.stacks import rotator
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import BlockedError, Progress, StackProgress
from meshtrust.stacks.rotator import RotationOptions, deploy_step, run_step
from meshtrust.stacks.stack import Stack, StackError
from meshtrust.stacks.target import Target
from tests.fleet_views import NEW, OLD, view
from tests.recorder import REPOSITORY


def make_project(directory, **stacks):
    (directory / "stacks").mkdir()
    (directory / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    for name, config in stacks.items():
        named = {f"meshtrust:{key}": value for key, value in config.items()}
        (directory / "stacks" / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": named}))
    return directory


ANCHOR = {"role": "anchor", "anchors": ["2026"], "clusters": ["east", "west"]}
CLUSTER = {"anchorStack": "anchor", "anchors": ["2026"]}


def test_a_fleet_is_the_anchor_stack_and_those_that_name_it(tmp_path):
    alone = {"anchors": ["2026"], "context": "dev"}
    whole = {**CLUSTER, "anchorStack": "organization/meshtrust/anchor"}
    fleet = find_fleet(make_project(tmp_path, anchor=ANCHOR, east=CLUSTER, west=whole, dev=alone))
    assert fleet.anchor.name == "anchor"
    assert [stack.name for stack in fleet.clusters] == ["east", "west"]


@pytest.mark.parametrize(
    ("stacks", "named", "message"),
    [
        ({"dev": {"anchors": ["2026"]}}, "", "has meshtrust:role: anchor, so that there is no fleet"),
        ({"a": ANCHOR, "b": ANCHOR}, "", "There are several anchor stacks: a, b. Name one: --anchor-stack"),
        ({"anchor": ANCHOR}, "other", 'Stack "other" is no anchor stack'),
        ({"anchor": ANCHOR, "east": CLUSTER}, "", 'lists the cluster "west", and there is no stack of that name'),
        (
            {"anchor": {**ANCHOR, "clusters": []}, "east": CLUSTER},
            "",
            'Stack "east" has meshtrust:anchorStack "anchor", whose meshtrust:clusters does not list it',
        ),
        ({"anchor": {**ANCHOR, "clusters": "east"}}, "", "is no list. Write the names of stacks"),
    ],
)
def test_files_that_do_not_agree_are_told_with_the_fix(tmp_path, stacks, named, message):
    with pytest.raises(StackError) as caught:
        find_fleet(make_project(tmp_path, **stacks), named)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (12, [1, 2, 9]), (50, [1, 5, 44])]
)
def test_waves_are_one_then_a_tenth_then_the_rest(tmp_path, count, sizes):
    stacks = [Stack(str(number), tmp_path) for number in range(count)]
    waves = split_waves(stacks)
    assert [len(wave) for wave in waves] == sizes
    assert [stack for wave in waves for stack in wave] == stacks


def run(names, work, parallel=4):
    """Work on stacks; return the JSON output, and the error."""
    written: list[str] = []
    progress = Progress(JsonRenderer(written.append).show, EngineLogs())
    error = None
    stacks = [Stack(name, REPOSITORY) for name in names]
    try:
        asyncio.run(run_waves("Do it", stacks, work, parallel=parallel, progress=progress))
    except FleetError as raised:
        error = raised
    progress.end(finished=error is None, error=str(error or ""))
    return [json.loads(line) for line in written], error


def test_a_failure_lets_those_that_began_end_and_begins_no_other():
    names = [f"c{number:02}" for number in range(30)]
    ended = []

    async def work(stack, _):
        await asyncio.sleep(0)
        if stack.name == "c02":
            msg = "It is broken"
            raise StackError(msg)
        await asyncio.sleep(0)
        ended.append(stack.name)

    told, error = run(names, work, parallel=3)
    states = {entry["stack"]: entry["state"] for entry in told[-1]["stacks"]}
    assert states["c00"] == states["c01"] == states["c03"] == "done"
    assert states["c02"] == "failed"
    assert [name for name in names if states[name] == "not begun"] == names[4:]
    assert ended == ["c00", "c01", "c03"]
    assert error.exit_code == 1
    assert "Do it did not end well for c02. 26 were not begun. Put it right and run the same command again" in str(
        error
    )


def test_no_more_than_the_limit_are_worked_on_at_a_time():
    running, most = 0, 0

    async def work(*_):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    told, error = run([f"c{number}" for number in range(40)], work, parallel=3)
    assert (most, error) == (3, None)
    assert told[-1]["finished"] is True
    assert {entry["state"] for entry in told[-1]["stacks"]} == {"done"}


def test_what_has_to_wait_is_told_by_another_exit_code_than_what_failed():
    blocker = Blocker(subject="shop/job-1", reason="its proxy does not trust 2027")

    async def work(*_):
        msg = "It is not safe yet"
        raise BlockedError(msg, [blocker])

    told, error = run(["east"], work)
    assert error.exit_code == 4
    [outcome] = told[-1]["stacks"]
    assert (outcome["state"], outcome["blockers"]) == ("blocked", [str(blocker)])


@pytest.mark.parametrize("as_json", [True, False], ids=["machine", "person"])
@pytest.mark.parametrize(("says", "fails"), [(True, False), (False, True), (True, True)])
def test_a_temporary_log_stays_only_where_someone_is_told_of_it(  # noqa: PLR0917 three are what differs
    says, fails, as_json, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def work_on(_, progress):
        if says:
            progress.write_engine_line("the engine says something")
        if fails:
            msg = "`pulumi up` failed: a chart is missing"
            raise StackError(msg)

    async def work(progress):
        await run_waves("Do it", [Stack("east", tmp_path)], work_on, parallel=1, progress=progress)

    with pytest.raises(typer.Exit) if fails else contextlib.nullcontext():
        run_command(work, 1, as_json=as_json)
    told = capsys.readouterr().out
    logs = list(tmp_path.glob("meshtrust-*/*"))
    assert [path.name for path in logs] == (["east.log"] if says and fails else [])
    assert all(str(path) in told for path in logs)
    assert list(tmp_path.iterdir()) == [path.parent for path in logs]


def test_logs_that_cannot_be_kept_are_told_before_anything_is_done(tmp_path):
    (tmp_path / "logs").write_text("a file")

    async def work(_):
        pytest.fail("it has begun")

    with pytest.raises(
        StackError, match=r'--log-directory is ".*logs", where no log can be written: File exists\. Name'
    ):
        run_command(work, 1, as_json=True, log_directory=tmp_path / "logs")
    with pytest.raises(StackError, match="where no log can be written: Not a directory"):
        run_command(work, 1, as_json=True, log_directory=tmp_path / "logs" / "below")


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    async def inspect_fleet(*_):
        return FleetView(anchor_stack="anchor", roots={}, clusters=[], now=datetime.now(UTC))

    monkeypatch.setattr(fleet_command, "inspect_fleet", inspect_fleet)
    project = make_project(tmp_path, anchor=ANCHOR, east=CLUSTER, west=CLUSTER)
    page = tmp_path / "missing" / "fleet.html"
    result = CliRunner().invoke(app, ["fleet", "status", "-C", str(project), "--html", str(page)])
    assert (result.exit_code, result.stderr) == (
        3,
        f"error: the page cannot be written to {page}: No such file or directory\n",
    )


@pytest.mark.parametrize("command", [["verify", "--context", "dev"], ["fleet", "verify"]])
@pytest.mark.parametrize("option", ["--anchor-days", "--issuer-hours"])
def test_more_life_than_any_certificate_has_is_wrong_usage(command, option):
    result = CliRunner().invoke(app, [*command, option, "99999999999999"])
    assert (result.exit_code, option in result.stderr) == (2, True)


@pytest.mark.parametrize("renderer", [PlainRenderer, LiveRenderer])
def test_a_person_is_told_what_went_wrong_and_where_the_engines_output_is(renderer, tmp_path):
    console = Console(record=True, width=100, force_terminal=renderer is LiveRenderer, file=io.StringIO())
    logs = EngineLogs(tmp_path / "logs")
    logs.prepare()
    made = renderer(console)
    progress = Progress(made.show, logs)

    async def work(stack, own):
        own.write_engine_line("the engine says something")
        own.note("the engine is started")
        if stack.name == "east":
            own.warn("a Link leads elsewhere")
            own.note("the engine goes on")
        if stack.name == "west":
            msg = "`pulumi up` failed: a chart is missing"
            raise StackError(msg)

    stacks = [Stack(name, tmp_path) for name in ("east", "west")]
    made.start()
    running = run_waves("Deploy the clusters", stacks, work, parallel=1, progress=progress)
    with pytest.raises(FleetError) as caught:
        asyncio.run(running)
    progress.end(finished=False, error=str(caught.value))
    text = re.sub(r"\s+", " ", console.export_text())
    assert "Deploy the clusters" in text
    assert "east: a Link leads elsewhere" in text, "whatever came after it"
    assert "west: `pulumi up` failed: a chart is missing" in text
    assert f"The engine's whole output: {tmp_path}/logs/west.log" in text
    assert "1 done, 1 failed" in text
    assert (tmp_path / "logs" / "west.log").read_text() == "the engine says something\n"
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0, "others may not read it"


def test_what_is_asked_for_and_not_signed_yet_is_seen_from_the_outputs():
    anchor = StackOutputs({"intermediates": {"east": {"2026": "pem"}}})
    clusters = {
        "east": StackOutputs({"requests": {"2026": "r", "2027": "r"}}),
        # The anchor stack has lost what it signed; the cluster has it still.
        "west": StackOutputs({"requests": {"2026": "r"}, "intermediates": {"2026": "pem"}}),
    }
    state = FleetState(anchor=anchor, clusters=clusters, missing=frozenset())
    assert (sorted(state.unsigned("east")), sorted(state.unsigned("west"))) == (["2027"], [])
    assert state.to_sign == ["east"]


def test_what_was_told_and_not_passed_on_yet_is_seen_from_the_outputs():
    """The anchor stack may call a cluster by the whole name of its stack."""
    told = {"stamp": "new", "accepts": ["2026"], "released": []}
    passed_on = {"organization/meshtrust/east": told, "west": {**told, "stamp": "old"}}
    anchor = StackOutputs({"clusters": ["organization/meshtrust/east", "west"], "pledges": passed_on})
    clusters = {
        "east": StackOutputs({"pledge": told}),
        "west": StackOutputs({"pledge": told}),
        "late": StackOutputs({}),
    }
    assert FleetState(anchor=anchor, clusters=clusters, missing=frozenset()).to_pass_on == ["west"]


NAMES = ["2026", "2027"]


class ClusterStack:
    """The stack of a cluster, whose run tells its fleet that it is ready, and takes no step yet."""

    name = "east"
    file = Path("stacks/Pulumi.east.yaml")
    configured = Trust(anchors=("2026", "2027"), signer="2026")
    reconciles = True

    def setting(self, key):
        return {"anchorStack": "anchor"}[key]

    def set_goal(self, goal):
        self.configured = goal

    def configure(self, trust):
        self.configured = trust

    def up(self, write, *, refresh=False, only_pledges=False):  # noqa: ARG002 as Stack has it
        write("told the fleet" if only_pledges else "deployed")

    def outputs(self):
        return {"anchors": ["2026", "2027"], "signer": "2026"}


def engine_lines(lines):
    """Report to nobody, but for what the engine writes."""

    class Lines(EngineLogs):
        def write(self, _, line):
            lines.append(line)

    return StackProgress("east", lambda _: None, Lines())


def test_a_cluster_that_has_told_its_fleet_first_waits_for_the_anchor_stack(monkeypatch):
    async def restart_until_safe(*_):
        """Find everything ready."""

    monkeypatch.setattr(rotator, "restart_until_safe", restart_until_safe)
    stack: Any = ClusterStack()
    api: Any = None
    lines: list[str] = []
    target = Target(api=api, context="", namespace="linkerd", stack=stack, deployed=StackOutputs(stack.outputs()))
    after = Trust(anchors=("2026", "2027"), signer="2027")
    step = Step(kind="switch", generations=("2027",), before=stack.configured, after=after)
    with pytest.raises(
        BlockedError, match=r"has pledged to its fleet .* The anchor stack passes that on: pulumi up --stack anchor"
    ):
        asyncio.run(run_step(target, step, RotationOptions(), engine_lines(lines)))
    assert (stack.configured, lines) == (after, ["deployed"])


@pytest.mark.parametrize(("only_pledges", "line"), [(True, "told the fleet"), (False, "deployed")])
def test_a_cluster_is_made_ready_by_a_run_that_takes_no_step(monkeypatch, only_pledges, line):
    async def restart_until_safe(*_):
        """Find everything ready."""

    monkeypatch.setattr(rotator, "restart_until_safe", restart_until_safe)
    stack: Any = ClusterStack()
    api: Any = None
    lines: list[str] = []
    target = Target(api=api, context="", namespace="linkerd", stack=stack, deployed=StackOutputs(stack.outputs()))
    step = Step(
        kind="switch",
        generations=("2027",),
        before=stack.configured,
        after=Trust(anchors=("2026", "2027"), signer="2027"),
    )
    asyncio.run(deploy_step(target, step, RotationOptions(), engine_lines(lines), only_pledges=only_pledges))
    assert lines == [line]


class AnchorStack(ClusterStack):
    """An anchor stack whose runs drop 2026 once no cluster trusts it."""

    name = "anchor"

    def __init__(self, trusting):
        self.trusting = trusting
        self.anchors: tuple[str, ...] = ("2026", "2027")
        self.configured = Trust(anchors=("2027",), signer="2027")

    def up(self, write, **_):
        write("deployed")
        if not self.trusting:
            self.anchors = self.configured.anchors

    def outputs(self):
        waiting = [f"{stack} trusts 2026" for stack in self.trusting]
        left = report("retire-2026" if waiting else "", tuple(waiting), len(waiting))
        return {"anchors": list(self.anchors), "rotation": left.as_outputs()}


def test_a_fleet_is_not_done_while_its_anchor_stack_keeps_what_a_cluster_trusts():
    stack: Any = AnchorStack(["west"])
    lines: list[str] = []
    with pytest.raises(BlockedError, match=r"^The anchor stack keeps 2026 for now: west trusts 2026$"):
        asyncio.run(_drop_others(stack, "2027", engine_lines(lines)))
    stack.trusting = []
    asyncio.run(_drop_others(stack, "2027", engine_lines(lines)))
    assert (stack.anchors, lines) == (("2027",), ["deployed", "deployed"])


LINKS: list[tuple] = [("west", "west", "well"), ("north", "north", "refused"), ("partner", "", "unchecked")]


def fleet_view():
    finding = Finding(subject="3 of 9 proxies", wrong="do not trust 2027 <yet>", fix="Restart them", severity="warning")
    return FleetView(
        anchor_stack="anchor",
        roots={"2026": OLD.certificate, "2027": NEW.certificate},
        clusters=[
            view("east", signed_by=NEW),
            view("west", findings=(finding,)),
            view("north", trusts=(OLD,)),
            ClusterView(stack="south", link_name="south", error='The API server of context "south" cannot be reached'),
            ClusterView(stack="late", link_name="late"),
        ],
        links=[
            LinkView(link=Link(namespace="mc", name=name, target=name), source="east", target=target, state=state)
            for name, target, state in LINKS
        ],
        now=datetime.now(UTC),
    )


def report(step="", waiting=(), count=0, signer=""):
    return RotationReport(
        goal=Trust(anchors=("2027",), signer=signer),
        phase="switch",
        next=step,
        waiting_for=waiting,
        waiting_count=count,
        since="2026-11-20T08:00:00+00:00",
    )


def rotating_fleet():
    """A fleet whose east is at the goal, whose west waits, and whose anchor stack waits for west."""
    fleet = fleet_view()
    east, west, *others = fleet.clusters
    done = replace(east, inspection=replace(east.inspection, rotation=report(signer="2027")))
    lacking = ("shop/web-1: its proxy does not trust <2027>", f"shop/{'x' * 90}: a Job")
    waits = replace(
        west, inspection=replace(west.inspection, rotation=report("switch-2027", lacking, 7, signer="2027"))
    )
    owned = report("retire-2026", ("west trusts 2026",), 1)
    return replace(fleet, clusters=[done, waits, *others], rotation=owned)


def test_a_fleet_as_data_tells_the_goal_of_each_stack_that_reports_one():
    found = rotating_fleet().as_json()
    assert (found["rotation"]["next"], found["rotation"]["converged"]) == ("retire-2026", False)
    reports = {cluster["stack"]: cluster.get("rotation") for cluster in found["clusters"]}
    assert (reports["east"]["converged"], reports["west"]["waitingFor"]["count"]) == (True, 7)
    assert [reports[stack] for stack in ("north", "south", "late")] == [None] * 3


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_fleet_at_a_terminal_says_what_each_stack_waits_for(width):
    console = Console(record=True, width=width, file=io.StringIO())
    show_fleet(rotating_fleet(), console)
    text = console.export_text()
    for part in (
        "1 of 3 stacks have reached their goal.",
        "anchor goal   anchors 2027\n  next step retire-2026\n  waits for 1 since 2026-11-20 08:00 UTC\n",
        "west goal   anchors 2027, signer 2027\n  next step switch-2027\n  waits for 7 since 2026-11-20 08:00 UTC\n",
        "x" * 90,
        "  - and 5 more",
    ):
        assert part in text, text


def test_the_page_says_what_each_stack_waits_for():
    page = draw_page(rotating_fleet())
    west = re.findall(r'<tr><th scope="row">west.*?</tr>', page, re.DOTALL)[0]
    for text in (
        "Goal: anchors 2027, signer 2027.",
        "waits for 7 since 2026-11-20",
        "trust &lt;2027&gt;",
        "and 5 more",
    ):
        assert text in west
    assert "reached since 2026-11-20" in re.findall(r'<tr><th scope="row">east.*?</tr>', page, re.DOTALL)[0]
    assert "<li>west trusts 2026</li>" in page.partition('id="clusters"')[0]
    assert "Goal:" not in draw_page(fleet_view())


def test_a_fleet_as_data_tells_who_signs_where():
    found = fleet_view().as_json()
    assert [(entry["name"], entry["signsIn"], entry["trustedIn"]) for entry in found["anchors"]] == [
        ("2026", ["west", "north"], ["east", "west", "north"]),
        ("2027", ["east"], ["east", "west"]),
    ]
    assert [cluster["phase"] for cluster in found["clusters"]] == [
        "switch",
        "introduce",
        "steady",
        "unreadable",
        "not deployed",
    ]
    json.dumps(found)


def test_a_fleet_at_a_terminal_has_a_line_for_each_cluster_and_what_needs_attention():
    console = Console(record=True, width=120, file=io.StringIO())
    show_fleet(fleet_view(), console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    anchors = [line.split() for line in lines if re.match(r"202[67] ", line)]
    assert [(line[0], line[-6:]) for line in anchors] == [
        ("2026", ["2", "of", "5", "3", "of", "5"]),
        ("2027", ["1", "of", "5", "2", "of", "5"]),
    ]
    clusters = {
        line.split()[0]: line.split()[1:] for line in lines if re.match(r"(east|west|north|late) .*[✓✗-]$", line)
    }
    assert clusters["east"][:4] == ["switch", "2026,", "2027", "2027"]
    assert clusters["north"][:3] == ["steady", "2026", "2026"]
    assert clusters["late"] == ["not", "deployed", "-"]
    assert any('✗ The API server of context "south" cannot be reached' in line for line in lines)


def test_the_page_has_every_anchor_and_cluster_with_what_needs_attention_first():
    page = draw_page(fleet_view())
    assert "1 of 5 clusters needs attention" in page
    assert [re.search(rf"<strong>{name}</strong>.*?days left", page, re.DOTALL) is not None for name in NAMES] == [
        True
    ] * 2
    assert re.findall(r'<th scope="row">(\w+)</th>', page) == ["south", "west", "east", "north", "late", "east"]
    assert re.findall(r"<li><strong>(\d)</strong> ([a-z ]+)</li>", page) == [
        ("1", "steady"),
        ("1", "introduce"),
        ("1", "switch"),
        ("1", "not deployed"),
        ("1", "unreadable"),
    ]
    [east, _] = re.findall(r'<tr><th scope="row">east.*?</tr>', page, re.DOTALL)
    for text in ('aria-current="step">switch<', "accepts 2027; has released 2026", "48 hours left", "served by 1 of 1"):
        assert text in east
    assert "has released" not in re.findall(r'<tr><th scope="row">north.*?</tr>', page, re.DOTALL)[0]


def test_clusters_are_judged_by_whether_each_trusts_what_signs_in_the_others_linked_or_not():
    views = [view("east", signed_by=NEW), view("west"), view("north", trusts=(OLD,)), view("late", deployed=False)]
    judged, links = check_clusters(views)
    assert {seen.stack: [f"{entry.subject} {entry.wrong}" for entry in seen.findings] for seen in judged} == {
        "east": [],
        "west": [],
        "north": ["1 of 1 proxies do not trust what signs in east: connections from there are refused"],
        "late": [],
    }
    assert links == []


def test_what_a_stack_has_told_and_is_so_no_longer_is_an_error():
    east, north = view("east", signed_by=NEW), view("north", trusts=(OLD,))
    told = Pledge(accepts=frozenset(NAMES), released=frozenset(["2026"]))
    roots = {"2026": OLD.certificate, "2027": NEW.certificate}
    found = {
        name: [finding.wrong for finding in check_pledge(replace(seen.inspection, deployed=roots), told)]
        for name, seen in {"east": east, "north": north}.items()
    }
    assert found == {
        "east": [],
        "north": [
            "is under 2026, although the stack has pledged to the fleet that nothing is",
            "do not trust 2027, although the stack has pledged to the fleet that all do",
        ],
    }


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows():
    page = draw_page(fleet_view())
    assert "do not trust 2027 &lt;yet&gt;" in page
    assert not re.search(r"<(script|link|img|iframe)|https?:|url\(|@import", page)


def test_the_page_in_a_browser_is_whole_readable_and_fits_a_phone(tmp_path, browser):
    path = tmp_path / "fleet.html"
    path.write_text(draw_page(rotating_fleet()))
    browser.get(path.as_uri())
    assert browser.title == "Fleet of anchor: needs attention"
    heads = browser.execute_script(
        "return [...document.querySelectorAll('tbody th[scope=row]')].map(head => head.innerText)"
    )
    assert heads == ["south", "west", "east", "north", "late", "east"], "what needs attention is first, the links last"
    current = browser.execute_script("return [...document.querySelectorAll('[aria-current]')].map(e => e.innerText)")
    assert current == ["introduce", "switch", "steady"]
    assert not browser.get_log("browser"), "the page makes the browser complain"
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        poor = browser.execute_script(CONTRAST)
        assert poor == [], f"too little contrast in {scheme}: {poor}"
        browser.save_screenshot(str(tmp_path / f"{scheme}.png"))
    browser.set_window_size(500, 800)
    width, seen = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= seen, "the page itself must not scroll sideways; the table does"


# WCAG 2.2, 1.4.3: text has a contrast of 4.5 to 1 with what is behind it.
CONTRAST = """
const light = ([r, g, b]) => {
  const part = value => { value /= 255; return value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4; };
  return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
};
const parse = text => text.match(/[0-9.]+/g).map(Number);
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = parse(getComputedStyle(element).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll('main *')]
  .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
  .map(element => {
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    return [element.innerText, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)];
  })
  .filter(([, ratio]) => ratio < 4.5);
"""


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, where there is one with its driver."""
    from selenium import webdriver  # noqa: PLC0415 this fixture alone needs it

    binary = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("there is no chromium with a chromedriver on PATH (on Debian: apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as found:
        yield found
