"""A Kubernetes cluster of real parts, run as processes of this machine: no account, no container engine, no root.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the released ones, and so are the controllers of
cert-manager. kwok plays the nodes: a pod is an object that is ready at once. Where the container of a pod matters, a
process of the rehearsal runs as long as the pod exists.
"""

from rehearsal.cluster.binaries import Binaries, ensure
from rehearsal.cluster.cluster import Cluster
from rehearsal.cluster.errors import ClusterError

__all__ = ["Binaries", "Cluster", "ClusterError", "ensure"]
