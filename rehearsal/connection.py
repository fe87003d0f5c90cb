"""A client of a cluster by its context, for tests and benchmarks."""

from meshtrust.cluster.api import Api
from meshtrust.cluster.connection.access import ClusterAccess
from meshtrust.cluster.connection.client import open_cluster


async def connect(context: str, kubeconfig: str) -> Api:
    """Return a client of the cluster that a context of a kubeconfig file names.

    Raises:
        ClusterError: As `open_cluster` does.
    """
    return await open_cluster(ClusterAccess(context=context, kubeconfig=kubeconfig))
