"""A fleet whose stacks reconcile on their own, in any order: nothing is ever cut off, and the goal is reached.

A goal is set in git. Each stack's run reads it, maybe an old version of it, decides by the product's own rules, acts
later, and writes its outputs at its end, or is killed before. Pods come and go by themselves.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from meshtrust.rotation import reconcile
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.goal import find_way, plan_anchor_stack
from meshtrust.rotation.pledge import Pledge, announce, blocks_joining
from meshtrust.rotation.reconcile import FleetView, RunDecision, decide_run
from meshtrust.rotation.steps import IllegalStepError, Root, Trust
from tests.fleet_model import Pod

NAMES = ("a", "b", "c", "d")
STACKS = ("east", "west", "north")
# Rounds, in each of which every stack runs once and every pod is replaced, after which a fleet has reached its goal:
# introduce, pledge, pass on, switch, pledge, pass on, retire, and the anchor stack's own two runs at the end; twice, if
# what was begun has to be taken back first.
ROUNDS = 10


@dataclass(frozen=True)
class Anchor:
    """The anchor stack's outputs."""

    generations: tuple[str, ...] = ("a",)
    retired: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()
    pledges: dict = field(default_factory=dict)
    signed: dict = field(default_factory=dict)
    clusters: frozenset[str] = frozenset(STACKS)


def fingerprints(names):
    return {name: Root(fingerprint=name, external=True) for name in names}


@dataclass
class Cluster:
    """A cluster, and its stack's outputs."""

    name: str
    trust: Trust | None = None
    own: Pledge = field(default_factory=Pledge)
    requests: frozenset[str] = frozenset()
    retired: frozenset[str] = frozenset()
    bundle: frozenset[str] = frozenset()
    signer: str = ""
    pods: list[Pod] = field(default_factory=list)
    run: Any = None
    waiting: list[str] = field(default_factory=list)

    def blockers(self, step):
        """The gate's own answer: what is seen of this cluster, never what is not there."""
        seen: list[object] = []
        if step and step.kind == "switch":
            seen = [pod for pod in self.pods if step.after.signer not in pod.trusts]
            seen += [] if step.after.signer in self.bundle else ["the bundle"]
        if step and step.kind == "retire":
            seen = [pod for pod in self.pods if pod.leaf in step.generations]
            seen += ["the issuer"] if self.signer in step.generations else []
        return [Blocker(subject=str(entry), reason="is not ready") for entry in seen]

    def begin(self, anchor, goal):
        """Decide what a run does, by what its stack, its fleet and its cluster say now."""
        self.waiting = []
        if self.trust is None:
            self._join(anchor, goal)
            return
        external = {name: name for name in (*goal.anchors, *self.trust.anchors)}
        try:
            way = find_way(
                self.trust,
                goal,
                roots=fingerprints(self.trust.anchors),
                retired=fingerprints(self.retired),
                external=external,
            )
        except IllegalStepError as error:
            self.waiting = [str(error)]
            return
        asked = self.requests | {*goal.anchors, *self.trust.anchors}
        signed = anchor.signed.get(self.name, frozenset()) & self.requests
        fleet = FleetView(
            name=self.name, own=self.own, pledges=anchor.pledges, generations=anchor.generations, signed=signed
        )
        decision = decide_run(way, blockers=self.blockers(way.next), fleet=fleet)
        self.waiting = [str(entry) for entry in decision.waiting]
        self.run = (decision, asked)

    def _join(self, anchor, goal):
        wanted = goal if set(goal.anchors) <= set(anchor.generations) else None
        if wanted is None or self.name not in anchor.clusters:
            self.waiting = ["the anchor stack"]
            return
        announced = announce(wanted.anchors, self.own)
        told = anchor.pledges.get(self.name, Pledge()).stamp == announced.stamp
        asked = self.requests | set(wanted.anchors)
        if not told or wanted.signer not in anchor.signed.get(self.name, frozenset()) & self.requests:
            if self.is_left_under_another(wanted):
                self.waiting = ["a first deployment that was killed has left a mesh under other anchors"]
            else:
                self.run = (RunDecision(pledge=announced), asked)
            return
        if reasons := blocks_joining(self.name, wanted, anchor.pledges):
            self.waiting = reasons
            return
        way = find_way(None, wanted)
        fleet = FleetView(name=self.name, own=announced, pledges=anchor.pledges, generations=anchor.generations)
        decision = decide_run(way, blockers=[], fleet=fleet)
        self.waiting = [str(entry) for entry in decision.waiting]
        self.run = (decision, asked)

    def is_left_under_another(self, goal):
        """Whether a first deployment that was killed has left a mesh that the goal would cut off."""
        fits = all(set(goal.anchors) <= pod.trusts for pod in self.pods)
        return self.trust is None and not (fits and self.bundle in (frozenset(), frozenset(goal.anchors)))

    def act(self):
        """Change the cluster."""
        decision, _ = self.run
        if decision.step is None:
            return
        after = decision.step.after
        self.bundle, self.signer = frozenset(after.anchors), after.signer
        if decision.step.kind == "deploy":
            self.pods = [Pod(self.bundle, self.signer) for _ in range(2)]

    def end(self):
        """Write the outputs."""
        decision, asked = self.run
        self.run, self.own, self.requests = None, decision.pledge, frozenset(asked)
        if decision.step is not None:
            before = frozenset(self.trust.anchors) if self.trust else frozenset()
            self.trust = decision.step.after
            self.retired = (self.retired | before) - frozenset(self.trust.anchors)

    def replace(self, pod, *, restarts):
        pod.leaf = self.signer
        if restarts:
            pod.trusts = self.bundle


