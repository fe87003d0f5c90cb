"""The ways in which docs/upgrading.md removes a stack, which only the real CLI has."""

import pytest

from rehearsal.workspace import workspace
from tests.rehearsal.live_stack import LiveStack
from tests.rehearsal.stack import UP, settings

pytestmark = pytest.mark.soak

DESTROY = ("destroy", "--yes", "--non-interactive")


@pytest.fixture
def live(cluster, binaries, linkerd_charts, observer):
    """A stack with a protected anchor, of which nothing is on the cluster in the end."""
    before = observer.inventory()
    protected = {**settings(cluster, binaries, linkerd_charts), "anchor": {"protect": True}}
    with workspace("dev", settings=protected) as project:
        stack = LiveStack(project, cluster)
        stack.run(*UP)
        yield stack
        observer.wait_for_inventory(before, 60)


def test_a_stack_is_taken_away_without_its_anchor_brought_back_and_taken_away_whole(live, observer):
    there, roots = observer.inventory(), live.project.outputs()["roots"]
    assert "protected" in live.refused(*DESTROY)
    assert observer.inventory() >= there, "a destroy that is refused removes nothing"

    live.run(*DESTROY, "--exclude-protected")
    assert not [path for path in observer.inventory() if path.startswith("deployments/linkerd/")]
    live.run(*UP)
    assert live.project.outputs()["roots"] == roots, "the same anchor signs"
    assert live.leaf_verifies()

    live.run("config", "set", "--path", "anchor.protect", "false")
    live.run(*UP)
    live.run(*DESTROY)
