"""The objects for Pulumi's operator: an API server takes every field, and their accounts reach it from inside."""

import asyncio
import json
import os
from pathlib import Path

import httpx
import pytest
import yaml

from meshtrust.cluster.api import NAMESPACES, ForbiddenError
from meshtrust.cluster.connection import access
from rehearsal.connection import connect
from rehearsal.workspace import REPOSITORY
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.rights import PATHS
from tests.rehearsal.service_account import write_service_account

OBJECTS = REPOSITORY / "deploy" / "operator"
FILES = ("cluster.yaml", "anchor.yaml")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STACKS = "/apis/pulumi.com/v1/namespaces/{}/stacks"


def documents(file):
    return list(yaml.safe_load_all((OBJECTS / file).read_text()))


def of_kind(file, kind):
    return [entry for entry in documents(file) if entry["kind"] == kind]


def path_of(entry):
    """The collection of an object, by its kind and its namespace."""
    namespace = entry["metadata"].get("namespace", "")
    plural = {"Namespace": "/api/v1/namespaces", "ConfigMap": f"/api/v1/namespaces/{namespace}/configmaps"}
    known = plural.get(entry["kind"]) or PATHS[entry["kind"]]
    return known.replace("/namespaces/linkerd/", f"/namespaces/{namespace}/")


@pytest.fixture(scope="module")
def placed(cluster):
    """All objects of both files but the Stacks."""
    objects = [entry for file in FILES for entry in documents(file) if entry["kind"] != "Stack"]
    with cluster.client() as api:
        for entry in objects:
            answer = api.post(path_of(entry), params={"fieldValidation": "Strict"}, json=entry)
            assert answer.is_success, answer.text
        yield cluster
        for entry in objects:
            api.delete(f"{path_of(entry)}/{entry['metadata']['name']}")


@pytest.fixture(scope="module")
def defined(placed):
    """The cluster, with the operator's definition of a Stack."""
    definition = yaml.safe_load((Path(os.environ["PULUMI_OPERATOR_CRDS"]) / "pulumi.com_stacks.yaml").read_text())
    with placed.client() as api:
        api.post(DEFINITIONS, json=definition).raise_for_status()
        wait_until(lambda: api.get(STACKS.format("default")).is_success)
        yield api
        api.delete(f"{DEFINITIONS}/{definition['metadata']['name']}")


@pytest.mark.needs("operator-definitions")
@pytest.mark.parametrize("file", FILES)
def test_the_operators_definition_takes_every_field_of_the_stack(defined, file):
    [stack] = of_kind(file, "Stack")
    path, strict = STACKS.format(stack["metadata"]["namespace"]), {"fieldValidation": "Strict"}
    answer = defined.post(path, params=strict, json=stack)
    assert answer.is_success, answer.text
    held = answer.json()["spec"]
    assert {key: held.get(key) for key in stack["spec"]} == stack["spec"], "nothing is dropped or filled in otherwise"
    defined.delete(f"{path}/{stack['metadata']['name']}")
    misspelt = {**stack, "spec": {**stack["spec"], "continueResyncOnCommitMatches": True}}
    assert "unknown field" in defined.post(path, params=strict, json=misspelt).text


@pytest.fixture
def opened_from_inside(placed, tmp_path, monkeypatch):
    """List the namespaces as an account of a pod, with the files and the environment that it has there."""
    server = httpx.URL(json.loads(placed.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", server.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))

    def ask(namespace, account):
        write_service_account(placed, tmp_path, namespace, account)

        async def names():
            api = await connect(access.IN_CLUSTER, "")
            return [entry["metadata"]["name"] async for entry in api.list(NAMESPACES)]

        return asyncio.run(names())

    return ask


def test_the_workspaces_account_reaches_the_api_server(opened_from_inside):
    assert "kube-system" in opened_from_inside("meshtrust", "meshtrust")


def test_the_account_of_the_anchor_stack_reads_nothing_in_its_cluster(opened_from_inside):
    with pytest.raises(ForbiddenError):
        opened_from_inside("meshtrust-anchor", "meshtrust-anchor")
