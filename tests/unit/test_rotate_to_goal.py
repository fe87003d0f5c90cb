"""`rotate`, `abort` and `plan` beside a goal in the stack's file, and beside others who run the same stack.

The files, the rules of the way and the rotation are real. The engine's run is played by the rule that a run follows: it
takes one step towards what the file says. The cluster is ready for every step.
"""

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console

from meshtrust.commands.display.renderers import PlainRenderer
from meshtrust.commands.rotation import plan
from meshtrust.commands.rotation.rotate import goal
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.goal import find_way
from meshtrust.rotation.report import report_rotation
from meshtrust.rotation.steps import IllegalStepError, Trust, find_step
from meshtrust.stacks import rotator
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import BlockedError, StackProgress
from meshtrust.stacks.rotator import RotationOptions, abort_rotation, rotate_stack, run_step
from meshtrust.stacks.stack import Stack, StackError
from meshtrust.stacks.target import Target
from tests.certificates import make_certificate
from tests.recorder import REPOSITORY
from tests.unit.test_inspection import NOW

OLD = Trust(anchors=("2026",), signer="2026")
BOTH = Trust(anchors=("2026", "2027"), signer="2026")
SWITCHED = Trust(anchors=("2026", "2027"), signer="2027")
NEW = Trust(anchors=("2027",), signer="2027")


