"""Choice of the context and the kubeconfig, and the error if there is none."""

import asyncio
import base64
import copy
import functools
import json
import operator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshtrust import files
from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.connection.access import ClusterAccess, KubeconfigOutput
from meshtrust.cluster.connection.credentials import CredentialsError, read_credentials
from meshtrust.cluster.connection.kubeconfig import KubeconfigError, read_context
from rehearsal.connection import connect
from tests.kubeconfig_outputs import AKS, CLIENT_KEY, EKS, KIND, TOKEN
from tests.kubeconfig_outputs import kubeconfig as kubeconfig_of
from tests.kubeconfigs import command_for_credentials, write_kubeconfig

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", certificate-authority: ca.pem}}]
users: [{name: u, user: {token: t}}, {name: other, user: {token: secret}}]
contexts: [{name: kind-dev, context: {cluster: c, user: u}}, {name: broken, context: {cluster: none, user: u}}]
"""


@pytest.fixture
def kubeconfig(tmp_path):
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    return str(path)


def test_a_context_that_does_not_exist_is_refused_with_those_that_do(kubeconfig):
    with pytest.raises(KubeconfigError, match=r'meshtrust:context is "prod".* It has kind-dev, .*config set context'):
        read_context("prod", kubeconfig)


def test_a_kubeconfig_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(KubeconfigError, match="no context, or there is no such file"):
        read_context("kind-dev", str(tmp_path / "none"))


def test_a_home_directory_that_is_not_known_is_one_sentence():
    with pytest.raises(
        KubeconfigError, match=r'kubeconfig "~nobody-here/x" cannot be found: .*Name it by its whole path'
    ):
        read_context("kind-dev", "~nobody-here/x")


# The last four are YAML; Python, or JSON, has no such date, key, map, or depth.
NO_YAML = ["a: [", "\x00", "a: 2026-99-99", "2026-01-01: a", "a: &a [*a]", "a: " + "[" * 2000 + "]" * 2000]


@pytest.mark.parametrize("text", NO_YAML)
def test_a_kubeconfig_that_is_no_yaml_is_named(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match="config cannot be read"):
        read_context("kind-dev", str(path))


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader])
def test_a_line_that_is_no_yaml_is_counted_and_not_repeated(tmp_path, monkeypatch, loader):
    monkeypatch.setattr(files, "_LOADER", loader)
    path = tmp_path / "config"
    path.write_text(KUBECONFIG.replace("token: secret", "token: secret: x"))
    with pytest.raises(
        KubeconfigError, match=r"cannot be read: it is not YAML from line \d+ on\. Correct it"
    ) as caught:
        read_context("kind-dev", str(path))
    assert "secret" not in str(caught.value)


def test_a_context_whose_cluster_is_missing_says_what_to_run(kubeconfig):
    with pytest.raises(KubeconfigError, match=r'names the cluster "none", which is not in it.*set-context broken'):
        read_context("broken", kubeconfig)


def test_several_kubeconfigs_are_merged_as_kubectl_does_it(kubeconfig, tmp_path, monkeypatch):
    second = tmp_path / "second"
    second.write_text(KUBECONFIG.replace("token: t", "token: second").replace("kind-dev", "kind-two"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{kubeconfig}:{second}")
    found = read_context("kind-two", "")
    assert found.user == {"token": "t"}, "the first file to name it counts"


CONTENTS = [
    *(KUBECONFIG, "apiVersion: v1", KUBECONFIG.replace("\n", " "), json.dumps({"users": ["token: secret"]})),
    # As the secrets of a pipeline have it.
    base64.b64encode(KUBECONFIG.encode()).decode(),
]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("ambient", [True, False])
def test_a_kubeconfig_that_was_given_itself_is_refused_and_not_repeated(content, ambient, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", content if ambient else "")
    with pytest.raises(KubeconfigError, match="is a kubeconfig's content, and has to be its path") as caught:
        read_context("kind-dev", "" if ambient else content)
    assert ("KUBECONFIG is" in str(caught.value)) == ambient
    assert ("--kubeconfig" in str(caught.value)) != ambient
    assert not any(told in str(caught.value) for told in ("token", "secret", "127.0.0.1", "apiVersion", "Y29udGV4"))
    assert content[:20] not in str(caught.value)


def test_nothing_but_the_context_is_handed_on_and_its_files_are_found_from_anywhere(kubeconfig):
    found = read_context("kind-dev", kubeconfig)
    assert "secret" not in str(found)
    assert found.name == "kind-dev"
    assert found.cluster["certificate-authority"] == str(Path(kubeconfig).parent / "ca.pem")


def test_a_file_that_has_changed_is_read_again(kubeconfig):
    assert read_context("kind-dev", kubeconfig).user == {"token": "t"}
    Path(kubeconfig).write_text(KUBECONFIG.replace("token: t", "token: renewed"), encoding="utf-8")
    assert read_context("kind-dev", kubeconfig).user == {"token": "renewed"}


def test_a_command_for_credentials_is_given_nothing_that_decrypts_a_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "correct horse")
    monkeypatch.setenv("PULUMI_CONFIG", "{}")
    seen = tmp_path / "environment"
    path = write_kubeconfig(tmp_path / "config", command_for_credentials(f"env > {seen}; exit 3"))
    with pytest.raises(ClusterError):
        asyncio.run(connect("dev", path))
    assert "PATH=" in (environment := seen.read_text())
    assert "correct horse" not in environment
    assert "PULUMI_CONFIG={" not in environment


def access(output):
    """Return the way to the cluster whose kubeconfig an output is."""
    return ClusterAccess(source=KubeconfigOutput(stack="acme/infra/prod", output="kubeconfig")).with_output(output)


@pytest.mark.parametrize("text", [*NO_YAML, *(base64.b64encode(text.encode()).decode() for text in NO_YAML)])
def test_an_output_that_is_no_yaml_is_one_sentence(text):
    with pytest.raises(KubeconfigError, match="is no kubeconfig: it is text that is no map in YAML or JSON"):
        access(text)


WRONG_FIELDS = [
    ({"token": 5}, {}, "token of its user is not text"),
    ({"exec": "aws"}, {}, "exec of its user is not a map"),
    ({"exec": {"command": "aws"}}, {}, "exec.apiVersion of its user is missing"),
    ({"exec": {"apiVersion": "v1", "command": ""}}, {}, "exec.command of its user is empty"),
    ({"exec": {"apiVersion": "v1", "command": "aws", "args": "eks"}}, {}, "exec.args of its user is not a list"),
    ({"exec": {"apiVersion": "v1", "command": "a", "env": {"A": "b"}}}, {}, "exec.env of its user is not a list"),
    ({"exec": {"apiVersion": "v1", "command": "a", "env": [{"name": "A", "value": 5}]}}, {}, "exec.env.0.value of its"),
    ({"auth-provider": {}}, {}, "auth-provider.name of its user is missing"),
    (
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws"}},
        {},
        "exec of its user has no interactiveMode, which client.authentication.k8s.io/v1 requires: set it to IfAvail",
    ),
    (
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws", "interactiveMode": "Yes"}},
        {},
        "exec.interactiveMode of its user is not one of Never, IfAvailable, Always",
    ),
    ({"client-certificate-data": CLIENT_KEY}, {}, "its user has a client-certificate without its client-key"),
    ({}, {"server": "10.0.0.1:6443"}, "server of its cluster is not an address with http:// or https://"),
    ({}, {"server": "https://"}, "server of its cluster is not an address"),
    ({}, {"server": "https://a:b"}, "server of its cluster is not an address"),
    ({}, {"server": None}, "server of its cluster is missing"),
    (
        {},
        {"proxy-url": "ftp://a:hush-token@b"},
        "proxy-url of its cluster is not an address with http:// or https:// or",
    ),
    ({}, {"insecure-skip-tls-verify": "true"}, "insecure-skip-tls-verify of its cluster is not true or false"),
    (
        {},
        {"insecure-skip-tls-verify": True},
        "its cluster has insecure-skip-tls-verify and a certificate-authority, of",
    ),
]


@pytest.mark.parametrize(("user", "cluster", "wrong"), WRONG_FIELDS)
def test_what_kubectl_would_not_take_is_named_in_a_file_and_in_an_output(user, cluster, wrong, tmp_path):
    config = kubeconfig_of(user, **cluster)
    with pytest.raises(KubeconfigError, match=f"is no kubeconfig that can be used: {wrong}") as output:
        access(config)
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    with pytest.raises(KubeconfigError, match=f'Context "aws" of the kubeconfig .* cannot be used: {wrong}') as file:
        read_context("aws", str(path))
    assert "hush" not in str(output.value) + str(file.value)


def places(value, path=()):
    """Yield the path of each value in another."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def with_value(config, path, value):
    if not path:
        return value
    changed = copy.deepcopy(config)
    holder = functools.reduce(operator.getitem, path[:-1], changed)
    holder[path[-1]] = value
    return changed