class Fleet(RuleBasedStateMachine):
    """Everything that happens to a fleet, in any order."""

    def __init__(self):
        super().__init__()
        self.clusters = {name: Cluster(name) for name in STACKS}
        self.anchor = Anchor()
        self.goals = [("a",)]
        self.reading = None

    def goal(self, age=0):
        return self.goals[max(0, len(self.goals) - 1 - age)]

    @initialize(deployed=st.sampled_from([True, True, True, False]))
    def begin_with_a_fleet(self, deployed):
        if deployed:
            self.settle()

    @rule(to=st.sampled_from(NAMES))
    def set_goal(self, to):
        self.goals.append((to,))

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=3, unique=True))
    def set_goal_of_many(self, names):
        self.goals.append(tuple(names))

    @rule(name=st.sampled_from(STACKS), age=st.sampled_from([0, 0, 0, 0, 1]), signer=st.integers(0, 2))
    def begin(self, name, age, signer):
        cluster, goal = self.clusters[name], self.goal(age)
        if cluster.run is None:
            cluster.begin(self.anchor, Trust(anchors=goal, signer=goal[min(signer, len(goal) - 1)]))

    @rule(name=st.sampled_from(STACKS), killed=st.sampled_from(["", "", "", "before", "after"]))
    def go_on(self, name, killed):
        cluster = self.clusters[name]
        if cluster.run is None:
            return
        if killed != "before":
            cluster.act()
        if killed:
            cluster.run = None
        else:
            cluster.end()

    @rule(name=st.sampled_from(STACKS))
    def change_the_cluster_and_go_on_later(self, name):
        if self.clusters[name].run:
            self.clusters[name].act()

    @rule(order=st.permutations([*STACKS, "anchor"]), age=st.sampled_from([0, 0, 0, 0, 1]))
    def every_stack_runs_once(self, order, age):
        """Runs that meet no fault, in any order, with what was begun before still under way elsewhere."""
        for name in order:
            if name == "anchor":
                self.anchor_begins(age)
                self.anchor_ends(killed=False)
            else:
                self.begin(name, age, 0)
                self.go_on(name, killed="")
            self.no_handshake_fails()

    @rule(name=st.sampled_from(STACKS))
    def every_pod_is_replaced(self, name):
        for which in range(len(self.clusters[name].pods)):
            self.pod_is_renewed_or_replaced(name, which, restarts=True)

    @rule(age=st.sampled_from([0, 0, 0, 1]))
    def anchor_begins(self, age):
        wanted, last = self.goal(age), self.anchor
        wanted = tuple(name for name in wanted if name not in last.retired)
        if not wanted:
            return
        trusted = {name: cluster.trust.anchors if cluster.trust else () for name, cluster in self.clusters.items()}
        plan = plan_anchor_stack(wanted, last.generations, trusted, last.protected)
        signers = frozenset(cluster.trust.signer for cluster in self.clusters.values() if cluster.trust)
        self.reading = Anchor(
            generations=plan.generations,
            retired=(last.retired | frozenset(last.generations)) - frozenset(plan.generations),
            protected=signers & frozenset(plan.generations),
            pledges={name: cluster.own for name, cluster in self.clusters.items() if cluster.own.stamp},
            signed={name: cluster.requests & frozenset(plan.generations) for name, cluster in self.clusters.items()},
        )

    @rule(killed=st.sampled_from([False, False, False, True]))
    def anchor_ends(self, killed):
        if self.reading and not killed:
            self.anchor = self.reading
        self.reading = None

    @rule(name=st.sampled_from(STACKS), which=st.integers(0, 1), restarts=st.booleans())
    def pod_is_renewed_or_replaced(self, name, which, restarts):
        cluster = self.clusters[name]
        if cluster.pods:
            cluster.replace(cluster.pods[which], restarts=restarts)

    @rule(name=st.sampled_from(STACKS))
    def cluster_leaves(self, name):
        """A cluster is destroyed and comes back empty, with a state that knows nothing."""
        if self.clusters[name].run is None and self.clusters[name].trust:
            self.clusters[name] = Cluster(name)

    @invariant()
    def no_handshake_fails(self):
        for one, other in itertools.product(self.clusters.values(), repeat=2):
            shown = {pod.leaf for pod in one.pods} | ({one.signer} if one.signer else set())
            for trusts in (*(pod.trusts for pod in other.pods), *([other.bundle] if other.bundle else [])):
                assert shown <= trusts, f"{other.name} trusts {sorted(trusts)} and meets {sorted(shown)} of {one.name}"

    def settle(self):
        """Stop every fault: each stack runs once in a round, and each pod is replaced."""
        for _ in range(ROUNDS):
            self.anchor_ends(killed=False)
            self.anchor_begins(age=0)
            self.anchor_ends(killed=False)
            for name in STACKS:
                self.go_on(name, killed="")
                self.begin(name, age=0, signer=0)
                self.go_on(name, killed="")
                self.no_handshake_fails()
                self.every_pod_is_replaced(name)
                self.no_handshake_fails()

    def teardown(self):
        """See the goal reached once faults have stopped, or something named that only a person can cure."""
        goal = self.goal()
        self.settle()
        wanted = Trust(anchors=goal, signer=goal[0])
        for cluster in self.clusters.values():
            reached = cluster.trust and (set(cluster.trust.anchors), cluster.trust.signer) == (
                set(goal),
                wanted.signer,
            )
            assert reached or cluster.waiting, f"{cluster.name} stands still, and says nothing"
            if not reached:
                assert needs_a_person(self), (cluster.trust, goal, cluster.waiting)
        if all(cluster.trust and set(cluster.trust.anchors) == set(goal) for cluster in self.clusters.values()):
            assert set(self.anchor.generations) == set(goal)


