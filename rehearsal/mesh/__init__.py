"""Stand-ins for what no package registry carries of Linkerd: its charts, identity service, injector and proxies.

They follow the rules of the real ones, each of which is cited where it is followed, and say that they stand in. All but
the charts are processes of every rehearsal cluster, which run for the pods of whichever chart makes them.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from meshtrust.names import IDENTITY
from rehearsal.cluster import Cluster, ClusterError, ensure


@dataclass(frozen=True)
class Leaf:
    """A proxy's certificate, as the identity service issues it.

    Attributes:
        identity: The name it is for.
        chain_pem: The leaf and what it was served with, as PEM. Its key was never written anywhere.
    """

    identity: str
    chain_pem: str


@dataclass(frozen=True)
class Event:
    """A Kubernetes event of the control plane."""

    reason: str
    message: str
    type: str


def charts() -> Path:
    """Return the directory that holds the stand-in charts linkerd-crds and linkerd-control-plane."""
    return Path(__file__).parent / "charts"


def describe_identity(cluster: Cluster) -> str:
    """Return what plays the identity service of a cluster, in words."""
    return f"the real one ({cluster.controller})" if cluster.controller else "a stand-in"


def request_leaf(
    cluster: Cluster,
    *,
    namespace: str,
    service_account: str,
    control_namespace: str = "linkerd",
    trust_domain: str = "cluster.local",
) -> Leaf:
    """Get a certificate for a service account, as its proxy would: with its token, over the real protocol.

    Args:
        cluster: The cluster.
        namespace: Namespace of the service account.
        service_account: Its name.
        control_namespace: Namespace of the control plane.
        trust_domain: Trust domain of the mesh.

    Raises:
        ClusterError: The identity service does not answer or refuses, or its answer does not verify.
    """
    command = [
        str(ensure().path),
        "leaf",
        f"--kubeconfig={cluster.kubeconfig}",
        f"--services={cluster.services}",
        f"--namespace={namespace}",
        f"--service-account={service_account}",
        f"--control-namespace={control_namespace}",
        f"--trust-domain={trust_domain}",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        msg = f"No leaf for {namespace}/{service_account}: {result.stderr.strip()}\n{cluster.log(IDENTITY)}"
        raise ClusterError(msg)
    leaf = json.loads(result.stdout)[0]
    return Leaf(identity=leaf["identity"], chain_pem=leaf["chain"])


def wait_event(
    cluster: Cluster, reason: str, *, since: datetime, timeout_seconds: float, namespace: str = "linkerd"
) -> Event:
    """Return the newest event of a reason, once there is one.

    Args:
        cluster: The cluster.
        reason: Its reason, such as IssuerUpdated.
        since: Events before this moment do not count; whole seconds, as events have them.
        timeout_seconds: How long to wait for it.
        namespace: Namespace of the event.

    Raises:
        ClusterError: It does not come in time.
    """
    deadline = time.monotonic() + timeout_seconds
    with cluster.client() as api:
        while True:
            listed = api.get(f"/api/v1/namespaces/{namespace}/events", params={"fieldSelector": f"reason={reason}"})
            for item in reversed(listed.json().get("items") or []):
                last = item.get("lastTimestamp") or item.get("eventTime")
                if last and datetime.fromisoformat(last) >= since.replace(microsecond=0):
                    return Event(reason=reason, message=item["message"], type=item["type"])
            if time.monotonic() > deadline:
                msg = f"No event {reason} within {timeout_seconds:.0f} s.\n{cluster.log(IDENTITY)}"
                raise ClusterError(msg)
            time.sleep(0.1)