VALUES: list[Any] = [
    None,
    5,
    0.5,
    True,
    "",
    "text",
    "a\nb",
    "é",
    "\x00",
    [],
    {},
    [None],
    ["a"],
    [5],
    {"a": 1},
    {"a": None},
    [{}],
]


@pytest.mark.parametrize("config", [{**EKS, **kubeconfig_of(command_for_credentials("exit 3"))}, AKS, KIND])
def test_any_value_in_any_place_of_a_kubeconfig_is_taken_or_named(config):
    async def mistake(changed):
        try:
            await read_credentials(access(changed).read())
        except (KubeconfigError, CredentialsError) as error:
            return str(error)
        return ""

    told = [asyncio.run(mistake(with_value(config, path, value))) for path in places(config) for value in VALUES]
    assert any(told)
    assert not any(secret in message for message in told for secret in (TOKEN, CLIENT_KEY))


def test_what_is_null_is_not_there():
    nothing: dict[str, Any] = dict.fromkeys(
        ("exec", "username", "password", "client-key-data", "tokenFile", "auth-provider", "as")
    )
    absent: dict[str, Any] = {"proxy-url": None, "tls-server-name": None}
    found = access(kubeconfig_of({"token": TOKEN, **nothing}, **absent)).read()
    assert found.user == {"token": TOKEN}
    assert found.cluster.keys() == {"server", "certificate-authority-data"}


