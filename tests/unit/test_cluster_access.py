"""The way to a cluster: the kubeconfig that a stack exports, and the service account of a pod."""

import asyncio
import base64
import json
import os
from typing import Any

import pytest
import yaml

from meshtrust.cluster.api import NAMESPACES, ClusterError
from meshtrust.cluster.connection import access, session
from meshtrust.cluster.connection.access import IN_CLUSTER, ClusterAccess, KubeconfigOutput
from meshtrust.cluster.connection.client import open_cluster
from meshtrust.cluster.connection.kubeconfig import KubeconfigError
from tests.http_server import serving
from tests.kubeconfig_outputs import AKS, CLIENT_KEY, EKS, GKE, KIND, TOKEN, kubeconfig

SOURCE = KubeconfigOutput(stack="acme/infra/prod", output="kubeconfig")
FROM_STACK = ClusterAccess(source=SOURCE)


def as_base64(config):
    # As `base64` writes it, in lines.
    return base64.encodebytes(yaml.safe_dump(config).encode()).decode()


FORMS = [lambda config: config, json.dumps, yaml.safe_dump, as_base64]


@pytest.mark.parametrize("form", FORMS, ids=["map", "json", "yaml", "base64"])
@pytest.mark.parametrize("config", [EKS, GKE, AKS, KIND], ids=["eks", "gke", "aks", "kind"])
def test_the_kubeconfig_of_each_cloud_is_read_in_each_form(config, form):
    found = FROM_STACK.with_output(form(config)).read()
    assert found.name == config["current-context"]
    assert found.cluster == config["clusters"][0]["cluster"]
    assert found.user.keys() == config["users"][0]["user"].keys()


@pytest.mark.parametrize(("config", "holds"), [(EKS, False), (GKE, False), (AKS, True), (KIND, True)])
def test_a_key_or_a_token_is_distinguished_from_the_way_to_one(config, holds):
    assert FROM_STACK.with_output(config).holds_credentials == holds


def test_the_provider_gets_the_current_context_alone_and_the_same_text_for_another_order():
    other = kubeconfig({"token": "of another"}, name="other")
    both = {**AKS, **{kind: [*other[kind], *AKS[kind]] for kind in ("clusters", "contexts", "users")}}
    inputs = FROM_STACK.with_output(both).provider_inputs()
    assert "of another" not in inputs["kubeconfig"]
    assert inputs == FROM_STACK.with_output(yaml.safe_dump(AKS)).provider_inputs()
    assert "context" not in inputs


def test_the_content_is_not_in_the_description_of_what_holds_it():
    held = FROM_STACK.with_output(AKS)
    assert TOKEN not in repr(held)
    assert CLIENT_KEY not in repr(held)


WITHOUT = {
    "no map": (["hush"], "is of type list"),
    "a number": (7, "is of type number"),
    "null": (None, "is empty: it has not been deployed yet"),
    "no text": (" \n", "is empty: it has not been deployed yet"),
    "text": ("hush: [", "is text that is no map in YAML or JSON"),
    "a word": ("hush", "is text that is no map in YAML or JSON"),
    "an address": ("https://hush:6443", "is text that is no map in YAML or JSON"),
    "binary": (base64.b64encode(b"\xff\x00hush").decode(), "is text that is no map in YAML or JSON"),
    "undecryptable": ({}, "cannot decrypt it"),
    "another map": ({"token": "hush"}, "it has no current-context"),
    "no current context": ({**AKS, "current-context": ""}, "it has no current-context"),
    "another current context": ({**AKS, "current-context": "hush"}, "its current-context is not in its contexts"),
    "a number as current context": (yaml.safe_dump({**AKS, "current-context": 5}), "its current-context is not text"),
    "a number as cluster": (
        {**AKS, "contexts": [{"name": "mesh", "context": {"cluster": 5, "user": "mesh"}}]},
        "its current context's cluster is not text; put it in quotes",
    ),
    "no cluster": ({**AKS, "clusters": []}, "its current context's cluster is not in its clusters"),
    "no user": ({**AKS, "users": {"hush": 1}}, "its current context's user is not in its users"),
    "no server": (kubeconfig({"token": "hush"}, server=""), "server of its cluster is not an address"),
}


@pytest.mark.parametrize(("value", "why"), WITHOUT.values(), ids=WITHOUT.keys())
def test_an_output_that_is_no_kubeconfig_is_refused_and_not_repeated(value, why):
    with pytest.raises(KubeconfigError) as caught:
        FROM_STACK.with_output(value)
    message = str(caught.value)
    assert message.startswith('meshtrust:cluster.output is "kubeconfig", and that output of stack "acme/infra/prod" is')
    assert why in message
    assert "pulumi config set --path cluster.output <name>" in message
    assert not any(told in message for told in ("hush", TOKEN, CLIENT_KEY))


