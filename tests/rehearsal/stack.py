"""A stack of stacks/ on a cluster of the tests."""

import os
from pathlib import Path

from rehearsal import mesh
from tests.key_material import KeySearch

UP = ("up", "--yes", "--skip-preview", "--non-interactive")
DESTROY = ("destroy", "--yes", "--skip-preview", "--non-interactive")
NO_CHANGES = ("--expect-no-changes",)


def charts_of_linkerd() -> Path:
    """Linkerd's own charts where LINKERD_CHARTS names their directory, else the stand-ins."""
    return Path(os.environ.get("LINKERD_CHARTS") or mesh.charts())


def settings(cluster, binaries, linkerd_charts):
    """Settings by which a stack is deployed to a cluster of the tests and can be destroyed."""
    return {
        "context": cluster.context,
        "kubeconfig": str(cluster.kubeconfig),
        "anchor": {"protect": False},
        "linkerd": {"charts": str(linkerd_charts)},
        "certManager": {"charts": str(binaries.charts)},
    }


def run(project, *command):
    """Run a command that must succeed; return all that it wrote, which has no key."""
    result = project.capture(*command)
    written = result.stdout + result.stderr
    assert result.returncode == 0, written
    KeySearch().check({f"what `{command[0]}` wrote": written})
    return written