def needs_a_person(fleet):
    """The goal itself has to change: it has a name that was retired, or would cut off what a killed run has left."""
    goal = Trust(anchors=fleet.goal(), signer=fleet.goal()[0])
    left = any(cluster.is_left_under_another(goal) for cluster in fleet.clusters.values())
    return left or bool(set(goal.anchors) & fleet.anchor.retired)


def check_fleets(count):
    run_state_machine_as_test(
        Fleet, settings=settings(max_examples=count, stateful_step_count=50, suppress_health_check=list(HealthCheck))
    )


def test_no_order_of_runs_cuts_anything_off_and_every_goal_is_reached_or_named():
    check_fleets(100)


@pytest.mark.soak
def test_no_order_of_runs_of_thousands_of_fleets_cuts_anything_off():
    check_fleets(3000)


def run_east_alone():
    """Return a fleet of which one cluster runs towards a new goal, and the others stand still."""
    fleet = Fleet()
    fleet.settle()
    fleet.set_goal("b")
    for _ in range(ROUNDS):
        fleet.every_stack_runs_once(["east", "anchor"], age=0)
        fleet.every_pod_is_replaced("east")
        fleet.no_handshake_fails()
    return fleet


def test_a_cluster_that_runs_alone_waits_for_the_others():
    fleet = run_east_alone()
    assert fleet.clusters["east"].trust == Trust(anchors=("a", "b"), signer="a")
    assert fleet.clusters["west"].trust == Trust(anchors=("a",), signer="a")
    assert any("west" in entry for entry in fleet.clusters["east"].waiting)


def test_a_cluster_that_does_not_wait_for_the_others_is_found(monkeypatch):
    """The simulation is worth something: without the pledges of others it finds the handshake that fails."""
    monkeypatch.setattr("tests.unit.test_fleet_goal.decide_run", decide_run_alone)
    with pytest.raises(AssertionError, match=r"west trusts \['a'\] and meets .*'b'"):
        run_east_alone()


def decide_run_alone(way, *, blockers, fleet):
    """Decide as a stack that is in no fleet, and announce what one in a fleet does."""
    step = reconcile.decide_run(way, blockers=blockers).step
    return RunDecision(step=step, pledge=reconcile.decide_run(way, blockers=blockers, fleet=fleet).pledge)