def test_a_cluster_of_another_stack_that_does_not_answer_is_named_by_stack_and_output():
    unreached = FROM_STACK.with_output(kubeconfig({"token": TOKEN}, server="http://127.0.0.1:1"))
    with pytest.raises(ClusterError, match='API server of output kubeconfig of stack "acme/infra/prod" cannot') as told:
        asyncio.run(open_cluster(unreached))
    assert "kubectl --kubeconfig <file with output kubeconfig of stack acme/infra/prod> version" in str(told.value)
    assert TOKEN not in str(told.value)


INSECURE: dict[str, Any] = {"certificate-authority-data": "", "insecure-skip-tls-verify": True}


@pytest.mark.parametrize(
    ("config", "is_told"),
    [
        (kubeconfig({"token": TOKEN}, server="http://127.0.0.1:1"), True),
        (kubeconfig({"token": TOKEN}, **INSECURE), True),
        (kubeconfig({"token": TOKEN}), False),
    ],
    ids=["http", "insecure-skip-tls-verify", "verified"],
)
def test_a_server_that_is_not_verified_is_a_warning(config, is_told, monkeypatch):
    async def open_client(*_):
        return None, ""

    monkeypatch.setattr(session, "open_client", open_client)
    told: list[str] = []
    asyncio.run(open_cluster(FROM_STACK.with_output(config), told.append))
    assert [line.partition(":")[0] for line in told] == [
        'The API server of output kubeconfig of stack "acme/infra/prod" is not verified'
    ] * is_told


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """A pod with its service account's files, whose environment names its API server."""
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text("")
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


def test_in_cluster_takes_the_service_accounts_files_and_holds_nothing_of_them(pod):
    inside = ClusterAccess(context=IN_CLUSTER)
    found = inside.read()
    assert found.cluster["server"] == "https://10.96.0.1:443"
    assert found.cluster["certificate-authority"] == str(pod / "ca.crt")
    assert found.user == {"tokenFile": str(pod / "token")}
    assert "first" not in inside.provider_inputs()["kubeconfig"]
    assert inside.kubectl == "kubectl", "in a pod it has the same service account"


@pytest.mark.usefixtures("pod")
def test_an_address_of_ipv6_is_written_as_a_url_has_it(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert ClusterAccess(context=IN_CLUSTER).read().cluster["server"] == "https://[fd00::1]:443"


@pytest.mark.parametrize("variable", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
def test_outside_of_a_pod_in_cluster_names_what_is_missing(pod, monkeypatch, variable):
    monkeypatch.delenv(variable)
    with pytest.raises(KubeconfigError, match=f'"in-cluster", the service account of a pod, and {variable} is missing'):
        ClusterAccess(context=IN_CLUSTER).read()
    (pod / "token").unlink()
    with pytest.raises(ClusterError, match=rf"{variable} and .*/token are missing here\. Run this in a pod"):
        asyncio.run(open_cluster(ClusterAccess(context=IN_CLUSTER)))


def test_a_token_that_the_kubelet_has_renewed_is_read_again(tmp_path):
    """A request that the API server refuses is sent again with what the file holds then."""
    (token := tmp_path / "token").write_text("first")
    seen: list[dict[str, str]] = []

    def answer(path):
        if path.startswith("/version"):
            return 200, json.dumps({"gitVersion": "v1.36.0"}).encode()
        if seen[-1]["authorization"] == "Bearer first":
            token.write_text("second")
            return 401, b"{}"
        return 200, json.dumps({"metadata": {"name": "default"}}).encode()

    async def ask(url):
        held = FROM_STACK.with_output(kubeconfig({"tokenFile": str(token)}, server=url))
        return await (await open_cluster(held)).get(NAMESPACES, "default")

    with serving(answer, seen) as url:
        assert asyncio.run(ask(url))["metadata"]["name"] == "default"
    assert [headers["authorization"] for headers in seen[1:]] == ["Bearer first", "Bearer second"]


def test_a_temporary_file_as_the_ambient_kubeconfig_is_never_an_input(tmp_path, monkeypatch):
    """ESC writes its file under another name in each run, and takes it away after it."""
    path = tmp_path / f"esc-{os.getpid()}"
    path.write_text(json.dumps(AKS), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    ambient = ClusterAccess(context="mesh")
    assert ambient.read().user["token"] == TOKEN
    assert ambient.provider_inputs() == {"kubeconfig": "", "context": "mesh"}
