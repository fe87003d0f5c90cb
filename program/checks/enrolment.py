"""The check of a cluster that joins a fleet: what it announces must fit a mesh that is there already."""

import os

import pulumi

from meshtrust.cluster.api import OFFLINE
from meshtrust.cluster.connection.client import open_cluster
from meshtrust.linkerd.evidence import read_mesh
from meshtrust.pki.pem import fingerprint, read_bundle
from program.configuration.settings import Settings
from program.refusal import refusing


async def check_enrolment(settings: Settings) -> None:
    """Check that a mesh that runs already trusts the anchors which its stack announces to the fleet.

    Args:
        settings: The stack's settings.

    Raises:
        pulumi.RunError: The cluster cannot be read, or has a mesh that does not trust what it is to be deployed with.
    """
    if os.environ.get(OFFLINE) == "1":
        return
    with refusing():
        api = await open_cluster(settings.cluster.access, pulumi.log.warn)
        mesh = await read_mesh(api, settings.linkerd.namespace)
    names = settings.anchor.generations
    announced = {fingerprint(read_bundle(settings.anchor.certificates[name])[0]) for name in names}
    lacking = [pod for pod in mesh.pods if any(map(pod.may_lack, announced))]
    if lacking or (mesh.roots and set(map(fingerprint, mesh.roots)) != announced):
        where = f"{len(lacking)} pods lack some, such as {lacking[0]}" if lacking else "its bundle is another"
        msg = (
            f"The cluster has a mesh already, and it does not trust what this stack announces to the fleet (anchors "
            f"{', '.join(names)}): {where}. If a first deployment has failed, set meshtrust:anchors back to what it "
            "was made with; otherwise remove that mesh first.\nNothing was changed."
        )
        raise pulumi.RunError(msg)
