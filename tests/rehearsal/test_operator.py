"""The objects for Pulumi's operator: an API server takes every field, and their kubeconfig leads to it from inside."""

import asyncio
import base64
import json
import os
from pathlib import Path

import pytest
import yaml

from meshtrust.cluster.api import NAMESPACES, ForbiddenError
from meshtrust.cluster.connection.client import connect
from rehearsal.workspace import REPOSITORY
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.rights import PATHS

OBJECTS = REPOSITORY / "deploy" / "operator"
FILES = ("cluster.yaml", "anchor.yaml")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STACKS = "/apis/pulumi.com/v1/namespaces/{}/stacks"
MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"


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


def opened_from_inside(cluster, directory, namespace, account):
    """Return the namespaces that an account of a pod lists by the ConfigMap's kubeconfig."""
    with cluster.client() as api:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", json=request)
        made.raise_for_status()
    [admin] = json.loads(cluster.kubeconfig.read_text())["clusters"]
    (directory / "token").write_text(made.json()["status"]["token"])
    authority = admin["cluster"].get("certificate-authority-data")
    path = admin["cluster"].get("certificate-authority")
    (directory / "ca.crt").write_bytes(base64.b64decode(authority) if authority else Path(path).read_bytes())
    [configmap] = of_kind("cluster.yaml", "ConfigMap")
    # A pod has these files where the kubelet mounts them, and this name by the cluster's DNS.
    text = configmap["data"]["kubeconfig"].replace(MOUNTED, str(directory))
    (directory / "kubeconfig").write_text(text.replace("https://kubernetes.default.svc", admin["cluster"]["server"]))

    async def ask():
        api = await connect("in-cluster", str(directory / "kubeconfig"))
        return [entry["metadata"]["name"] async for entry in api.list(NAMESPACES)]

    return asyncio.run(ask())


def test_the_kubeconfig_leads_to_the_api_server_as_the_workspaces_account(placed, tmp_path):
    assert "kube-system" in opened_from_inside(placed, tmp_path, "meshtrust", "meshtrust")


def test_the_account_of_the_anchor_stack_reads_nothing_in_its_cluster(placed, tmp_path):
    with pytest.raises(ForbiddenError):
        opened_from_inside(placed, tmp_path, "meshtrust-anchor", "meshtrust-anchor")


def test_the_workspace_mounts_the_kubeconfig_that_its_environment_names():
    [stack] = of_kind("cluster.yaml", "Stack")
    [configmap] = of_kind("cluster.yaml", "ConfigMap")
    pod = stack["spec"]["workspaceTemplate"]["spec"]["podTemplate"]["spec"]
    [container], [volume] = pod["containers"], pod["volumes"]
    [mount] = container["volumeMounts"]
    assert (volume["configMap"]["name"], mount["name"]) == (configmap["metadata"]["name"], volume["name"])
    [key] = configmap["data"]
    assert stack["spec"]["envRefs"]["KUBECONFIG"]["literal"]["value"] == f"{mount['mountPath']}/{key}"
