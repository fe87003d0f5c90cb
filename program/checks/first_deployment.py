"""The check of a first deployment: if a mesh is there already, it must go on as it is."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pulumi
from cryptography import x509

from meshtrust.cluster.api import Api
from meshtrust.cluster.helm_release import read_releases, was_never_installed
from meshtrust.linkerd.evidence import Mesh, read_mesh
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, SIGNING_MODES
from meshtrust.pki.pem import read_bundle
from meshtrust.rotation.gate import blocks_deploy
from meshtrust.rotation.goal import Way, find_way_from_mesh
from meshtrust.rotation.known_roots import Held, generation_of
from meshtrust.rotation.steps import first_step
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.takeover.adoption import AdoptionError
from meshtrust.stacks.takeover.present_mesh import PresentMesh, describe_mesh
from program.checks.overrides import override_or_refuse
from program.checks.releases import owner_id
from program.checks.steps import StepDecision
from program.configuration.settings import Settings

_CURE = (
    "Deploy it with the anchors and the signer that this mesh has (`meshtrust adopt`, docs/issuing.md; for `linkerd "
    "install`, docs/runbook.md, Linkerd installed by the CLI), and rotate from there; if a first deployment has "
    "failed, with those that it was made with."
)


@dataclass(frozen=True, kw_only=True)
class FirstDeployment:
    """A first deployment, and the mesh that it finds.

    Attributes:
        mesh: The mesh; None if there is none.
        held: The trust that the cluster holds by a failed run of this stack.
        present: The mesh as a last deployment, where the way to the goal begins with it; None if the goal is deployed
            at once.
        obstacle: Why the way to the goal cannot begin with the mesh; empty if it can, or need not.
    """

    mesh: Mesh | None = None
    held: Held = field(default_factory=Held)
    present: PresentMesh | None = None
    obstacle: str = ""

    @property
    def deployed(self) -> StackOutputs:
        """The mesh that it takes over, as the deployment before it; empty if there is none."""
        return self.present.deployed if self.present else StackOutputs({})

    def may_sign_first(self, settings: Settings, last: StackOutputs) -> bool:
        """Whether there is no mesh yet, and cert-manager, which the stack installs, is all that Linkerd would wait for.

        Args:
            settings: The settings that the run deploys.
            last: The outputs of the last deployment.
        """
        is_new = last.trust is None and self.mesh is None
        has_ca = settings.issuer.mode in SIGNING_MODES & CERT_MANAGER_MODES
        return is_new and has_ca and settings.cert_manager is not None and not settings.trust_bundle.by_trust_manager

    def way(self, settings: Settings) -> Way:
        """Return the way to the goal from a mesh that is taken over, and write it to the engine's log.

        Raises:
            ValueError: None is taken over.
        """
        if self.present is None or self.deployed.trust is None:
            msg = "the way to a goal begins with a mesh only where there is one"
            raise ValueError(msg)
        way = find_way_from_mesh(self.deployed.trust, settings.trust)
        later = ", then ".join(map(str, way.steps[1:]))
        pulumi.log.warn(
            f"Namespace {settings.linkerd.namespace} has a mesh, with {self.deployed.trust}. This run takes it over: "
            f"its roots stay in the bundle, and its issuer goes on to sign. Later runs {later}, each when that is "
            "safe. From now on nothing else may deploy this Linkerd: no `linkerd upgrade`, and no other pipeline."
        )
        return way


async def find_mesh(api: Api, settings: Settings, last: StackOutputs, held: Held, *, in_fleet: bool) -> FirstDeployment:
    """Find the mesh that a first deployment would meet, and decide whether the way to the goal begins with it.

    It does if the goal alone would cut pods off, in mode ``reconcile``. In a fleet it never does: the roots of the mesh
    would have to be trusted in all clusters first.

    Args:
        api: The client of the cluster.
        settings: The stack's settings, which have the goal.
        last: The outputs of the last deployment.
        held: The trust that the cluster holds.
        in_fleet: Whether the cluster is one of a fleet.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    namespace, now = settings.linkerd.namespace, datetime.now(UTC)
    mesh = None if last.trust else await read_mesh(api, namespace)
    if mesh is None or not mesh.is_installed:
        return FirstDeployment()
    control_plane = settings.linkerd.releases[1]
    releases = await read_releases(api, namespace, control_plane)
    # Whose an installation is that never ended is not known. What it holds is kept as if it were this stack's: another
    # state does not have its key, and no run makes a root again (program/declare/trust_anchor.py).
    is_own = any(release.description == owner_id() for release in releases) or (
        await was_never_installed(api, namespace, control_plane)
    )
    own = held if is_own else Held()
    found = FirstDeployment(mesh=mesh, held=own)
    known = _known_roots(settings, own)
    if not blocks_deploy(mesh, known, settings.anchor.signer, now) or settings.rotation.mode != "reconcile":
        return found
    given_up = [name for root in own.roots if (name := generation_of(root)) and name not in known]
    if in_fleet or given_up:
        made = f"this stack has made {', '.join(given_up)}, and would lose its key"
        return replace(found, obstacle="the other clusters of its fleet do not trust them" if in_fleet else made)
    by_trust_manager = settings.trust_bundle.by_trust_manager
    try:
        present = await describe_mesh(
            api, mesh, known, has_release=bool(releases), by_trust_manager=by_trust_manager, now=now
        )
    except AdoptionError as error:
        return replace(found, obstacle=str(error).rstrip("."))
    return replace(found, mesh=present.mesh, present=present)


async def check(
    found: FirstDeployment, decision: StepDecision, last: StackOutputs, held: Held
) -> tuple[StepDecision, Held]:
    """Check that a first deployment leaves a mesh that is there as it is; another deployment passes.

    The fingerprints of roots that this stack makes are known only after registration, but for those in the bundle of a
    mesh that a failed run of this stack has left.

    Args:
        found: The mesh that a first deployment meets.
        decision: The first step, as far as it is decided.
        last: The outputs of the last deployment.
        held: The trust that the cluster holds.

    Returns:
        The decision, with the override in the step's entry if one was needed; and the trust that the deployment has to
        keep, which is none if the mesh is given up.

    Raises:
        pulumi.RunError: Pods would lose mesh connectivity, and no override lets the step pass.
    """
    if last.trust:
        return decision, held
    if found.mesh is None:
        return decision, Held()
    settings = decision.settings
    known = _known_roots(settings, found.held)
    blockers = blocks_deploy(found.mesh, known, settings.anchor.signer, datetime.now(UTC))
    if not blockers:
        return decision, found.held
    cure = (
        f"Its roots cannot be kept beside those of this stack: {found.obstacle}. {_CURE}" if found.obstacle else _CURE
    )
    *before, entry = decision.entries
    override = override_or_refuse(settings, last, first_step(settings.trust), blockers, cure)
    return replace(decision, entries=[*before, {**entry, **override}]), Held()


def _known_roots(settings: Settings, own: Held) -> dict[str, x509.Certificate]:
    """Return the roots of a run that exist before it, by generation."""
    roots = {name: read_bundle(pem)[0] for name, pem in settings.anchor.certificates.items()}
    for root in own.roots:
        if (name := generation_of(root)) in settings.anchor.generations:
            roots.setdefault(name, root)
    return roots
