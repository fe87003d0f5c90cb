"""The check of a first deployment: if a mesh is there already, it must go on as it is."""

from dataclasses import replace
from datetime import UTC, datetime

from meshtrust.cluster.api import Api
from meshtrust.cluster.helm_release import read_releases
from meshtrust.linkerd.evidence import read_mesh
from meshtrust.names import LINKERD_CONTROL_PLANE
from meshtrust.pki.pem import read_bundle
from meshtrust.rotation.gate import blocks_deploy
from meshtrust.rotation.known_roots import Held, generation_of
from meshtrust.rotation.steps import first_step
from meshtrust.stacks.outputs import StackOutputs
from program.checks.overrides import override_or_refuse
from program.checks.releases import owner_id
from program.checks.steps import StepDecision

_CURE = (
    "Deploy it with the anchors and the signer that this mesh has (`meshtrust adopt`, docs/issuing.md), and rotate "
    "from there; if a first deployment has failed, with those that it was made with."
)


async def check(api: Api, decision: StepDecision, last: StackOutputs, held: Held) -> tuple[StepDecision, Held]:
    """Check that a first deployment leaves a mesh that is there as it is; another deployment passes.

    The fingerprints of roots that this stack makes are known only after registration, but for those in the bundle of a
    mesh that a failed run of this stack has left.

    Args:
        api: The client of the cluster.
        decision: The first step, as far as it is decided.
        last: The outputs of the last deployment.
        held: The trust that the cluster holds.

    Returns:
        The decision, with the override in the step's entry if one was needed; and the trust that the deployment has to
        keep, which is none if the mesh is given up.

    Raises:
        pulumi.RunError: Pods would lose mesh connectivity, and no override lets the step pass.
        ClusterError: The cluster cannot be read.
    """
    if last.trust:
        return decision, held
    settings, namespace = decision.settings, decision.settings.linkerd.namespace
    mesh = await read_mesh(api, namespace)
    if not mesh.is_installed:
        return decision, Held()
    roots = {name: read_bundle(pem)[0] for name, pem in settings.anchor.certificates.items()}
    own = held if await _is_own(api, namespace) else Held()
    for root in own.roots:
        if (name := generation_of(root)) in settings.anchor.generations:
            roots.setdefault(name, root)
    blockers = blocks_deploy(mesh, roots, settings.anchor.signer, datetime.now(UTC))
    if not blockers:
        return decision, own
    *before, entry = decision.entries
    override = override_or_refuse(settings, last, first_step(settings.trust), blockers, _CURE)
    return replace(decision, entries=[*before, {**entry, **override}]), Held()


async def _is_own(api: Api, namespace: str) -> bool:
    releases = await read_releases(api, namespace, LINKERD_CONTROL_PLANE)
    return any(release.description == owner_id() for release in releases)
