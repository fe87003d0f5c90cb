"""The state machine: all that may happen in a cluster in any order, with a rotation going on in it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from meshtrust.pki.pem import sha256_hex
from meshtrust.rotation.steps import Trust
from tests.gate_model.cluster import Cluster, External
from tests.gate_model.loop import ModelLoop
from tests.gate_model.person import persist
from tests.gate_model.pki import fingerprint_of, make_bundle, read_generations
from tests.gate_model.pods import Pod, Workload
from tests.gate_model.program import Program, Tally

T = TypeVar("T")

_FIRST = "2026"
_MOST_PODS, _MOST_WORKLOADS = 18, 9
_DAYS = timedelta(days=80)
_KEPT = ("Deployment", "StatefulSet", "DaemonSet", "Rollout")
_PICK = st.integers(0, 1 << 16)
_SPANS = (timedelta(seconds=5), timedelta(seconds=45), timedelta(minutes=3), timedelta(hours=2), timedelta(hours=13))

TALLY = Tally()


class GateMachine(RuleBasedStateMachine):
    """A cluster in which anything may happen that is not unsafe by itself, and a stack that rotates its anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = ModelLoop()

    def teardown(self) -> None:
        """Let go of the loop."""
        self.loop.close()

    @initialize(
        seed=st.integers(0, 1 << 32),
        by_trust_manager=st.booleans(),
        has_fixed_end=st.booleans(),
        age=st.integers(0, 5),
        reconciles=st.booleans(),
    )
    def install(self, seed: int, *, by_trust_manager: bool, has_fixed_end: bool, age: int, reconciles: bool) -> None:
        """Begin with a mesh at rest, and a stack that goes by its goal or by steps."""
        self.cluster = Cluster(seed)
        self.mesh = self.cluster.install(
            "linkerd", _FIRST, by_trust_manager=by_trust_manager, fixed_end=has_fixed_end, is_old=age == 5
        )
        self.cluster.add(Workload("Deployment", "shop", "web", self.mesh))
        self.cluster.settle()
        self.ends = self.cluster.now + _DAYS
        trust = Trust(anchors=(_FIRST,), signer=_FIRST)
        self.program = Program(self.cluster, trust, self.loop, TALLY, reconciles=reconciles)

    # Time.

    @rule(span=st.sampled_from(_SPANS))
    def wait(self, span: timedelta) -> None:
        """Let time go on."""
        self._count()
        if self.cluster.now + span < self.ends:
            self.cluster.advance(span)

    # The rotation.

    @rule(kind=st.sampled_from(("forward", "forward", "back")))
    def try_step(self, kind: str) -> None:
        """Run the program with the next step configured."""
        self._count()
        if step := self.program.propose(kind):
            self.program.run(step)

    @rule(kind=st.sampled_from(("forward", "forward", "back")), pick=_PICK, is_cut=st.booleans())
    def take_step_while_pods_come(self, kind: str, pick: int, *, is_cut: bool) -> None:
        """Run it, and have pods made between its two looks, of the control plane under a cut bundle too."""
        self._count()

        def overtake() -> None:
            if is_cut:
                self.restart_under_cut_bundle("destination", is_stuck=False)
            else:
                self._happen(pick)

        if step := self.program.propose(kind):
            self.program.run(step, meanwhile=overtake)

    @rule(kind=st.sampled_from(("forward", "forward", "back")), pick=_PICK, at=st.integers(1, 60))
    def take_step_while_looking(self, kind: str, pick: int, at: int) -> None:
        """Run it, and have pods made or restarted in the middle of the look."""
        self._count()
        if step := self.program.propose(kind):
            first = self.program.api.requests

            def between(request: int) -> None:
                if request == first + at:
                    self._happen(pick)

            self.program.api.between = between
            try:
                self.program.run(step)
            finally:
                self.program.api.between = lambda _: None

    @rule(kind=st.sampled_from(("forward", "forward", "back")), after=st.integers(0, 2))
    def kill_step(self, kind: str, after: int) -> None:
        """Run it, and kill it after some of its changes."""
        self._count()
        if step := self.program.propose(kind):
            self.program.run(step, killed_after=after)

    @rule()
    def deploy_again(self) -> None:
        """Deploy what is deployed."""
        self._count()
        self.program.deploy_again()

    @rule(kind=st.sampled_from(("forward", "forward", "back")), steps=st.integers(1, 3))
    def persist(self, kind: str, steps: int) -> None:
        """Take steps, one right after the other, whatever has to be done for each."""
        self._count()
        for _ in range(steps):
            if step := self.program.propose(kind):
                persist(self.cluster, self.program, step)
                TALLY.cured += 1

    # What people do with their workloads.

    @precondition(lambda self: len(self.cluster.workloads) < _MOST_WORKLOADS)
    @rule(
        kind=st.sampled_from((*_KEPT, "Job", "CronJob", "Pod")),
        sidecar=st.booleans(),
        on_delete=st.booleans(),
        by_hand=st.integers(0, 3),
        forged=st.integers(0, 3),
        replicas=st.integers(0, 2),
    )
    def add_workload(
        self, kind: str, *, sidecar: bool, on_delete: bool, by_hand: int, forged: int, replicas: int
    ) -> None:
        """Add a workload: with a proxy injected by hand, or with labels that claim it to be the control plane's."""
        self._count()
        workload = Workload(
            kind,
            "shop",
            f"{kind.lower()}{len(self.cluster.workloads)}",
            self.mesh,
            replicas=replicas,
            is_sidecar=sidecar,
            is_on_delete=on_delete and kind in ("StatefulSet", "DaemonSet"),
            manual_bundle=self.mesh.bundle if by_hand == 0 else None,
            labels={"linkerd.io/control-plane-component": "identity"} if forged == 0 else {},
        )
        self.cluster.add(workload)
        if kind in ("Job", "Pod"):
            self._make(workload)

    @rule(pick=_PICK, replicas=st.integers(0, 2))
    def scale(self, pick: int, replicas: int) -> None:
        """Scale a workload, to nothing too."""
        self._count()
        if workload := _choose(pick, [entry for entry in self._workloads if entry.kind in _KEPT]):
            workload.replicas = replicas

    @rule(pick=_PICK)
    def restart_workload(self, pick: int) -> None:
        """Restart a workload, of the control plane too."""
        self._count()
        if workload := _choose(pick, [entry for entry in self.cluster.workloads if entry.kind in _KEPT]):
            self.cluster.restart(workload)

    @rule(pick=_PICK)
    def fire_cron_job(self, pick: int) -> None:
        """Have a CronJob make its next pod."""
        self._count()
        if workload := _choose(pick, [entry for entry in self._workloads if entry.kind == "CronJob"]):
            self._make(workload)

    @rule(pick=_PICK, ending=st.sampled_from(("hangs", "has no node")))
    def keep_pod_from_starting(self, pick: int, ending: str) -> None:
        """Make a pod whose init containers go on and on beside its proxy, or which finds no node."""
        self._count()
        # A StatefulSet makes no pod more than it has names for.
        kinds = [kind for kind in _KEPT if kind != "StatefulSet"]
        workload = _choose(pick, [entry for entry in self._workloads if entry.kind in kinds and entry.replicas])
        pod = self._make(workload) if workload and len(self.cluster.pods) < _MOST_PODS else None
        if pod is not None:
            pod.ready += timedelta(days=5)
            pod.is_placed = ending != "has no node"

    @rule(pick=_PICK, phase=st.sampled_from(("Succeeded", "Failed")))
    def end_pod(self, pick: int, phase: str) -> None:
        """End a pod of a Job, or fail one of another workload."""
        self._count()
        if pod := _choose(pick, [pod for pod in self._pods if pod.deleted is None]):
            self.cluster.end(pod, phase)

    @rule(pick=_PICK, seconds=st.sampled_from((1, 30, 600, 1800)))
    def delete_pod(self, pick: int, seconds: int) -> None:
        """Delete a pod, which may take its time to end."""
        self._count()
        if pod := _choose(pick, self.cluster.pods):
            self.cluster.delete(pod, seconds)

    @rule(pick=_PICK, what=st.sampled_from(("proxy", "program", "both")))
    def crash_pod(self, pick: int, what: str) -> None:
        """Restart a pod's containers in place, of the control plane too."""
        self._count()
        if pod := _choose(pick, self.cluster.pods):
            if what != "program":
                self.cluster.restart_proxy(pod)
            if what != "proxy":
                self.cluster.restart_program(pod)

    @rule(pick=_PICK)
    def lose_node(self, pick: int) -> None:
        """Cut the node of a pod off, whose processes go on, or have it come back."""
        self._count()
        if pod := _choose(pick, self._pods):
            pod.is_reachable = not pod.is_reachable

    # Who else trusts the root.

    @precondition(lambda self: not self.cluster.externals)
    @rule()
    def add_external(self) -> None:
        """Bring a machine outside of the cluster into the mesh, with what the bundle holds and what signs."""
        self._count()
        trusted = read_generations(self.mesh.bundle)
        self.cluster.externals.append(External("shop", "vm-1", trusted, self.mesh.secret.generation))

    @precondition(lambda self: self.cluster.externals)
    @rule()
    def build_external_again(self) -> None:
        """Build a machine outside again, under its old name, with what signs alone.

        Whoever has acknowledged it for the attempt that comes next takes that back; what was said before that stays.
        """
        self._count()
        [entry] = self.cluster.externals
        signer = self.mesh.secret.generation
        if self.cluster.needed() <= {signer}:
            self.cluster.externals = [External(entry.namespace, entry.name, frozenset({signer}), signer)]
        for kind in ("forward", "back"):
            if step := self.program.propose(kind):
                self.program.take_back(f"ExternalWorkload {entry.namespace}/{entry.name}", step)

    @precondition(lambda self: len(self.cluster.meshes) == 1 and self.program.trust.phase == "steady")
    @rule()
    def install_another(self) -> None:
        """Install Linkerd in a second namespace under the same root."""
        self._count()
        trust = self.program.trust
        if read_generations(self.mesh.bundle) == {trust.signer} and self.cluster.needed() == {trust.signer}:
            other = self.cluster.install("linkerd-two", trust.signer)
            self.cluster.add(Workload("Deployment", "lab", "probe", other))

    # What goes wrong in the control plane.

    @rule(pick=_PICK)
    def miss_reload(self, pick: int) -> None:
        """Have an identity replica stop to watch its files."""
        self._count()
        if pod := _choose(pick, [pod for pod in self.cluster.pods if pod.component == "identity"]):
            pod.is_deaf = True

    @rule(pick=_PICK)
    def stick_mount(self, pick: int) -> None:
        """Have a kubelet write no change into an injector's mount any more."""
        self._count()
        if pod := _choose(pick, [pod for pod in self.cluster.pods if pod.component == "proxy-injector"]):
            assert pod.trust_roots is not None
            pod.trust_roots.is_stuck, pod.trust_roots.due = True, None

    @rule(
        is_stuck=st.booleans(),
        component=st.sampled_from(("proxy-injector", "proxy-injector", "destination", "identity")),
    )
    def restart_under_cut_bundle(self, component: str, *, is_stuck: bool) -> None:
        """Have a part of the control plane restarted while the bundle lacks a root, which is put back then.

        Its nodes may write no change into its mounts any more.
        """
        self._count()
        bundle, needed = self.mesh.bundle, self.cluster.needed()
        if not needed < read_generations(bundle):
            return
        self.cluster.publish(self.mesh, make_bundle(tuple(sorted(needed))), "kubectl-edit")
        for pod in [pod for pod in self.cluster.pods if pod.mesh is self.mesh and pod.component == component]:
            self.cluster.delete(pod, 1)
        self.cluster.settle()
        for pod in self.cluster.pods:
            if pod.mesh is self.mesh and pod.component == component and pod.trust_roots is not None and is_stuck:
                pod.trust_roots.is_stuck, pod.trust_roots.due = True, None
        self.cluster.publish(self.mesh, bundle, "kubectl-edit")

    # What people do by hand, short of what is unsafe by itself.

    @rule(how=st.sampled_from(("reorder", "newline", "foreign", "cut", "restore")), pick=_PICK)
    def edit_bundle(self, how: str, pick: int) -> None:
        """Edit the ConfigMap: its text only, a root more, one less that nothing needs, or back to what is deployed."""
        self._count()
        held, needed = read_generations(self.mesh.bundle), self.cluster.needed()
        if how == "restore":
            bundle = make_bundle(self.program.trust.anchors)
        elif how == "newline":
            bundle = self.mesh.bundle.strip() + "\n"
        elif how == "reorder":
            bundle = make_bundle(tuple(sorted(held, reverse=True)))
        elif how == "foreign":
            bundle = make_bundle((*sorted(held), "9999"))
        else:
            dropped = _choose(pick, sorted(held - needed))
            bundle = make_bundle(tuple(sorted(held - {dropped})))
        if needed <= read_generations(bundle):
            self.cluster.publish(self.mesh, bundle, "kubectl-edit")

    @rule(pick=_PICK, key=st.sampled_from(("linkerd.io/trust-root-sha256", "meshtrust.io/trust-anchors")))
    def forge_annotation(self, pick: int, key: str) -> None:
        """Annotate a pod with what it does not trust."""
        self._count()
        if pod := _choose(pick, self._pods):
            held = sorted(read_generations(self.mesh.bundle))
            lie = sha256_hex(self.mesh.bundle) if "sha256" in key else ",".join(map(fingerprint_of, held))
            pod.annotations[key] = lie

    @rule(pick=_PICK)
    def strip_label(self, pick: int) -> None:
        """Take the label off a pod by which Linkerd's tools find it."""
        self._count()
        if pod := _choose(pick, self._pods):
            pod.labels.pop("linkerd.io/control-plane-ns", None)

    @property
    def _workloads(self) -> list[Workload]:
        return [entry for entry in self.cluster.workloads if not entry.component]

    @property
    def _pods(self) -> list[Pod]:
        return [pod for pod in self.cluster.pods if not pod.component]

    def _make(self, workload: Workload) -> Pod | None:
        return self.cluster.make_pod(workload)

    def _happen(self, pick: int) -> None:
        """Have something happen to pods, as it may at any moment of a run."""
        events: list[Callable[[], object]] = [
            lambda: self.cluster.advance(timedelta(seconds=pick % 100)),
            lambda: self.cluster.restart_proxy(self.cluster.pods[pick % len(self.cluster.pods)]),
            lambda: self.cluster.restart(self.cluster.workloads[pick % len(self.cluster.workloads)]),
            lambda: self.cluster.delete(self.cluster.pods[pick % len(self.cluster.pods)], pick % 60),
        ]
        events[pick % len(events)]()

    def _count(self) -> None:
        TALLY.steps += 1


def _choose(pick: int, found: Sequence[T]) -> T | None:
    return found[pick % len(found)] if found else None
