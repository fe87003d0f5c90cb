"""A cert-manager that is there before a stack, as one that others have installed by Helm."""

import json
import subprocess

from rehearsal.cluster import Cluster, ensure
from rehearsal.errors import RehearsalError

NAMESPACE = "cert-manager"
_VALUES = {"crds": {"enabled": True, "keep": False}, "global": {"leaderElection": {"namespace": NAMESPACE}}}


def install(cluster: Cluster) -> None:
    """Install cert-manager's chart and wait until its pods are ready.

    Raises:
        RehearsalError: Helm fails; the message has its output.
    """
    chart = str(ensure().charts / "cert-manager")
    command = [*ensure().helm, "install", "cert-manager", chart, "--namespace", NAMESPACE, "--create-namespace"]
    where = [f"--kubeconfig={cluster.kubeconfig}", "--values=-", "--wait"]
    result = subprocess.run([*command, *where], input=json.dumps(_VALUES), capture_output=True, text=True, check=False)
    if result.returncode:
        msg = f"cert-manager cannot be installed: {result.stderr.strip()}"
        raise RehearsalError(msg)
