"""Messages of a rotation that cannot continue by itself; tests/rehearsal has the rotations."""

import asyncio
import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from meshtrust.commands.display.renderers import PlainRenderer
from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import Limits
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import IllegalStepError, Step, Trust
from meshtrust.stacks import rotator
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import BlockedError, StackProgress
from meshtrust.stacks.rotator import RotationOptions, restart_until_safe, rotate_stack, set_back
from meshtrust.stacks.stack import Stack, StackError
from meshtrust.stacks.target import Target
from tests.recorder import REPOSITORY

INTRODUCED = Trust(anchors=("2026", "2027"), signer="2026")
SWITCHED = Trust(anchors=("2026", "2027"), signer="2027")
SWITCH = Step(kind="switch", generations=("2027",), before=INTRODUCED, after=SWITCHED)

# A switch that is not deployed yet, from which on others issue.
FILE = """config:
  meshtrust:anchors: ["2026", "2027"]
  meshtrust:signer: "2027"
  meshtrust:issuer:
    mode: intermediate
"""


def make_progress(file):
    """Report to a file as plain lines."""
    return StackProgress("production", PlainRenderer(Console(file=file)).show, EngineLogs())


@pytest.fixture
def progress():
    return make_progress(io.StringIO())


@pytest.fixture
def introduced(tmp_path):
    """Return a stack of which the introduction is deployed, with a mode of issuing."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    (tmp_path / "stacks" / "Pulumi.production.yaml").write_text(FILE)

    def deployed(mode):
        outputs = {"anchors": ["2026", "2027"], "signer": "2026", "issuer": {"mode": mode}}
        api: Any = None
        stack = Stack("production", tmp_path)
        return Target(api=api, context="", namespace="linkerd", stack=stack, deployed=StackOutputs(outputs))

    return deployed


def test_anchors_and_signer_are_set_back_to_what_is_deployed(introduced, progress):
    target = introduced("intermediate")
    set_back(target, progress)
    assert target.stack.configured == INTRODUCED


def test_they_are_not_set_back_alone_where_who_issues_was_changed_with_them(introduced, progress):
    target = introduced("external-issuer")
    with pytest.raises(StackError) as caught:
        set_back(target, progress)
    assert 'meshtrust:issuer.mode "intermediate", and "external-issuer" is deployed' in str(caught.value)
    assert "pulumi config set --stack production --path issuer.mode external-issuer" in str(caught.value)
    assert target.stack.file.read_text() == FILE


IDENTITY = Workload(kind="Deployment", namespace="linkerd", name="linkerd-identity")
MISSED = Blocker(subject="linkerd/linkerd-identity-1", reason="it still signs with another issuer", workload=IDENTITY)


@pytest.fixture
def missed(introduced, monkeypatch):
    """An identity service that has missed the reload, as it is asked three times, and how it is restarted meanwhile."""
    answers = [[MISSED], [MISSED], [MISSED], []]
    restarts = []

    async def find_blockers(*_, **__):
        return []

    async def served_blockers(_):
        return answers.pop(0)

    async def heal_identity(_, limits, __):
        restarts.append(limits)
        answers[:] = [[]]

    monkeypatch.setattr(rotator, "find_blockers", find_blockers)
    monkeypatch.setattr(rotator, "served_blockers", served_blockers)
    monkeypatch.setattr(rotator, "heal_identity", heal_identity)
    monkeypatch.setattr(rotator, "RELOAD_SECONDS", -1)
    monkeypatch.setattr(rotator, "_PAUSE_SECONDS", 0)
    return introduced("intermediate"), restarts


RETIRE = Step(kind="retire", generations=("2026",), before=SWITCHED, after=Trust(anchors=("2027",), signer="2027"))


def test_an_identity_service_that_missed_the_reload_is_restarted_within_the_limits_asked_for(missed, progress):
    target, restarts = missed
    limits = Limits(timeout_seconds=30)
    asyncio.run(restart_until_safe(target, RETIRE, RotationOptions(limits=limits), progress))
    assert restarts == [limits]


def test_a_lazy_rotation_waits_for_it_and_says_who_may_restart_it(missed):
    target, restarts = missed
    told = io.StringIO()
    asyncio.run(restart_until_safe(target, RETIRE, RotationOptions(lazy=True), make_progress(told)))
    assert restarts == []
    assert told.getvalue().count("this waits until someone restarts it, such as meshtrust heal") == 1
    assert told.getvalue().count("1 to go, such as linkerd/linkerd-identity-1") == 1
    assert told.getvalue().endswith("every replica of the identity service signs with the issuer in the Secret\n")


POD = Workload(kind="Pod", namespace="shop", name="bare")


@pytest.mark.parametrize(
    ("blocker", "speaks_of_pods"),
    [
        (Blocker(subject="Secret linkerd/linkerd-identity-issuer", reason="there is no issuer in it"), False),
        (Blocker(subject="shop/bare", reason="its proxy does not trust 2027", workload=POD), True),
    ],
)
def test_what_no_restart_cures_is_told_with_what_ends_it(introduced, progress, monkeypatch, blocker, speaks_of_pods):
    async def find_blockers(*_, **__):
        return [blocker]

    monkeypatch.setattr(rotator, "find_blockers", find_blockers)
    with pytest.raises(BlockedError, match=r"no restart cures what is listed\.") as caught:
        asyncio.run(restart_until_safe(introduced("intermediate"), SWITCH, RotationOptions(), progress))
    assert list(caught.value.blockers) == [blocker]
    assert ("Jobs and bare pods" in str(caught.value)) == speaks_of_pods


@pytest.mark.parametrize(
    ("to", "says"),
    [("Bad Name", '"Bad Name" is no name of a generation'), ("2025", 'generation "2025" has been retired')],
)
def test_a_goal_that_cannot_be_is_refused_before_the_file_says_it(introduced, progress, to, says):
    target = introduced("intermediate")
    deployed = StackOutputs(
        {**target.deployed.outputs, "retired": {"2025": {"fingerprint": "0a" * 32, "brought": False}}}
    )

    async def open_target():
        return replace(target, deployed=deployed)

    with pytest.raises(IllegalStepError, match=says):
        asyncio.run(rotate_stack(open_target, to, RotationOptions(), progress))
    assert target.stack.file.read_text() == FILE