class PlayedStack(Stack):
    """A stack with a real file, whose runs take one step each."""

    def __init__(self, directory, deployed, configured, *, mode="reconcile", fleet=False):
        (directory / "stacks").mkdir()
        (directory / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
        text = (
            f"config:\n  meshtrust:rotation: {{mode: {mode}}}\n  meshtrust:anchors: [x]\n"
            + "  meshtrust:anchorStack: anchor\n" * fleet
        )
        (directory / "stacks" / "Pulumi.dev.yaml").write_text(text)
        super().__init__("dev", directory)
        self.configure(configured)
        self.deployed, self.seen, self.files = deployed, [], []
        # Runs by a scheduler that come just before one of the rotation's own.
        self.runs_of_others = 0

    def run(self, configured):
        """Take the next step to what a file says; refuse what is more than one step away in mode `step`."""
        way = find_way(self.deployed, configured)
        step = way.next if self.reconciles else find_step(self.deployed, configured)
        if step:
            self.deployed = step.after
            self.seen.append(step.name)

    def up(self, _write=print, *, refresh=False, only_pledges=False):  # noqa: ARG002 as Stack has it
        self.files.append(self.configured)
        for _ in range(self.runs_of_others):
            self.run(NEW)
        self.runs_of_others = 0
        self.run(self.configured)

    def outputs(self):
        report = report_rotation(find_way(self.deployed, self.configured), self.deployed, [], None, NOW)
        return {
            "anchors": list(self.deployed.anchors),
            "signer": self.deployed.signer,
            "rotation": report.as_outputs(),
        }

    def target(self):
        api: Any = None
        return Target(api=api, context="", namespace="linkerd", stack=self, deployed=StackOutputs(self.outputs()))

    async def open(self):
        return self.target()


@pytest.fixture(autouse=True)
def ready(monkeypatch):
    """A cluster that is ready for every step."""

    async def none_found(*_, **__):
        return []

    monkeypatch.setattr(rotator, "find_blockers", none_found)
    monkeypatch.setattr(rotator, "served_blockers", none_found)
    # The anchor stack of a fleet is read by the gate alone here.
    monkeypatch.setattr(Target, "read_fleet", none_found)


@pytest.fixture
def progress():
    return StackProgress("dev", PlainRenderer(Console(file=io.StringIO())).show, EngineLogs())


def rotate(stack, progress, to="2027", *, once=False):
    return asyncio.run(rotate_stack(stack.open, to, RotationOptions(), progress, once=once))


@pytest.mark.parametrize(
    ("deployed", "steps"),
    [
        (OLD, ["introduce-2027", "switch-2027", "retire-2026"]),
        (BOTH, ["switch-2027", "retire-2026"]),
        (SWITCHED, ["retire-2026"]),
        (NEW, []),
    ],
)
@pytest.mark.parametrize("configured", ["the goal", "what is deployed"])
def test_a_rotation_goes_on_from_every_state_whether_the_file_has_the_goal_or_not(
    tmp_path, progress, deployed, steps, configured
):
    stack = PlayedStack(tmp_path, deployed, NEW if configured == "the goal" else deployed)
    assert rotate(stack, progress)
    assert (stack.seen, stack.deployed, stack.configured) == (steps, NEW, NEW)
    assert set(stack.files) <= {NEW}, "whoever runs the stack meanwhile goes the same way"


@pytest.mark.parametrize("deployed", [BOTH, SWITCHED])
@pytest.mark.parametrize("configured", [NEW, OLD, None])
def test_an_abort_goes_back_whatever_goal_the_file_has(tmp_path, progress, deployed, configured):
    stack = PlayedStack(tmp_path, deployed, configured or deployed)
    assert asyncio.run(abort_rotation(stack.open, RotationOptions(), progress))
    assert (stack.deployed, stack.configured) == (OLD, OLD)
    assert NEW not in stack.files, "no run of an abort goes on"


def test_an_abort_of_a_goal_that_nothing_was_done_for_sets_the_file_back(tmp_path, progress):
    stack = PlayedStack(tmp_path, OLD, NEW)
    assert asyncio.run(abort_rotation(stack.open, RotationOptions(), progress))
    assert (stack.seen, stack.configured) == ([], OLD)


def test_a_stack_in_mode_step_is_driven_state_by_state(tmp_path, progress):
    stack = PlayedStack(tmp_path, OLD, OLD, mode="step")
    assert rotate(stack, progress)
    assert stack.files == [BOTH, SWITCHED, NEW]
    assert stack.deployed == NEW


def test_a_goal_in_the_file_of_a_stack_in_mode_step_is_an_error(tmp_path, progress):
    stack = PlayedStack(tmp_path, BOTH, NEW, mode="step")
    with pytest.raises(StackError, match="asks for a step that is not allowed"):
        rotate(stack, progress)
    with pytest.raises(IllegalStepError):
        stack.run(NEW)
    assert stack.deployed == BOTH


@pytest.mark.parametrize("mode", ["reconcile", "step"])
def test_one_step_is_one_step_and_the_file_says_no_more(tmp_path, progress, mode):
    stack = PlayedStack(tmp_path, OLD, OLD, mode=mode)
    assert not rotate(stack, progress, once=True)
    assert (stack.deployed, stack.configured, stack.seen) == (BOTH, BOTH, ["introduce-2027"])


@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("fleet", [False, True])
def test_steps_that_a_scheduler_takes_meanwhile_count_as_taken(tmp_path, progress, others, fleet):
    stack = PlayedStack(tmp_path, OLD, NEW, fleet=fleet)
    stack.runs_of_others = others
    assert rotate(stack, progress)
    assert stack.seen == ["introduce-2027", "switch-2027", "retire-2026"]


def test_a_step_of_a_fleet_that_nobody_has_taken_still_waits(tmp_path, progress, monkeypatch):
    stack = PlayedStack(tmp_path, BOTH, NEW, fleet=True)
    monkeypatch.setattr(stack, "run", lambda _: None)
    step = find_way(BOTH, NEW).next
    assert step
    with pytest.raises(BlockedError, match="has pledged to its fleet"):
        asyncio.run(run_step(stack.target(), step, RotationOptions(), progress))


@pytest.mark.parametrize(
    ("deployed", "configured", "mode", "declared", "default"),
    [
        (OLD, NEW, "reconcile", NEW, "2027"),
        (BOTH, NEW, "reconcile", NEW, "2027"),
        # Set back: the way leads back, and not to another generation.
        (BOTH, OLD, "reconcile", OLD, "2026"),
        (SWITCHED, OLD, "reconcile", OLD, "2026"),
        (BOTH, BOTH, "reconcile", None, "2027"),
        (BOTH, SWITCHED, "step", None, "2027"),
    ],
)
def test_plan_and_rotate_go_by_the_goal_in_the_file(tmp_path, deployed, configured, mode, declared, default):  # noqa: PLR0917 a table
    stack = PlayedStack(tmp_path, deployed, configured, mode=mode)
    assert plan._declared_goal(stack.target(), deployed) == declared
    assert goal(stack.target()) == default


def outputs_of(days):
    """A deployment of 2026, whose root has so many days left."""
    root = make_certificate(generation="2026", age=5, days=days)
    roots = {"2026": {"fingerprint": fingerprint(root.certificate)}}
    return StackOutputs({"anchors": ["2026"], "signer": "2026", "trustAnchors": root.pem, "roots": roots})


@pytest.mark.parametrize(
    ("days", "steps"), [(-1, ["replace-2027"]), (1, ["introduce-2027", "switch-2027", "retire-2026"])]
)
def test_a_plan_shows_the_replacement_of_anchors_that_have_all_ended(days, steps):
    assert [step.name for step in plan._plan_steps(outputs_of(days), NEW)] == steps


def test_a_plan_to_keep_an_ended_anchor_where_all_have_ended_is_an_error_with_the_fix():
    with pytest.raises(IllegalStepError, match="Remove 2026 from meshtrust:anchors"):
        plan._plan_steps(outputs_of(-1), SWITCHED)
