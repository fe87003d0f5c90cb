"""A fleet in a few lines: clusters, and runs that read at their beginning, act later, and write at their end.

What a run decides is decided by the product's own rules.
"""

from dataclasses import dataclass, field
from typing import Any

from meshtrust.rotation.pledge import Pledge, announce, blocks_joining, decide
from meshtrust.rotation.steps import IllegalStepError, Trust, find_step

FIRST = Trust(anchors=("a",), signer="a")


@dataclass
class Pod:
    trusts: frozenset[str]
    leaf: str


@dataclass
class Run:
    step: Any
    decision: Any
    acted: bool = False


@dataclass
class Model:
    """One cluster and its stack."""

    name: str
    trust: Trust | None = None
    own: Pledge = field(default_factory=Pledge)
    bundle: frozenset[str] = frozenset()
    signer: str = ""
    pods: list[Pod] = field(default_factory=list)
    wanted: Trust = field(default_factory=lambda: FIRST)
    run: Any = None

    def is_ready(self, step):
        if step.kind == "switch":
            return step.after.signer in self.bundle and all(step.after.signer in pod.trusts for pod in self.pods)
        if step.kind == "retire":
            return self.signer not in step.generations and all(pod.leaf not in step.generations for pod in self.pods)
        return True

    def begin(self, passed_on):
        """Begin a run; what it does is decided now, and done later."""
        if self.trust is None:
            announced = announce(self.wanted.anchors, self.own)
            if passed_on.get(self.name, Pledge()).stamp != announced.stamp:
                # What a first deployment that failed has left must fit what is announced.
                fits = all(set(self.wanted.anchors) <= pod.trusts for pod in self.pods)
                if fits and self.bundle in (frozenset(), frozenset(self.wanted.anchors)):
                    self.run = Run(None, announced)
                return
        try:
            step = find_step(self.trust, self.wanted)
        except IllegalStepError:
            return
        if step is None or (step.kind == "deploy" and blocks_joining(self.name, self.wanted, passed_on)):
            return
        is_ready = self.is_ready(step)
        decision = decide(self.name, self.own, step, passed_on, is_ready=is_ready)
        if not decision.takes_step or step.kind == "introduce" or (is_ready and not decision.blockers):
            self.run = Run(step, decision)

    def act(self):
        """Change the cluster as the run has it."""
        self.run.acted = True
        if isinstance(self.run.decision, Pledge) or not self.run.decision.takes_step:
            return
        self.bundle, self.signer = frozenset(self.run.step.after.anchors), self.run.step.after.signer
        if self.run.step.kind == "deploy":
            self.pods = [Pod(self.bundle, self.signer) for _ in range(2)]

    def end(self, *, fails):
        """Write the outputs, unless the run fails in its last moment."""
        run, self.run = self.run, None
        if fails:
            return
        if isinstance(run.decision, Pledge):
            self.own = run.decision
            return
        self.own = run.decision.pledge
        if run.decision.takes_step:
            self.trust = run.step.after
