"""Choice of the context and the kubeconfig, and the error if there is none."""

import asyncio
import json
from pathlib import Path

import pytest

from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.connection.client import connect
from meshtrust.cluster.connection.kubeconfig import KubeconfigError, read_context
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


@pytest.mark.parametrize("text", ["a: [", "\x00"])
def test_a_kubeconfig_that_is_no_yaml_is_named(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match="config cannot be read"):
        read_context("kind-dev", str(path))


def test_a_context_whose_cluster_is_missing_says_what_to_run(kubeconfig):
    with pytest.raises(KubeconfigError, match=r'names the cluster "none", which is not in it.*set-context broken'):
        read_context("broken", kubeconfig)


def test_several_kubeconfigs_are_merged_as_kubectl_does_it(kubeconfig, tmp_path, monkeypatch):
    second = tmp_path / "second"
    second.write_text(KUBECONFIG.replace("token: t", "token: second").replace("kind-dev", "kind-two"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{kubeconfig}:{second}")
    found = read_context("kind-two", "")
    assert found.user == {"token": "t"}, "the first file to name it counts"


CONTENTS = [KUBECONFIG, "apiVersion: v1", KUBECONFIG.replace("\n", " "), json.dumps({"users": ["token: secret"]})]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("ambient", [True, False])
def test_a_kubeconfig_that_was_given_itself_is_refused_and_not_repeated(content, ambient, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", content if ambient else "")
    with pytest.raises(KubeconfigError, match="is a kubeconfig's content, and has to be its path") as caught:
        read_context("kind-dev", "" if ambient else content)
    assert ("KUBECONFIG is" in str(caught.value)) == ambient
    assert ("--kubeconfig" in str(caught.value)) != ambient
    assert not any(told in str(caught.value) for told in ("token", "secret", "127.0.0.1", "apiVersion"))


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
