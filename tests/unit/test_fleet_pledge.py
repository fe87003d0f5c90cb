"""Pledges between clusters: the steps that they allow, and that no order of runs makes one unsafe."""

import itertools
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field

import pytest

from meshtrust.rotation.pledge import Pledge, blocks_joining, decide, find_fleet_blockers
from meshtrust.rotation.steps import Step, Trust
from tests.fleet_model import FIRST, Model

BEFORE, AFTER = Trust(anchors=("2026", "2027"), signer="2026"), Trust(anchors=("2026", "2027"), signer="2027")
SWITCH = Step(kind="switch", generations=("2027",), before=BEFORE, after=AFTER)
RETIRE = Step(kind="retire", generations=("2026",), before=AFTER, after=Trust(anchors=("2027",), signer="2027"))
GO_BACK = Step(kind="retire", generations=("2027",), before=BEFORE, after=Trust(anchors=("2026",), signer="2026"))


def pledge(stamp, *, anchors=("2026", "2027"), signer="2026", accepts=("2026",), released=()):
    return Pledge(stamp=stamp, anchors=anchors, signer=signer, accepts=frozenset(accepts), released=frozenset(released))


def found(own, step, **others):
    return [str(blocker) for blocker in find_fleet_blockers("east", own, step, {"east": own, **others})]


def test_a_cluster_switches_once_all_have_told_that_their_pods_trust_the_signer():
    own = pledge("a", accepts=("2026", "2027"))
    assert found(own, SWITCH, west=pledge("b", accepts=("2026", "2027"))) == []
    told = ["west: its stack: it has not pledged that all its pods trust 2027"]
    assert found(own, SWITCH, west=pledge("b")) == told
    assert found(own, SWITCH, west=pledge("b", anchors=("2026",))) == told
    assert found(own, SWITCH, west=Pledge(anchors=("2026",), signer="2026")) == told, "it was deployed before pledges"


def test_a_cluster_retires_once_all_that_trust_it_have_told_that_nothing_is_under_it():
    own = pledge("a", signer="2027", accepts=("2027",), released=("2026",))
    assert found(own, RETIRE, west=own, north=pledge("b", anchors=("2027",), accepts=("2027",))) == []
    assert found(own, RETIRE, west=pledge("b", signer="2027", accepts=("2026", "2027"))) == [
        "west: its stack: it has not pledged that nothing in it is under 2026 any more"
    ]


def test_what_a_cluster_has_pledged_counts_once_the_anchor_stack_has_passed_it_on():
    own = pledge("a", accepts=("2026", "2027"))
    for passed_on in ({}, {"east": pledge("older", accepts=("2026", "2027"))}):
        [blocker] = find_fleet_blockers("east", own, SWITCH, passed_on)
        assert str(blocker).startswith("the anchor stack: it has not passed on what this cluster has pledged")


def test_a_cluster_that_is_ready_first_tells_so_and_takes_the_step_in_a_later_run():
    own = pledge("a", released=("2027",))
    ready = {"west": pledge("b", accepts=("2026", "2027"))}
    first = decide("east", own, SWITCH, {"east": own, **ready}, is_ready=True)
    assert not first.takes_step
    assert (sorted(first.pledge.accepts), sorted(first.pledge.released)) == (["2026", "2027"], [])
    assert first.pledge.stamp not in ("", "a")
    second = decide("east", first.pledge, SWITCH, {"east": first.pledge, **ready}, is_ready=True)
    assert (second.takes_step, second.blockers) == (True, [])
    assert (second.pledge.signer, second.pledge.stamp) == ("2027", first.pledge.stamp)


def test_a_cluster_that_is_not_ready_tells_nothing_and_a_step_by_force_claims_no_trust():
    own = pledge("a", released=("2027",))
    for forced in (False, True):
        decision = decide("east", own, SWITCH, {"east": own}, is_ready=False, is_forced=forced)
        assert decision.takes_step
        assert decision.blockers, "it has not pledged that it is ready"
        assert "2027" not in decision.pledge.accepts | decision.pledge.released, "it signs, and not all trust it"


def test_to_go_back_is_a_pledge_too():
    own = pledge("a", accepts=("2026", "2027"))
    decision = decide("east", own, GO_BACK, {"east": own, "west": own}, is_ready=True)
    assert (decision.takes_step, sorted(decision.pledge.released)) == (False, ["2027"])
    assert [str(entry) for entry in decision.blockers] == [
        "west: its stack: it has not pledged that nothing in it is under 2027 any more"
    ]


@pytest.mark.parametrize(
    ("there", "reasons"),
    [
        (pledge("b", anchors=("2026",)), []),
        (pledge("b", released=("2027",)), []),
        (
            pledge("b", signer="2027", accepts=("2026", "2027")),
            ["west signs with 2027, which this cluster would not trust"],
        ),
        (pledge("b", accepts=("2026", "2027")), ["west may sign with 2027, which this cluster would not trust"]),
        (
            pledge("b", anchors=("2027",), signer="2027", accepts=("2027",)),
            [
                "west signs with 2027, which this cluster would not trust",
                "west does not trust 2026, with which this cluster would sign",
            ],
        ),
    ],
)
def test_a_cluster_joins_only_those_that_it_can_speak_with(there, reasons):
    assert blocks_joining("east", Trust(anchors=("2026",), signer="2026"), {"west": there}) == reasons


