"""Steps between two states of a mesh's trust, and refusals that name the first legal step."""

import itertools

import pytest

from meshtrust.rotation.steps import IllegalStepError, Root, Trust, find_step, plan_abort, plan_rotation

STEADY = Trust(anchors=("a",), signer="a")
INTRODUCED = Trust(anchors=("a", "b"), signer="a")
SWITCHED = Trust(anchors=("a", "b"), signer="b")
RETIRED = Trust(anchors=("b",), signer="b")


@pytest.mark.parametrize(
    ("last", "wanted", "kind", "generations"),
    [
        (None, STEADY, "deploy", ("a",)),
        (STEADY, INTRODUCED, "introduce", ("b",)),
        (INTRODUCED, SWITCHED, "switch", ("b",)),
        (SWITCHED, RETIRED, "retire", ("a",)),
        # Aborts.
        (INTRODUCED, STEADY, "retire", ("b",)),
        (SWITCHED, INTRODUCED, "switch", ("a",)),
    ],
)
def test_one_column_to_the_right_or_to_the_left_is_a_step(last, wanted, kind, generations):
    step = find_step(last, wanted)
    assert step is not None
    assert (step.kind, step.generations, step.after) == (kind, generations, wanted)


@pytest.mark.parametrize(("last", "ended"), [(STEADY, ["a"]), (INTRODUCED, ["a", "b"])])
def test_what_has_ended_is_replaced_in_one_run(last, ended):
    step = find_step(last, Trust(anchors=("c",), signer="c"), ended=ended)
    assert step is not None
    assert (step.kind, step.generations, str(step)) == ("replace", ("c",), "replace what has ended by c")


@pytest.mark.parametrize(
    ("last", "wanted"),
    [(INTRODUCED, Trust(anchors=("c",), signer="c")), (STEADY, Trust(anchors=("a", "c"), signer="c"))],
)
def test_what_has_not_ended_or_is_to_stay_is_not_replaced(last, wanted):
    with pytest.raises(IllegalStepError, match="signer c is trusted by no proxy yet"):
        find_step(last, wanted, ended=["a"])


@pytest.mark.parametrize("state", [STEADY, INTRODUCED, SWITCHED])
def test_staying_where_one_is_takes_no_step(state):
    assert find_step(state, state) is None


@pytest.mark.parametrize(
    ("last", "wanted", "reason", "first"),
    [
        (STEADY, RETIRED, "signer b is trusted by no proxy yet", 'anchors ["a", "b"] with meshtrust:signer "a"'),
        (STEADY, SWITCHED, "signer b is trusted by no proxy yet", 'anchors ["a", "b"] with meshtrust:signer "a"'),
        (
            INTRODUCED,
            RETIRED,
            "anchor a would go in the same run in which b begins",
            'anchors ["a", "b"] with meshtrust:signer "b"',
        ),
        (
            SWITCHED,
            STEADY,
            "anchor b would go in the same run in which a begins",
            'anchors ["a", "b"] with meshtrust:signer "a"',
        ),
        (
            INTRODUCED,
            Trust(anchors=("a", "c"), signer="a"),
            "anchors c would come and b go in one run",
            'anchors ["a", "b", "c"] with meshtrust:signer "a"',
        ),
        (
            INTRODUCED,
            Trust(anchors=("a", "b", "c"), signer="b"),
            "anchor c would come in the same run",
            'anchors ["a", "b", "c"] with meshtrust:signer "a"',
        ),
    ],
)
def test_a_jump_is_refused_with_the_step_that_comes_first(last, wanted, reason, first):
    with pytest.raises(IllegalStepError, match=f"^{reason}") as caught:
        find_step(last, wanted)
    assert first in str(caught.value)


