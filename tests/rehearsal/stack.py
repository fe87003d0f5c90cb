"""A stack of stacks/ on a cluster of the tests."""

UP = ("up", "--yes", "--skip-preview", "--non-interactive")
DESTROY = ("destroy", "--yes", "--skip-preview", "--non-interactive")
NO_CHANGES = ("--expect-no-changes",)


def settings(cluster, binaries, linkerd_charts):
    """What a stack is given so that it goes to a cluster of the tests, and can be destroyed."""
    return {
        "context": cluster.context,
        "kubeconfig": str(cluster.kubeconfig),
        "anchor": {"protect": False},
        "linkerd": {"charts": str(linkerd_charts)},
        "certManager": {"charts": str(binaries.charts)},
    }


def run(project, *command):
    """Run a command that must succeed; return all that it wrote."""
    result = project.capture(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr
