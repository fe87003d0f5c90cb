"""The runs of a stack in the model: the code under test finds and judges a step, then a run changes things one by one.

Source of the order: `program.cluster_stack` (a look before the run, one right before the issuer or the bundle changes,
the issuer, the bundle, Linkerd's templates; after a switch a look at what has overtaken it; outputs once all is well).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from meshtrust.rotation.acknowledgements import Acknowledgements
from meshtrust.rotation.gate import Blocker, find_blockers, find_overtaken
from meshtrust.rotation.goal import Way, find_way
from meshtrust.rotation.reconcile import decide_run
from meshtrust.rotation.steps import Step, Trust, find_step, plan_abort, plan_rotation
from tests.gate_model.cluster import Cluster
from tests.gate_model.kubernetes import ModelApi
from tests.gate_model.loop import ModelLoop
from tests.gate_model.pki import make_bundle, root

_POLL = timedelta(seconds=15)
_READY_WITHIN = 40


@dataclass
class Tally:
    """Counts of events in a run of the machine, to check that it met the events it is about."""

    steps: int = 0
    looks: int = 0
    refused: int = 0
    killed: int = 0
    overtaken: int = 0
    cured: int = 0
    waited: int = 0
    taken: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Add what another run has gone through."""
        for name, count in vars(other).items():
            if name != "taken":
                setattr(self, name, getattr(self, name) + count)
        for kind, count in other.taken.items():
            self.taken[kind] = self.taken.get(kind, 0) + count

    def clear(self) -> None:
        """Begin again."""
        vars(self).update(vars(Tally()))

    def take(self, kind: str) -> None:
        """Count a step that was let through."""
        self.taken[kind] = self.taken.get(kind, 0) + 1


@dataclass
class Run:
    """Result of a run: its refusal, or whether it finished."""

    blockers: list[Blocker] = field(default_factory=list)
    is_done: bool = False


class Program:
    """The stack of a cluster.

    Attributes:
        trust: What its outputs say was deployed last.
    """

    def __init__(
        self, cluster: Cluster, trust: Trust, loop: ModelLoop, tally: Tally, *, reconciles: bool = False
    ) -> None:
        self.trust = trust
        self._reconciles = reconciles
        self._acknowledged: dict[str, dict[str, str]] = {}
        # How many steps had been taken when each was given, by step and subject.
        self._acknowledged_at: dict[tuple[str, str], int] = {}
        # How many steps were taken, by which acknowledgements of one attempt are distinguished from those of another.
        self._taken = 0
        self.api = ModelApi(cluster)
        self._cluster, self._loop, self._tally = cluster, loop, tally
        self._mesh = cluster.meshes[0]
        # What the engine's state holds of each resource; a run changes only what differs from that.
        self._state = (trust.signer, make_bundle(trust.anchors))
        self._newest = int(trust.anchors[-1])

    def propose(self, kind: str) -> Step | None:
        """Return a step that can be configured now, by the code under test: one forward or back, or None.

        Args:
            kind: ``forward`` or ``back``.
        """
        if self._reconciles:
            return self._find_way(kind).next
        if kind == "back":
            wanted = plan_abort(self.trust).after if self.trust.phase != "steady" else None
        else:
            to = self.trust.anchors[-1]
            if self.trust.phase == "steady":
                to = str(self._newest + 1)
            wanted = plan_rotation(self.trust, to)[0].after
        return find_step(self.trust, wanted) if wanted else None

    def _find_way(self, kind: str) -> Way:
        """Return the way to a goal: the newest generation alone, a new one if that is deployed, or the oldest alone."""
        to = self.trust.anchors[0]
        if kind == "forward":
            to = str(self._newest + 1) if self.trust.phase == "steady" else self.trust.anchors[-1]
        return find_way(self.trust, Trust(anchors=(to,), signer=to))

    def look(self, step: Step) -> list[Blocker]:
        """Return what the gate finds."""
        self._tally.looks += 1
        roots = {name: root(name).certificate for name in step.before.anchors} if step.before else {}
        given = Acknowledgements(given=self._acknowledged.get(step.name, {}), taken=self._taken)
        return self._loop.run_in(
            self._cluster, find_blockers(self.api, self._mesh.namespace, step, roots, acknowledged=given)
        )

    def acknowledge(self, given: Mapping[str, Mapping[str, str]]) -> None:
        """Write acknowledgements into the configuration, by step and subject; they stay there for good."""
        for step, subjects in given.items():
            self._acknowledged.setdefault(step, {}).update(subjects)
            self._acknowledged_at.update({(step, subject): self._taken for subject in subjects})

    def take_back(self, subject: str, step: Step) -> None:
        """Take an acknowledgement of the attempt that comes next out of the configuration."""
        if self._acknowledged_at.get((step.name, subject)) == self._taken:
            self._acknowledged[step.name].pop(subject, None)

    def run(self, step: Step, *, killed_after: int | None = None, meanwhile: Callable[[], None] | None = None) -> Run:
        """Look, and take the step if nothing blocks it.

        Args:
            step: The step.
            killed_after: After how many of its changes the run is killed; None for one that is not.
            meanwhile: What happens in the cluster between the look and the first change.
        """
        if blockers := self.look(step):
            self._tally.refused += 1
            if self._reconciles and decide_run(Way(goal=step.after, steps=(step,)), blockers=blockers).step is None:
                self._wait_for_next_run()
            return Run(blockers)
        if meanwhile:
            meanwhile()
        if step.kind in ("switch", "retire") and (blockers := self.look(step)):
            self._tally.overtaken += 1
            return Run(blockers)
        self._tally.take(step.kind)
        before = self.trust
        is_done = self._deploy(step.after, killed_after)
        if is_done and step.kind == "switch" and (blockers := self._look_after(step)):
            self._tally.overtaken += 1
            self.trust = before
            return Run(blockers)
        self._taken += is_done
        return Run(is_done=is_done)

    def _wait_for_next_run(self) -> None:
        """Deploy what is deployed, as a run does that waits: it takes a killed switch back if that is safe."""
        signer = self._mesh.secret.generation
        if signer != self.trust.signer and signer in self.trust.anchors:
            back = Step(kind="switch", generations=(self.trust.signer,), before=self.trust, after=self.trust)
            if self.look(back):
                return
        self._tally.waited += 1
        self._deploy(self.trust, None)

    def _look_after(self, step: Step) -> list[Blocker]:
        """Return what has overtaken a switch; the run records nothing of it then."""
        signer = step.after.signer
        late = find_overtaken(self.api, self._mesh.namespace, root(signer).certificate, signer)
        return self._loop.run_in(self._cluster, late)

    def deploy_again(self) -> bool:
        """Deploy what is deployed (``pulumi up --refresh``), and return whether the run came to its end."""
        self._state = ("", "")
        return self._deploy(self.trust, None)

    def _deploy(self, wanted: Trust, killed_after: int | None) -> bool:
        self._newest = max(self._newest, *map(int, wanted.anchors))
        for number, is_well in enumerate(self._changes(wanted)):
            if not is_well:
                return False
            if number == killed_after:
                self._tally.killed += 1
                return False
        self.trust = wanted
        return True

    def _changes(self, wanted: Trust) -> Iterator[bool]:
        """Make the changes of a run one by one, and yield after each whether it came to its end."""
        cluster, mesh = self._cluster, self._mesh
        bundle = make_bundle(wanted.anchors)
        if self._state[0] != wanted.signer:
            cluster.order(mesh, wanted.signer)
            self._state = (wanted.signer, self._state[1])
            yield self._wait(lambda: mesh.secret.generation == wanted.signer)
        if self._state[1] != bundle:
            cluster.publish(mesh, bundle, "trust-manager" if mesh.by_trust_manager else "helm")
            cluster.advance(timedelta(seconds=2))
            yield True
            cluster.release(mesh, bundle)
            self._state = (self._state[0], bundle)
            yield True
        yield self._wait(lambda: cluster.is_rolled_out(mesh))

    def _wait(self, is_reached: Callable[[], bool]) -> bool:
        for _ in range(_READY_WITHIN):
            if is_reached():
                return True
            self._cluster.advance(_POLL)
        return False
