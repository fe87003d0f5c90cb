"""Helm releases of the stand-in for the kubernetes provider, where they fail as the real provider's do."""

import pytest

from rehearsal.providers.base import Operation
from rehearsal.providers.helm import HelmError, HelmRelease


@pytest.fixture
def chart(tmp_path):
    """A chart that makes one ConfigMap."""
    directory = tmp_path / "small"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 1.0.0}")
    made = '{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Release.Name }}"}}'
    (directory / "templates" / "made.yaml").write_text(made)
    return directory


def test_a_release_that_is_there_already_is_refused_and_not_taken_over(cluster, chart):
    releases = HelmRelease(str(cluster.kubeconfig), cluster.context, "default")
    operation = Operation(urn="", type="kubernetes:helm.sh/v3:Release", name="taken")
    inputs = {"name": "taken", "namespace": "default", "chart": str(chart), "timeout": 60}
    _, outputs = releases.create(operation, inputs)
    try:
        with pytest.raises(HelmError, match="name that is still in use"):
            releases.create(operation, inputs)
    finally:
        releases.delete(operation, outputs)
    assert releases.read(operation, inputs, outputs) is None
