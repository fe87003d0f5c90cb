"""Linkerd's own identity controller, which a cluster runs in place of the stand-in where there is one."""

import os
import shutil
import subprocess
from pathlib import Path

from rehearsal.cluster.errors import ClusterError

VARIABLE = "LINKERD_CONTROLLER"
_NAME = "linkerd-controller"


def find_controller(binary: Path) -> Path | None:
    """Return the controller that LINKERD_CONTROLLER names, else the one on PATH; None if there is none.

    Set to nothing, the variable stands for the stand-in.

    Args:
        binary: The rehearsal's binary, which gives the controller a mount namespace of its own: it reads the trust
            anchors from a fixed path (linkerd2 pkg/k8s/labels.go, MountPathTrustRootsPEM).

    Raises:
        ClusterError: LINKERD_CONTROLLER names no program, or this machine gives no mount namespace.
    """
    named = os.environ.get(VARIABLE)
    found = None if named == "" else shutil.which(named or _NAME)
    if found is None:
        if named:
            msg = (
                f"{VARIABLE} is {named}, which is not a program. Name Linkerd's controller, or unset it for the "
                "stand-in."
            )
            raise ClusterError(msg)
        return None
    tried = subprocess.run([str(binary), "confine", "--check"], capture_output=True, text=True, check=False)
    if tried.returncode:
        msg = (
            f"{found} cannot be run here: {tried.stderr.strip()}. It needs a mount namespace of its own. Allow user "
            f"namespaces on this machine or be root, or set {VARIABLE} to nothing for the stand-in."
        )
        raise ClusterError(msg)
    return Path(found).resolve()
