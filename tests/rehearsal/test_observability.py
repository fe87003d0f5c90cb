"""Monitoring of a mesh, on an API server that has the Prometheus Operator's own definitions, and the export of it."""

import json

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from meshtrust.pki.pem import read_bundle
from rehearsal.prometheus import operator_definitions
from rehearsal.workspace import workspace
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, run, settings

KINDS = ("prometheusrules", "servicemonitors", "podmonitors")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def stack(cluster, binaries, linkerd_charts, observer):
    """The stack dev with what watches it, which is not deployed yet."""
    before = observer.inventory()
    placed = {**settings(cluster, binaries, linkerd_charts), "observability": {"enabled": True}}
    with workspace("dev", settings=placed) as project:
        yield project
        run(project, *DESTROY)
    for kind in KINDS:
        with cluster.client() as api:
            api.delete(f"{DEFINITIONS}/{kind}.monitoring.coreos.com")
    observer.wait_for_inventory(before, 60)


@pytest.fixture(scope="module")
def refusal(stack):
    """Refusal of a preview while the operator's definitions are not on the cluster."""
    result = stack.capture("preview", "--non-interactive")
    assert result.returncode != 0
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def deployed(stack, cluster, refusal):  # noqa: ARG001 it is asked for before there is a definition
    with cluster.client() as api:
        for kind in KINDS:
            definition = yaml.safe_load((operator_definitions() / f"monitoring.coreos.com_{kind}.yaml").read_text())
            api.post(DEFINITIONS, json=definition).raise_for_status()
        for kind in KINDS:
            path = f"/apis/monitoring.coreos.com/v1/{kind}"
            wait_until(lambda path=path: api.get(path).is_success)
    run(stack, *UP)
    return stack


@pytest.fixture
def export(deployed, cluster):
    """Run `meshtrust export`."""

    def start(*arguments, stack=True):
        where = ["--stack", deployed.stack] if stack else []
        result = deployed.capture_meshtrust("export", *where, *arguments, KUBECONFIG=str(cluster.kubeconfig))
        assert result.returncode == 0, result.stderr
        return result.stdout

    return start


def test_a_cluster_without_the_operators_definitions_is_refused(refusal):
    assert "the cluster does not know PodMonitor, PrometheusRule, ServiceMonitor (monitoring.coreos.com/v1)" in refusal
    assert "Nothing was changed." in refusal
    assert "Traceback" not in refusal


def test_the_operators_definitions_take_every_field(deployed, cluster):
    """A field that a definition does not know is dropped without a word."""
    declared = {
        entry["outputs"]["metadata"]["name"]: entry["inputs"]["spec"]
        for entry in json.loads(run_json(deployed, "stack", "export"))["deployment"]["resources"]
        if entry["type"].startswith("kubernetes:monitoring.coreos.com")
    }
    held = {}
    with cluster.client() as api:
        for kind in KINDS:
            for item in api.get(f"/apis/monitoring.coreos.com/v1/namespaces/linkerd/{kind}").json()["items"]:
                held[item["metadata"]["name"]] = item["spec"]
    assert set(held) == {"meshtrust", "meshtrust-cert-manager", "meshtrust-identity", "meshtrust-proxies"}
    assert held == declared


def run_json(project, *command):
    result = project.capture(*command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_nothing_changes_when_it_is_deployed_again(deployed):
    run(deployed, *UP, *NO_CHANGES)


def test_a_namespace_that_does_not_exist_is_refused(deployed):
    file = deployed.directory / "stacks" / f"Pulumi.{deployed.stack}.yaml"
    before = file.read_text()
    document = yaml.safe_load(before)
    document["config"]["meshtrust:observability"]["namespace"] = "nowhere"
    file.write_text(yaml.safe_dump(document))
    try:
        result = deployed.capture("preview", "--non-interactive")
    finally:
        file.write_text(before)
    written = result.stdout + result.stderr
    assert result.returncode != 0
    assert 'meshtrust:observability.namespace is "nowhere", which the cluster does not have.' in written


def test_an_export_of_the_stack_tells_what_is_deployed(export, deployed, tmp_path):
    file = tmp_path / "meshtrust.prom"
    assert export("--output", str(file)) == ""
    samples = {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key in ("phase", "issuer"))): sample
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }
    [root] = read_bundle(deployed.outputs()["trustAnchors"])
    ends = samples["meshtrust_root_not_after_timestamp_seconds",]
    assert (ends.value, ends.labels["generation"]) == (root.not_valid_after_utc.timestamp(), "2026")
    assert samples["meshtrust_phase", "steady"].value == 1
    assert samples["meshtrust_identity_replicas", "current"].value == 1
    assert samples["meshtrust_bundle_drift",].value == 0
    assert samples["meshtrust_proxies",].value >= 3
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "no draft is left"
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_inventory_says_who_deployed_it_and_when(export):
    found = json.loads(export("--format", "json"))
    [step] = found["transitions"]
    assert (step["step"], step["generations"], step["gate"]) == ("deploy", ["2026"], "none")
    assert step["by"]
    assert step["at"] <= found["at"]
    assert found["findings"] == []


def test_an_installation_without_a_stack_is_exported_by_its_context(export, cluster):
    found = json.loads(export("--format", "json", "--context", cluster.context, stack=False))
    assert (found["phase"], found["transitions"], len(found["roots"])) == ("unmanaged", [], 1)


def test_a_file_that_cannot_be_written_is_one_message(deployed, cluster):
    where = ["--context", cluster.context, "--kubeconfig", str(cluster.kubeconfig)]
    result = deployed.capture_meshtrust("export", *where, "--output", "/nowhere/meshtrust.prom")
    assert result.returncode == 3
    assert result.stderr == (
        "error: the export cannot be written to /nowhere/meshtrust.prom: No such file or directory\n"
    )
