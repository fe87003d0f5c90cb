"""A run whose cluster another stack has made: where its kubeconfig goes, and what is refused."""

import json
import logging

import pulumi
import pytest
import yaml

from tests.kubeconfig_outputs import AKS, EKS, KIND, TOKEN
from tests.recorder import Secret, run_program

CONFIG = {"meshtrust:anchors": ["2026"], "meshtrust:cluster": {"fromStack": "acme/infra/prod"}}


def run(output, *, name="kubeconfig", **config):
    return run_program({**CONFIG, **config}, others={"prod": {name: output, "vpcId": "vpc-1"}})


def refused(outputs, **config):
    with pytest.raises(pulumi.RunError) as caught:
        run_program({**CONFIG, **config}, others={"prod": outputs})
    return str(caught.value)


def warnings_of(recording):
    return [message for level, message in recording.messages if level == logging.WARNING]


@pytest.mark.parametrize("output", [Secret(AKS), Secret(yaml.safe_dump(KIND)), EKS, json.dumps(EKS)])
def test_the_kubeconfig_reaches_the_provider_as_a_secret_and_nothing_else(output):
    recording = run(output)
    cluster = recording.named("cluster")
    kubeconfig = cluster.inputs["kubeconfig"]
    assert isinstance(kubeconfig, Secret)
    assert json.loads(kubeconfig.value)["kind"] == "Config"
    assert "context" not in cluster.inputs
    held = json.loads(kubeconfig.value)["clusters"][0]["cluster"]["certificate-authority-data"]
    others = [entry.inputs for entry in recording.resources if entry is not cluster]
    assert held not in str(others) + str(recording.outputs) + str(recording.messages)
    assert recording.outputs["context"] == "acme/infra/prod:kubeconfig"
    assert recording.outputs["kubeconfig"] == ""
    assert not [warning for warning in warnings_of(recording) if "cluster.output" in warning]


def test_another_name_of_the_output_is_read():
    recording = run(Secret(AKS), name="admin", **{"meshtrust:cluster.output": "admin"})
    assert TOKEN in recording.named("cluster").inputs["kubeconfig"].value


def test_a_key_in_an_output_that_is_no_secret_is_a_warning_and_the_run_goes_on():
    recording = run(AKS)
    [warning] = [warning for warning in warnings_of(recording) if "cluster.output" in warning]
    assert 'that output of stack "acme/infra/prod" holds a key, a token or a password and is not a secret' in warning
    assert TOKEN not in warning
    assert isinstance(recording.named("cluster").inputs["kubeconfig"], Secret)


def test_an_output_that_does_not_exist_is_named_with_those_that_do():
    message = refused({"vpcId": "vpc-1", "admin": Secret(AKS)})
    assert 'that output of stack "acme/infra/prod" does not exist (it has admin, vpcId)' in message
    assert "pulumi config set --path cluster.output <name>" in message


def test_a_stack_that_was_never_deployed_is_to_be_deployed_first():
    assert "does not exist (it has none: deploy it first)" in refused({})


def test_an_output_that_is_no_kubeconfig_is_refused_and_not_repeated():
    message = refused({"kubeconfig": Secret({"token": TOKEN})})
    assert "is no kubeconfig that can be used" in message
    assert message.endswith("Nothing was changed.")
    assert TOKEN not in message


@pytest.mark.parametrize("name", ["test", "organization/meshtrust/test"])
def test_a_stack_that_names_itself_is_refused(name):
    message = refused({}, **{"meshtrust:cluster": {"fromStack": name}})
    assert f'meshtrust:cluster.fromStack is "{name}", which is this stack itself' in message