def test_a_pledge_outlives_the_outputs_and_keeps_its_stamp_only_while_it_promises_the_same():
    trust = Trust(anchors=("2026", "2027"), signer="2026")
    own = pledge("a", released=("2027",))
    assert Pledge.of(own.as_outputs(), trust) == own
    assert own.stamped(own).stamp == "a"
    assert own.accepting("2027").stamped(own).stamp != "a"
    assert Pledge.of(None, trust).stamped(Pledge.of(None, trust)).stamp, "the first one gets a stamp"


GENERATIONS = ("a", "b", "c")


@dataclass
class Fleet:
    """Three clusters, their anchor stack, and chance."""

    chance: random.Random
    clusters: list[Model] = field(default_factory=lambda: [Model(name) for name in ("east", "west", "north")])
    passed_on: dict[str, Pledge] = field(default_factory=dict)
    reading: dict[str, Pledge] | None = None
    target: str = "b"
    taken: Counter[str] = field(default_factory=Counter)

    def happen(self):
        """Let one thing happen somewhere."""
        events = {
            self.change_mind: 2,
            self.configure: 23,
            self.run: 50,
            self.replace_pod: 10,
            self.run_anchor_stack: 8,
            self.lose_anchor_stack: 0.5,
        }
        [event] = self.chance.choices(list(events), list(events.values()))
        event()

    def change_mind(self):
        self.target = self.chance.choice(GENERATIONS)

    def configure(self):
        cluster = self.chance.choice(self.clusters)
        cluster.wanted = _next(cluster.trust, self.target, self.chance)

    def run(self):
        """Go on with a run, or begin one."""
        cluster = self.chance.choice(self.clusters)
        if cluster.run is None:
            cluster.begin(self.passed_on)
        elif not cluster.run.acted:
            cluster.act()
        else:
            step, before = cluster.run.step, cluster.trust
            cluster.end(fails=self.chance.random() < 0.1)
            if cluster.trust != before:
                self.taken[step.kind] += 1

    def replace_pod(self):
        """Renew a pod's certificate, or put another pod in its place."""
        cluster = self.chance.choice(self.clusters)
        if cluster.pods:
            pod = self.chance.choice(cluster.pods)
            pod.leaf = cluster.signer
            if self.chance.random() < 0.7:
                pod.trusts = cluster.bundle

    def run_anchor_stack(self):
        """Have it read in one moment, and write in a later one."""
        if self.reading is None:
            self.reading = {entry.name: entry.own for entry in self.clusters if entry.own.stamp}
        else:
            self.passed_on, self.reading = self.reading, None

    def lose_anchor_stack(self):
        self.passed_on, self.reading = {}, None

    def cut_off(self):
        """Say who would refuse whom at this moment, or nothing."""
        for one, other in itertools.product(self.clusters, self.clusters):
            under = {pod.leaf for pod in one.pods} | ({one.signer} if one.signer else set())
            for trusts in (*(pod.trusts for pod in other.pods), *([other.bundle] if other.bundle else [])):
                if not under <= trusts:
                    return f"{other.name} trusts {sorted(trusts)} and refuses what {one.name} has: {sorted(under)}"
        return ""


def simulate(seed, events=600):
    """Run a fleet through chance, and return what was cut off, and how often each step was taken."""
    fleet = Fleet(random.Random(seed))  # noqa: S311 no secret
    for _ in range(events):
        fleet.happen()
        if wrong := fleet.cut_off():
            return wrong, fleet.taken
    return "", fleet.taken


def _next(trust, target, chance):
    """The next configured step: mostly a step on the way to the target, sometimes one back."""
    if trust is None:
        odd = Trust(anchors=tuple(chance.sample(GENERATIONS, chance.choice((1, 2)))), signer="a")
        return odd if chance.random() < 0.1 else FIRST
    if len(trust.anchors) == 1:
        return Trust(anchors=tuple(dict.fromkeys((*trust.anchors, target))), signer=trust.signer)
    other = next(name for name in trust.anchors if name != trust.signer)
    is_through = trust.signer == target
    if is_through != (chance.random() < 0.2):
        return Trust(anchors=(trust.signer,), signer=trust.signer)
    return Trust(anchors=trust.anchors, signer=other)


def test_no_order_of_runs_cuts_anything_off():
    taken: Counter[str] = Counter()
    for seed in range(200):
        wrong, steps = simulate(seed)
        assert not wrong, f"seed {seed}: {wrong}"
        taken += steps
    for kind in ("deploy", "introduce", "switch", "retire"):
        assert taken[kind] > 200, f"hardly anything happens: {taken}"


def test_without_stamps_some_order_of_runs_would(monkeypatch):
    """A pledge that was taken back and given again looks like the old one, on which a run elsewhere may still rely."""

    class Same:
        hex = "same"

    monkeypatch.setattr(uuid, "uuid4", Same)
    assert any(simulate(seed)[0] for seed in range(300))


def test_without_being_passed_on_some_order_of_runs_would(monkeypatch):
    """A run that does not wait until the anchor stack has its pledge acts against one that others still rely on."""

    def hasty(name, own, step, pledges):
        return find_fleet_blockers(name, own, step, {**pledges, name: own})

    monkeypatch.setattr("meshtrust.rotation.pledge.find_fleet_blockers", hasty)
    assert any(simulate(seed)[0] for seed in range(300))
