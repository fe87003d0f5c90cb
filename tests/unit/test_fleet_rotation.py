"""`meshtrust fleet rotate` sets a goal in every stack and runs them to it, beside others who run the same stacks.

The files, the waves, the pledges and the rules of a run are real. The engine's runs are played by those rules; the
clusters are ready for every step.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from meshtrust.commands.display.renderers import JsonRenderer
from meshtrust.fleet import rotation_waves
from meshtrust.fleet.members import find_fleet
from meshtrust.fleet.rotation_waves import FleetRotationOptions, rotate_fleet
from meshtrust.fleet.waves import FleetError
from meshtrust.linkerd.external_peers import Unseen
from meshtrust.rotation.goal import Way, find_way, plan_anchor_stack
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.reconcile import FleetView, decide_run
from meshtrust.rotation.report import report_rotation
from meshtrust.rotation.steps import IllegalStepError, Trust, find_step
from meshtrust.stacks import rotator
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import Progress
from meshtrust.stacks.stack import Stack, StackError
from meshtrust.stacks.target import Target
from tests.unit.test_fleet import make_project
from tests.unit.test_inspection import NOW

OLD = Trust(anchors=("2026",), signer="2026")
BOTH = Trust(anchors=("2026", "2027"), signer="2026")
SWITCHED = Trust(anchors=("2026", "2027"), signer="2027")
NEW = Trust(anchors=("2027",), signer="2027")
CLUSTERS = ("east", "north", "west")


@dataclass
class PlayedFleet:
    """The last deployments of a fleet's stacks, and every run of them."""

    directory: Any
    trust: dict[str, Trust]
    generations: tuple[str, ...]
    own: dict[str, Pledge] = field(default_factory=dict)
    passed_on: dict[str, Pledge] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    retired: tuple[str, ...] = ()
    # Each run: the stack, and what its file had.
    runs: list[tuple[str, Trust]] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    # Called before each run, with its number.
    before_run: Any = None

    def stack(self, name):
        return Stack(name, self.directory)

    def run(self, stack, *, only_pledges=False):
        """Run a stack as the program does, by its file."""
        if self.before_run:
            self.before_run(len(self.runs))
        self.runs.append((stack.name, stack.configured))
        if stack.name == "anchor":
            self._run_anchor(stack)
        else:
            self._run_cluster(stack, only_pledges=only_pledges)

    def _run_anchor(self, stack):
        trusted = {name: trust.anchors for name, trust in self.trust.items()}
        plan = plan_anchor_stack(stack.configured.anchors, self.generations, trusted, self.protected)
        if not stack.reconciles and (plan.trusted or plan.protected):
            msg = f"{', '.join(plan.trusted or plan.protected)} must stay for now"
            raise StackError(msg)
        self.generations, self.passed_on = plan.generations, dict(self.own)
        self.protected = frozenset(trust.signer for trust in self.trust.values()) & frozenset(plan.generations)

    def _run_cluster(self, stack, *, only_pledges):
        name, last, wanted = stack.name, self.trust[stack.name], stack.configured
        if stack.reconciles:
            way = find_way(last, wanted)
        else:
            try:
                step = find_step(last, wanted)
            except IllegalStepError as error:
                raise StackError(str(error)) from error
            way = Way(goal=wanted, steps=(step,) if step else ())
        own = self.own[name]
        if only_pledges:
            assert way.next
            self.own[name] = own.ready_for(way.next).stamped(own)
            return
        fleet = FleetView(name=name, own=own, pledges=self.passed_on, generations=self.generations)
        decision = decide_run(way, blockers=[], fleet=fleet)
        assert decision.pledge
        self.own[name] = decision.pledge
        if decision.step:
            self.trust[name] = decision.step.after
            self.steps.append((name, decision.step.name))

    def outputs(self, name):
        if name == "anchor":
            passed_on = {stack: pledge.as_outputs() for stack, pledge in self.passed_on.items()}
            retired = {name: {"fingerprint": "00"} for name in self.retired}
            memory = {"pledges": passed_on, "protected": sorted(self.protected), "retired": retired}
            return {"anchors": list(self.generations), "clusters": list(CLUSTERS), "memory": memory}
        trust = self.trust[name]
        report = report_rotation(find_way(trust, self.stack(name).configured), trust, [], None, NOW)
        memory = {"pledge": self.own[name].as_outputs()}
        deployed = {"anchors": list(trust.anchors), "signer": trust.signer, "anchorStack": "anchor"}
        return {**deployed, "rotation": report.as_outputs(), "memory": memory}

    def rotate(self, to="2027"):
        """Run the command's work; return what it says to machines, and its error."""
        written: list[str] = []
        progress = Progress(JsonRenderer(written.append).show, EngineLogs())
        error = None
        try:
            asyncio.run(rotate_fleet(find_fleet(self.directory), to, FleetRotationOptions(), progress))
        except FleetError as raised:
            error = raised
        progress.end(finished=error is None, error=str(error or ""))
        return [json.loads(line) for line in written], error

    @property
    def configured(self):
        return {name: self.stack(name).configured for name in ("anchor", *CLUSTERS)}


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Make a fleet whose engine is played, at any state."""

    def make(trust=OLD, *, configured=None, modes=None):
        states = trust if isinstance(trust, dict) else dict.fromkeys(CLUSTERS, trust)
        generations = tuple(dict.fromkeys(name for state in states.values() for name in state.anchors))
        modes = modes or {}

        def config(name, wanted, **more):
            return {"anchors": list(wanted.anchors), "rotation": {"mode": modes.get(name, "reconcile")}, **more}

        clusters = {
            name: config(name, configured or state, signer=(configured or state).signer, anchorStack="anchor")
            for name, state in states.items()
        }
        whole = configured or Trust(anchors=generations, signer=generations[0])
        anchor = config("anchor", whole, role="anchor", clusters=list(CLUSTERS))
        directory = make_project(tmp_path, anchor=anchor, **clusters)
        # Every look at a setting reads the project's file, whose schema takes a while to parse.
        (directory / "Pulumi.yaml").write_text("name: meshtrust\nstackConfigDir: stacks\n")
        own = {
            name: Pledge(anchors=state.anchors, signer=state.signer).accepting(state.signer).stamped(Pledge())
            for name, state in states.items()
        }
        fleet = PlayedFleet(directory, dict(states), generations, own, dict(own), frozenset({OLD.signer}))

        async def open_target(selection):
            api: Any = None
            stack = Stack(selection.stack, selection.directory)
            return Target(api=api, context="", namespace="linkerd", stack=stack, deployed=StackOutputs(stack.outputs()))

        async def none_found(*_, **__):
            return []

        async def read_unseen(*_):
            return Unseen()

        monkeypatch.setattr(Stack, "outputs", lambda self: fleet.outputs(self.name))
        monkeypatch.setattr(
            Stack, "up", lambda self, _, **options: fleet.run(self, only_pledges=options.get("only_pledges"))
        )
        monkeypatch.setattr(rotation_waves, "open_target", open_target)
        monkeypatch.setattr(rotation_waves, "read_mesh", none_found)
        monkeypatch.setattr(rotation_waves, "read_unseen", read_unseen)
        monkeypatch.setattr(rotator, "find_blockers", none_found)
        monkeypatch.setattr(rotator, "served_blockers", none_found)
        return fleet

    return make


@pytest.mark.parametrize(
    "state",
    [
        OLD,
        BOTH,
        SWITCHED,
        {"east": NEW, "north": SWITCHED, "west": SWITCHED},
        {"east": BOTH, "north": BOTH, "west": OLD},
    ],
    ids=["steady", "introduced", "switched", "partly retired", "partly introduced"],
)
@pytest.mark.parametrize("configured", [None, OLD, NEW], ids=["what is deployed", "the old goal", "the goal"])
def test_the_goal_is_in_every_file_before_the_first_run_and_stays_there(play, state, configured):
    fleet = play(state, configured=configured)
    _, error = fleet.rotate()
    assert error is None
    assert set(fleet.trust.values()) == {NEW}
    assert fleet.generations == ("2027",)
    assert {wanted for _, wanted in fleet.runs} == {NEW}
    assert set(fleet.configured.values()) == {NEW}


def test_all_clusters_take_a_step_before_the_first_takes_the_next_one(play):
    fleet = play()
    told, _ = fleet.rotate()
    assert [step for _, step in fleet.steps] == [
        *["introduce-2027"] * 3,
        *["switch-2027"] * 3,
        *["retire-2026"] * 3,
    ]
    titles = [entry["title"] for entry in told if entry["event"] == "phase"]
    assert titles == [
        "Set the goal 2027",
        "Introduce 2027",
        "Trust 2027 in every cluster",
        "Pass on the pledges of east, north, west",
        "Switch the signer to 2027",
        "Bring every certificate under 2027",
        "Pass on the pledges of east, north, west",
        "Retire what was trusted before",
        "Drop what no cluster trusts any more",
    ]
    again, error = fleet.rotate()
    assert (error, [entry["event"] for entry in again]) == (None, ["end"])


@pytest.mark.parametrize("killed_at", range(16))
def test_whoever_runs_the_stacks_after_a_kill_reaches_the_goal_that_it_has_set(play, killed_at):
    fleet = play()

    def kill(number):
        if number == killed_at:
            raise KeyboardInterrupt

    fleet.before_run = kill
    with pytest.raises(KeyboardInterrupt):
        fleet.rotate()
    assert set(fleet.configured.values()) == {NEW}
    fleet.before_run = None
    for _ in range(8):
        for name in ("west", "anchor", "east", "north"):
            fleet.run(fleet.stack(name))
    assert (set(fleet.trust.values()), fleet.generations) == ({NEW}, ("2027",))


@pytest.mark.parametrize("state", [BOTH, SWITCHED])
def test_the_way_back_is_a_goal_too(play, state):
    fleet = play(state, configured=NEW)
    _, error = fleet.rotate("2026")
    assert error is None
    assert (set(fleet.trust.values()), fleet.generations) == ({OLD}, ("2026",))
    assert {wanted for _, wanted in fleet.runs} == {OLD}


def test_stacks_in_mode_step_get_one_state_after_the_other(play):
    fleet = play(modes=dict.fromkeys(("anchor", "east"), "step"))
    _, error = fleet.rotate()
    assert error is None
    seen = {name: list(dict.fromkeys(wanted for run, wanted in fleet.runs if run == name)) for name in ("east", "west")}
    assert seen == {"east": [BOTH, SWITCHED, NEW], "west": [NEW]}
    assert list(dict.fromkeys(wanted.anchors for run, wanted in fleet.runs if run == "anchor")) == [
        ("2026", "2027"),
        ("2027",),
    ]
    assert (set(fleet.trust.values()), fleet.generations) == ({NEW}, ("2027",))


def test_a_generation_that_one_cluster_has_retired_is_refused_before_any_file_is_edited(play, monkeypatch):
    fleet = play()
    before = fleet.configured
    known = fleet.outputs

    def outputs(name):
        found = known(name)
        if name == "west":
            found["memory"] |= {"retired": {"2025": {"fingerprint": "00"}}}
        return found

    monkeypatch.setattr(fleet, "outputs", outputs)
    with pytest.raises(IllegalStepError, match="2025"):
        fleet.rotate("2025")
    assert (fleet.configured, fleet.runs) == (before, [])


def test_another_goal_that_somebody_sets_meanwhile_is_told_and_the_same_command_goes_on(play):
    fleet = play()

    def set_back(_):
        # Another pipeline runs west with the old goal at each moment.
        if fleet.trust["west"] == NEW and "2026" in fleet.generations:
            fleet.trust["west"] = SWITCHED

    fleet.before_run = set_back
    told, error = fleet.rotate()
    assert (error.exit_code, told[-1]["finished"]) == (4, False)
    fleet.before_run = None
    _, error = fleet.rotate()
    assert error is None
    assert (set(fleet.trust.values()), fleet.generations) == ({NEW}, ("2027",))
