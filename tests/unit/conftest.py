import pytest

from meshtrust.cluster.api import OFFLINE


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The program plans without a cluster: what it would ask one is tested where there is a real API server."""
    monkeypatch.setenv(OFFLINE, "1")
    monkeypatch.delenv("PULUMI_CONFIG", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)


@pytest.fixture
def config():
    """The least that a stack says."""
    return {"meshtrust:context": "kind-test", "meshtrust:anchors": ["2026"]}
