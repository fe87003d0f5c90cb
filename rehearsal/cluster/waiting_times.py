"""Waiting times of a cluster's pods: as on real nodes, or none."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from meshtrust.names import PROXY

WaitingTimesName = Literal["none", "real", "serial"]
FILE = "waiting-times.json"


@dataclass(frozen=True, kw_only=True)
class WaitingTimes:
    """The time that pods take to start (rehearsal/cluster/starts).

    Attributes:
        pulls: Seconds that a node takes to pull an image, by the image's path without registry and tag. Each node
            pulls an image once, and the images of one pod one after the other.
        other_pulls: The same for an image that is not listed.
        shortest_start: The least seconds that a container takes to start; a container's name decides how many it takes.
        longest_start: The most.
        serialize_image_pulls: Whether a node pulls one image at a time, of all pods; a kubelet's setting of this name.
        missing: Paths of images that the registry does not have.
    """

    pulls: Mapping[str, float] = field(default_factory=dict)
    other_pulls: float
    shortest_start: float
    longest_start: float
    serialize_image_pulls: bool = False
    missing: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return them as the program reads them."""
        return {
            "pulls": dict(self.pulls),
            "otherPulls": self.other_pulls,
            "shortestStart": self.shortest_start,
            "longestStart": self.longest_start,
            "serializeImagePulls": self.serialize_image_pulls,
            "missing": list(self.missing),
        }


# cert-manager's are from events of kubelets in published logs of k3d clusters, of v1.16.1: webhook (18 MB) 18.2, 20.0
# and 20.7 seconds, cainjector (15 MB) 17.2, 24.6 and 25.2, controller (21 MB) 27.4 and 28.7; of each the least, and at
# most 25. In the same events a container takes 2 to 3 seconds from its creation to its start; a readiness probe comes
# on top. No such events were found for Linkerd's two images (linkerd2 ``charts/linkerd-control-plane/values.yaml``):
# their times are assumed. The nodes of the large providers pull for several pods at once: EKS (awslabs/amazon-eks-ami
# ``nodeadm/internal/kubelet/config.go``) and AKS from Kubernetes 1.31 on (Azure/AKS issue 4499) without a limit.
REAL = WaitingTimes(
    pulls={
        "jetstack/cert-manager-cainjector": 17,
        "jetstack/cert-manager-controller": 25,
        "jetstack/cert-manager-webhook": 18,
        "linkerd/controller": 20,
        "linkerd/proxy": 15,
        "stand-in/linkerd-controller": 20,
        f"stand-in/{PROXY}": 15,
    },
    other_pulls=10,
    shortest_start=2,
    longest_start=5,
)
# A kubelet that is not told otherwise pulls one image at a time (kubernetes.io, "Serial and parallel image pulls"), so
# that a node which runs a pod of cert-manager and one of Linkerd pulls the images of both one after the other.
SERIAL = replace(REAL, serialize_image_pulls=True)
BY_NAME: Mapping[WaitingTimesName, WaitingTimes | None] = {"none": None, "real": REAL, "serial": SERIAL}
