"""The plan of a run: the result of all checks, and the only input of what is declared and waited for after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshtrust.cluster.api import Api
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.goal import Way
from meshtrust.rotation.known_roots import Held
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.report import RotationReport
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.takeover.present_mesh import PresentMesh
from program.configuration.settings import Settings
from program.membership import Membership


@dataclass(frozen=True, kw_only=True)
class CheckedStep:
    """A switch or a retirement that the cluster was ready for, and which is checked again right before it is taken.

    Attributes:
        step: The step.
        accepted: The blockers of the first check that an override has let pass.
    """

    step: Step
    accepted: Sequence[Blocker] = ()


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run that has passed its checks.

    Attributes:
        settings: The settings that the run deploys, at the generations that the evidence allows: a run that takes no
            step yet stays at those of the last deployment.
        way: The way to the goal that is left after the run.
        rotation: The report of the rotation, as the outputs have it.
        last: The outputs of the last deployment.
        fleet: The cluster's place in its fleet; None if it owns its trust anchor.
        requested_generations: The generations for which a cluster of a fleet requests intermediates: those of the plan
            and those of the configuration; empty unless the issuer is signed by intermediates, or is to be.
        api: The client of the cluster; None offline.
        cluster_uid: UID of the cluster; offline that of the last deployment, None before the first.
        held: The trust that the cluster holds and the deployment has to keep; empty offline, and if the cluster's mesh
            is given up by an override.
        pledge: The pledge of the cluster to its fleet from this run on; None if it is in no fleet.
        transitions: The audit trail with this run's entries: each has step, generations, at (ISO 8601, UTC), by, gate
            (open, warned, overridden or none), and the reason and number of blockers if it was not open.
        checked_step: The step that is checked again right before it is taken; None if the run takes no such step.
        awaits_issuer: Whether the run changes the identity issuer, so that Linkerd waits for its Secret.
        taken_over: The mesh that the run takes over, which other means have made; None if there is none.
        signs_first: Whether the run deploys a new mesh together with cert-manager, and may sign its first credentials
            itself, so that Linkerd starts meanwhile.
        restorations: How often the bundle of Linkerd's release has been restored, this run included.
    """

    settings: Settings
    way: Way
    rotation: RotationReport
    last: StackOutputs
    fleet: Membership | None
    requested_generations: tuple[str, ...]
    api: Api | None
    cluster_uid: str | None
    held: Held
    pledge: Pledge | None
    transitions: Sequence[dict[str, Any]]
    checked_step: CheckedStep | None
    awaits_issuer: bool
    restorations: int
    taken_over: PresentMesh | None = None
    signs_first: bool = False

    @property
    def default_named_generation(self) -> str:
        """The generation that has the names of Linkerd's guide in mode ``anchor``; empty if none has."""
        return self.last.default_named_generation or self.settings.default_named_generation
