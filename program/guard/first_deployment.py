"""The guard's part for a first deployment: where a mesh is there already, it must go on as it is."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from components.trust_anchor import TrustAnchor
from meshtrust.deployment import Deployment
from meshtrust.evidence import read_mesh
from meshtrust.gate import blocks_deploy
from meshtrust.helm_release import read_releases
from meshtrust.pem import read_bundle
from meshtrust.rotation import first_step
from program.guard.admission import Admission
from program.guard.steps import override_or_refuse
from program.refusal import ending

_CURE = (
    "Deploy it with the anchors and the signer that this mesh has (`meshtrust adopt`, docs/issuing.md), and rotate "
    "from there; if a first deployment has failed, with those that it was made with."
)


async def declare(
    admission: Admission, last: Deployment, mark: str, anchor: Callable[[], TrustAnchor]
) -> tuple[TrustAnchor, list[dict[str, Any]]]:
    """Declare the trust anchor where that is safe; return it, and the audit trail with what the gate says.

    What the roots are that this stack makes shows when they are declared. They are not, where the mesh cannot know
    them: what is made to sign is protected, and would be in the way of the right ones.

    Args:
        admission: What the run may do.
        last: What the stack last deployed.
        mark: What a release of this stack says of who deployed it.
        anchor: Declares the roots.

    Raises:
        pulumi.RunError: Pods would be cut off, and the configuration does not say that it goes ahead all the same.
        SystemExit: The cluster cannot be read.
    """
    settings, namespace = admission.settings, admission.settings.linkerd.namespace
    if admission.api is None or last.trust:
        return anchor(), admission.transitions
    with ending("\nNothing was changed."):
        api = await admission.api
        mesh = await read_mesh(api, namespace)
        releases = await read_releases(api, namespace, "linkerd-control-plane") if mesh.is_there else []
    if not mesh.is_there:
        return anchor(), admission.transitions
    roots = {name: read_bundle(pem)[0] for name, pem in settings.anchor.certificates.items()}
    declared = None
    if settings.anchor.signer in roots or any(release.description == mark for release in releases):
        declared = anchor()
        for name, signer in declared.signers.items():
            # One that a preview does not know is one that the run would make, which nothing trusts yet.
            if pem := await signer.certificate_pem.future():
                roots[name] = read_bundle(pem)[0]
    blockers = blocks_deploy(mesh, roots, settings.anchor.signer, datetime.now(UTC))
    *before, entry = admission.transitions
    gate = override_or_refuse(settings, first_step(settings.trust), blockers, _CURE) if blockers else {}
    return declared or anchor(), [*before, {**entry, **gate}]
