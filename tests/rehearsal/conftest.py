import os
from pathlib import Path

import pytest

from rehearsal.cluster import Binaries, Cluster, ensure
from rehearsal.observe import Observer
from rehearsal.workspace import workspace
from tests.rehearsal import stack
from tests.rehearsal.live_stack import SECTIONS, LiveStack


def pytest_collection_modifyitems(items):
    """Everything in this folder needs the cluster's parts."""
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.rehearsal)


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """Programs of a cluster; built on first use."""
    return ensure()


@pytest.fixture(scope="session")
def cluster():
    """One cluster for all tests that leave it as they found it."""
    with Cluster.start(f"tests-{os.getpid()}") as running:
        yield running


@pytest.fixture(scope="session")
def observer(cluster):
    return Observer(cluster)


@pytest.fixture(scope="session")
def linkerd_charts() -> Path:
    """Linkerd's charts, its own or the stand-ins."""
    return stack.charts_of_linkerd()


@pytest.fixture
def make_stack(cluster, binaries, linkerd_charts, observer):
    """Make a stack that is destroyed in the end, and leaves nothing."""
    before = observer.inventory()
    made = []

    def make(name="dev", **settings):
        base = stack.settings(cluster, binaries, linkerd_charts)
        merged = {key: {**base.get(key, {}), **value} if key in SECTIONS else value for key, value in settings.items()}
        opened = workspace(name, settings={**base, **merged})
        live = LiveStack(opened.__enter__(), cluster)
        made.append((opened, live))
        return live

    yield make
    for opened, live in reversed(made):
        live.run(*stack.DESTROY)
        opened.__exit__(None, None, None)
    observer.wait_for_inventory(before, 60)
