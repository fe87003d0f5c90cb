"""The guard's part for a cluster that joins a fleet: what it announces must be so, where a mesh is there already."""

import os

import pulumi

from meshtrust.cluster.api import OFFLINE, ClusterError
from meshtrust.cluster.connection.process import ClusterProcess
from meshtrust.linkerd.evidence import read_mesh
from meshtrust.pki.pem import fingerprint, read_bundle
from program.configuration.settings import Settings


async def check_announced(settings: Settings, asker: ClusterProcess) -> None:
    """Let a cluster announce itself to its fleet, or refuse it: what runs there already must fit what it announces.

    Args:
        settings: What the stack says.
        asker: Who asks the cluster.

    Raises:
        pulumi.RunError: The cluster cannot be read, or has a mesh that does not trust what it is to be deployed with.
    """
    if os.environ.get(OFFLINE) == "1":
        return
    try:
        api = await asker.connect(settings.cluster.context, settings.cluster.kubeconfig)
        mesh = await read_mesh(api, settings.linkerd.namespace)
    except ClusterError as error:
        msg = f"{error}\nNothing was changed."
        raise pulumi.RunError(msg) from None
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
