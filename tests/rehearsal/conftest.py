import os
from pathlib import Path

import pytest

from rehearsal.cluster import Binaries, Cluster, ensure


def pytest_collection_modifyitems(items):
    """Everything in this folder needs the cluster's parts."""
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.rehearsal)


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """What a cluster runs; built on first use."""
    return ensure()


@pytest.fixture(scope="session")
def cluster():
    """One cluster for all tests that leave it as they found it."""
    with Cluster.start(f"tests-{os.getpid()}") as running:
        yield running