COMMAND = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "kubelogin"}


@pytest.mark.parametrize(
    ("user", "cluster", "holds"),
    [
        ({"exec": {**COMMAND, "env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "hush"}]}}, {}, True),
        ({"exec": {**COMMAND, "env": [{"name": "AWS_SESSION_TOKEN", "value": "hush"}]}}, {}, True),
        ({"exec": {**COMMAND, "args": ["get-token", "--client-secret", "hush"]}}, {}, True),
        ({"exec": {**COMMAND, "args": ["get-token", "--password=hush"]}}, {}, True),
        ({"exec": {**COMMAND, "args": ["eks", "get-token", "--cluster-name", "mesh"]}}, {}, False),
        ({"exec": {**COMMAND, "env": [{"name": "AWS_PROFILE", "value": "prod"}]}}, {}, False),
        ({"exec": {**COMMAND, "env": [{"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/token"}]}}, {}, False),
        ({"tokenFile": "/token"}, {"proxy-url": "http://admin:hush@proxy"}, True),
        ({"tokenFile": "/token"}, {"proxy-url": "http://proxy:3128"}, False),
    ],
)
def test_a_secret_is_one_wherever_a_kubeconfig_has_it(user, cluster, holds):
    assert access(kubeconfig_of(user, **cluster)).holds_credentials == holds
