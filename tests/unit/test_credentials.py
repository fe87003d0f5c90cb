"""A cluster's client: which files of its credentials stay, whatever becomes of connecting."""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from meshtrust.cluster.api import ClusterError, read
from meshtrust.cluster.connection.client import connect
from rehearsal.providers.cluster_client import ClusterClient, UnreachableError
from tests.certificates import make_certificate
from tests.http_server import serving
from tests.kubeconfigs import write_kubeconfig
from tests.recorder import REPOSITORY

USER = make_certificate()
NOWHERE = "http://127.0.0.1:1"


def _answer(path):
    if path.startswith("/version"):
        return 200, json.dumps({"gitVersion": "v1.36.0"}).encode()
    return 401, json.dumps({"message": "who?"}).encode()


@pytest.fixture
def api_server():
    """A server that tells its version, and takes no credentials."""
    with serving(_answer) as url:
        yield url


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def kubeconfig(tmp_path):
    def write(server, **user):
        held = {"client-key-data": USER.key_pem, "client-certificate-data": USER.pem, **user}
        authority = {"certificate-authority-data": USER.pem}
        return write_kubeconfig(tmp_path / "config", held, server=server, **authority)

    return write


async def read_a_namespace(kubeconfig):
    api = await connect("dev", kubeconfig)
    await read(api, "namespace default", url="namespaces/default")


def test_a_server_that_refuses_the_credentials_leaves_no_copy_of_them(api_server, kubeconfig, temporary):
    with pytest.raises(ClusterError, match="cannot be read: who"):
        asyncio.run(read_a_namespace(kubeconfig(api_server)))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("user", [{}, {"username": "somebody"}], ids=["no server", "credentials that are none"])
def test_a_server_that_is_not_reached_leaves_no_copy_of_the_credentials(user, kubeconfig, temporary):
    with pytest.raises(ClusterError, match='context "dev" cannot be reached'):
        asyncio.run(connect("dev", kubeconfig(NOWHERE, **user)))
    assert list(temporary.iterdir()) == []


def test_key_files_that_the_kubeconfig_names_stay(kubeconfig, temporary, tmp_path):
    (tmp_path / "user.key").write_text(USER.key_pem)
    path = Path(kubeconfig(NOWHERE))
    named = path.read_text(encoding="utf-8").replace('"client-key-data"', '"client-key": "user.key", "unused"')
    path.write_text(named, encoding="utf-8")
    with pytest.raises(ClusterError, match='context "dev" cannot be reached'):
        asyncio.run(connect("dev", str(path)))
    assert list(temporary.iterdir()) == []
    assert (tmp_path / "user.key").is_file()


def test_the_client_of_the_rehearsals_provider_leaves_no_copy_either(api_server, kubeconfig, temporary):
    client = ClusterClient(kubeconfig(api_server), "dev")
    assert client.request("GET", "/version")
    with pytest.raises(UnreachableError):
        ClusterClient(kubeconfig(NOWHERE), "dev")
    assert list(temporary.iterdir()) == []


# What a refusal does to a run: it ends the process from within the first task of the event loop, which is run as by
# Pulumi's language host (pulumi sdk/python/cmd/pulumi-language-python-exec).
REFUSED = """
import asyncio, sys
from meshtrust.cluster.connection.client import connect

async def run():
    await connect("dev", sys.argv[1])
    sys.exit(32)

loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(run())
finally:
    loop.close()
"""


def test_a_run_that_is_refused_once_it_has_connected_ends(api_server, kubeconfig):
    command = [sys.executable, "-c", REFUSED, kubeconfig(api_server)]
    assert subprocess.run(command, cwd=REPOSITORY, timeout=60, check=False).returncode == 32
