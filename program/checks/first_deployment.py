"""The guard's part for a first deployment: where a mesh is there already, it must go on as it is."""

from datetime import UTC, datetime
from typing import Any

from meshtrust.cluster.api import Api
from meshtrust.cluster.helm_release import read_releases
from meshtrust.linkerd.evidence import read_mesh
from meshtrust.names import LINKERD_CONTROL_PLANE
from meshtrust.pki.pem import read_bundle
from meshtrust.rotation.gate import blocks_deploy
from meshtrust.rotation.known_roots import Held, generation_of
from meshtrust.rotation.steps import first_step
from meshtrust.stacks.outputs import StackOutputs
from program.guard.admission import Admission, Admitted
from program.guard.overrides import override_or_refuse
from program.refusal import ending

_CURE = (
    "Deploy it with the anchors and the signer that this mesh has (`meshtrust adopt`, docs/issuing.md), and rotate "
    "from there; if a first deployment has failed, with those that it was made with."
)


async def check(
    admission: Admission, admitted: Admitted, last: StackOutputs, mark: str
) -> tuple[Held, list[dict[str, Any]]]:
    """Make sure that a first deployment leaves a mesh that is there as it is; another deployment has no such check.

    A root that this stack makes is known before it is declared only from the bundle of the mesh: where the mesh is this
    stack's, left by a run that failed, the stack's state has that very root, or has been lost.

    Args:
        admission: What the run may do.
        admitted: What is known since it may go ahead.
        last: What the stack last deployed.
        mark: What a release of this stack says of who deployed it.

    Returns:
        The trust that the deployment has to keep, which is none if the mesh is given up; and the audit trail.

    Raises:
        pulumi.RunError: Pods would be cut off, and the configuration does not say that it goes ahead all the same.
        SystemExit: The cluster cannot be read.
    """
    if admission.api is None or last.trust:
        return admitted.held, admitted.transitions
    settings, namespace = admission.settings, admission.settings.linkerd.namespace
    with ending("\nNothing was changed."):
        api = await admission.api
        mesh = await read_mesh(api, namespace)
    if not mesh.is_there:
        return Held(), admitted.transitions
    roots = {name: read_bundle(pem)[0] for name, pem in settings.anchor.certificates.items()}
    own = admitted.held if await _is_own(api, namespace, mark) else Held()
    for root in own.roots:
        if (name := generation_of(root)) in settings.anchor.generations:
            roots.setdefault(name, root)
    blockers = blocks_deploy(mesh, roots, settings.anchor.signer, datetime.now(UTC))
    if not blockers:
        return own, admitted.transitions
    *before, entry = admitted.transitions
    gate = override_or_refuse(settings, last, first_step(settings.trust), blockers, _CURE)
    return Held(), [*before, {**entry, **gate}]


async def _is_own(api: Api, namespace: str, mark: str) -> bool:
    with ending("\nNothing was changed."):
        releases = await read_releases(api, namespace, LINKERD_CONTROL_PLANE)
    return any(release.description == mark for release in releases)
