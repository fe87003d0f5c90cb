"""The way to a declared goal, whatever is deployed and however the goal changes on the way."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtrust.rotation.goal import find_way, plan_anchor_stack
from meshtrust.rotation.report import RotationReport, report_rotation
from meshtrust.rotation.steps import IllegalStepError, Root, Trust, find_step

NAMES = st.sampled_from(["a", "b", "c", "d"])
STATES = st.lists(NAMES, min_size=1, max_size=3, unique=True).flatmap(
    lambda names: st.sampled_from(names).map(lambda signer: Trust(anchors=tuple(names), signer=signer))
)


@given(STATES, STATES)
def test_a_goal_is_reached_by_steps_of_which_each_is_legal_alone(last, goal):
    way = find_way(last, goal)
    state, kinds = last, []
    for step in way.steps:
        assert find_step(state, step.after) == step
        kinds.append(step.kind)
        state = step.after
    assert (set(state.anchors), state.signer) == (set(goal.anchors), goal.signer)
    assert state == way.goal
    assert kinds == [kind for kind in ("introduce", "switch", "retire") if kind in kinds]


@given(STATES, st.lists(STATES, min_size=1, max_size=6))
def test_a_goal_that_changes_at_every_step_leaves_nothing_behind_when_it_stays(last, goals):
    state = last
    for goal in goals:
        way = find_way(state, goal)
        if way.next:
            state = way.next.after
    runs = 0
    while step := find_way(state, goals[-1]).next:
        state, runs = step.after, runs + 1
    assert runs <= 3
    assert (set(state.anchors), state.signer) == (set(goals[-1].anchors), goals[-1].signer)


def test_a_first_deployment_goes_to_the_goal_at_once():
    goal = Trust(anchors=("a", "b"), signer="b")
    assert [step.name for step in find_way(None, goal).steps] == ["deploy-a-b"]


def test_a_goal_that_is_deployed_is_reached_whatever_the_order_of_its_anchors():
    last = Trust(anchors=("a", "b"), signer="a")
    way = find_way(last, Trust(anchors=("b", "a"), signer="a"))
    assert (way.next, way.goal) == (None, last)


@pytest.mark.parametrize(
    ("last", "goal", "aborted"),
    [
        (Trust(anchors=("a", "b"), signer="a"), Trust(anchors=("a",), signer="a"), ("b",)),
        (Trust(anchors=("a", "b"), signer="b"), Trust(anchors=("a",), signer="a"), ("b",)),
        (Trust(anchors=("a", "b"), signer="b"), Trust(anchors=("b",), signer="b"), ()),
        (Trust(anchors=("a",), signer="a"), Trust(anchors=("b",), signer="b"), ()),
        (Trust(anchors=("a", "b"), signer="a"), Trust(anchors=("a", "c"), signer="c"), ()),
    ],
)
def test_a_goal_that_gives_up_a_newer_generation_is_known_as_an_abort(last, goal, aborted):
    assert find_way(last, goal).aborted == aborted


def test_anchors_that_have_all_ended_are_replaced_in_one_step():
    last = Trust(anchors=("a", "b"), signer="b")
    way = find_way(last, Trust(anchors=("c",), signer="c"), ended=["a", "b"])
    assert [step.name for step in way.steps] == ["replace-c"]


def test_an_ended_anchor_that_the_goal_keeps_is_refused_where_all_have_ended():
    with pytest.raises(IllegalStepError, match="Remove a from meshtrust:anchors"):
        find_way(Trust(anchors=("a",), signer="a"), Trust(anchors=("a", "c"), signer="c"), ended=["a"])


def test_one_ended_anchor_beside_a_valid_one_is_rotated_step_by_step():
    last = Trust(anchors=("a", "b"), signer="a")
    way = find_way(last, Trust(anchors=("b",), signer="b"), ended=["a"])
    assert [step.name for step in way.steps] == ["switch-b", "retire-a"]


def test_a_goal_with_the_name_of_a_retired_generation_is_refused():
    with pytest.raises(IllegalStepError, match='"a" has been retired'):
        find_way(
            Trust(anchors=("b",), signer="b"),
            Trust(anchors=("a",), signer="a"),
            retired={"a": Root(fingerprint="00" * 32)},
        )


def test_an_anchor_stack_keeps_what_a_cluster_trusts_and_adds_what_is_new():
    plan = plan_anchor_stack(["2027"], ["2026"], {"east": ["2026"], "west": ["2027"]}, protected=["2026"])
    assert plan.generations == ("2026", "2027")
    assert (plan.trusted, plan.protected) == ({"2026": ["east"]}, ())


def test_an_anchor_stack_lifts_the_protection_in_one_run_and_retires_in_the_next():
    clusters = {"east": ["2027"]}
    first = plan_anchor_stack(["2027"], ["2026", "2027"], clusters, protected=["2026"])
    assert (first.generations, first.protected) == (("2026", "2027"), ("2026",))
    second = plan_anchor_stack(["2027"], first.generations, clusters, protected=["2027"])
    assert (second.generations, second.trusted, second.protected) == (("2027",), {}, ())


NOW = datetime(2027, 1, 4, 9, 30, tzinfo=UTC)


def report(last, goal, *, waiting=(), before=None, now=NOW):
    return report_rotation(find_way(last, goal), last, waiting, before, now)


def test_a_report_survives_its_outputs():
    found = report(Trust(anchors=("a",), signer="a"), Trust(anchors=("b",), signer="b"), waiting=["x"] * 7)
    assert RotationReport.of(found.as_outputs()) == found
    assert (found.next, found.waiting_count, len(found.waiting_for), found.is_converged) == ("introduce-b", 7, 5, False)


def test_a_report_keeps_the_time_from_which_a_rotation_waits_for_the_same_step():
    last, goal = Trust(anchors=("a", "b"), signer="a"), Trust(anchors=("b",), signer="b")
    first = report(last, goal, waiting=["x"])
    later = NOW + timedelta(hours=3)
    assert report(last, goal, waiting=["y", "z"], before=first, now=later).since == first.since
    assert report(last, Trust(anchors=("a",), signer="a"), before=first, now=later).since == later.isoformat()


@pytest.mark.parametrize(
    "described",
    [
        None,
        "converged",
        {},
        {"goal": {}},
        *[
            {"goal": {"anchors": ["a"]}, "phase": "steady", "waitingFor": {}, "since": NOW.isoformat(), **changes}
            for changes in (
                {"phase": "?"},
                {"goal": {"anchors": "a"}},
                {"since": "yesterday"},
                {"since": None},
                {"since": "2027-01-04T09:30:00"},
                {"waitingFor": {"count": "many"}},
                {"waitingFor": {"first": 3}},
            )
        ],
    ],
)
def test_outputs_of_another_version_hold_no_report(described):
    assert RotationReport.of(described) is None
