"""The process that asks a cluster: what it says where there is none, and that it ends with whoever started it."""

import asyncio
import subprocess
import sys

import pytest

from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.connection.process import ClusterProcess
from tests.kubeconfigs import command_for_credentials, write_kubeconfig


def test_a_context_that_is_not_there_is_one_sentence(tmp_path):
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("{apiVersion: v1, kind: Config, clusters: [], users: [], contexts: []}")
    with pytest.raises(ClusterError, match='meshtrust:context is "kind-dev", and the kubeconfig'):
        asyncio.run(ClusterProcess().connect("kind-dev", str(kubeconfig)))


def test_a_command_for_credentials_that_fails_is_one_sentence(tmp_path):
    wants_a_login = "read -r line; echo your session has expired, log in anew$line >&2; exit 3"
    kubeconfig = write_kubeconfig(tmp_path / "config", command_for_credentials(wants_a_login))
    with pytest.raises(
        ClusterError, match=r'context "dev" cannot be reached: .*code 3:\nyour session has expired, log in anew\. Check'
    ):
        asyncio.run(ClusterProcess().connect("dev", kubeconfig))


def test_it_ends_with_whoever_started_it():
    starts = "from meshtrust.cluster.connection.process import ClusterProcess; ClusterProcess().start()"
    # Both have standard error, so that this returns once both have ended.
    ended = subprocess.run([sys.executable, "-c", starts], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == ""