def advice(state: Trust, wanted: Trust) -> Trust:
    """The wanted state, or what its refusal says to deploy first."""
    try:
        find_step(state, wanted)
    except IllegalStepError as error:
        anchors, signer = str(error).split("meshtrust:anchors [")[1].split("] with meshtrust:signer ")
        return Trust(anchors=tuple(name.strip('"') for name in anchors.split(", ")), signer=signer.strip('"'))
    return wanted


def test_what_a_refusal_says_comes_first_can_be_deployed_and_leads_on():
    """Follow the advice of every refusal: each leads to the wanted state, by legal steps alone.

    But for the order of its anchors, which is that in which they came.
    """
    names = ("a", "b", "c")
    states = [
        Trust(anchors=anchors, signer=signer)
        for count in (1, 2, 3)
        for anchors in itertools.combinations(names, count)
        for signer in anchors
    ]
    for last, wanted in itertools.product(states, states):
        state, advised = last, 0
        while (set(state.anchors), state.signer) != (set(wanted.anchors), wanted.signer):
            following = advice(state, wanted)
            assert find_step(state, following) is not None, f"{last} to {wanted}: {following} is no step"
            state = following
            advised += 1
            assert advised <= 4, f"no end from {last} to {wanted}"


def test_a_name_that_was_retired_is_not_used_again():
    with pytest.raises(IllegalStepError, match=r'generation "a" has been retired.*Use a name that was never used'):
        find_step(RETIRED, SWITCHED, retired={"a": Root(fingerprint="0a" * 32)})


def test_a_retired_root_may_be_brought_back_as_it_was():
    back = Trust(anchors=("b", "a"), signer="b")
    step = find_step(
        RETIRED, back, retired={"a": Root(fingerprint="0a" * 32)}, external={"a": "0a" * 32, "c": "0c" * 32}
    )
    assert step is not None
    assert step.kind == "introduce"


@pytest.mark.parametrize(
    ("last", "wanted", "first"),
    [
        (STEADY, Trust(anchors=("b", "a"), signer="a"), 'anchors ["a", "b"] with meshtrust:signer "a"'),
        (INTRODUCED, Trust(anchors=("b", "a"), signer="b"), 'anchors ["a", "b"] with meshtrust:signer "b"'),
        (INTRODUCED, Trust(anchors=("b", "a"), signer="a"), 'anchors ["a", "b"] with meshtrust:signer "a"'),
    ],
)
def test_anchors_stay_in_the_order_in_which_they_came(last, wanted, first):
    """An abort of what reads as a switch would switch, to the new anchor."""
    with pytest.raises(IllegalStepError, match=r"not in the order in which they came, oldest first") as caught:
        find_step(last, wanted)
    assert first in str(caught.value)


@pytest.mark.parametrize(
    ("root", "external"),
    [
        (Root(fingerprint="0a" * 32, external=True), {"a": "0b" * 32}),
        (Root(fingerprint="0a" * 32), {"a": "0b" * 32}),
        (Root(fingerprint="0a" * 32, external=True), {}),
    ],
    ids=["another certificate", "a certificate for one made here", "made here instead of brought"],
)
def test_a_generation_never_gets_another_root(root, external):
    with pytest.raises(IllegalStepError, match="under a new name"):
        find_step(STEADY, STEADY, roots={"a": root}, external=external)


@pytest.mark.parametrize("start", [STEADY, INTRODUCED, SWITCHED, RETIRED])
def test_a_plan_goes_on_from_wherever_a_rotation_stands(start):
    steps = plan_rotation(start, "b")
    assert [step.kind for step in steps] == ["introduce", "switch", "retire"][3 - len(steps) :]
    for step in steps:
        assert find_step(step.before, step.after) == step
    assert (steps[-1].after if steps else start) == RETIRED


def test_an_abort_leads_back_step_by_step_to_where_the_rotation_began():
    first = plan_abort(SWITCHED)
    second = plan_abort(first.after)
    assert (first.after, second.after) == (INTRODUCED, STEADY)
    with pytest.raises(IllegalStepError, match="No rotation is under way"):
        plan_abort(STEADY)
