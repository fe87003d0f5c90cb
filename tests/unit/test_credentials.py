"""A cluster's client: which files of its credentials stay, whatever becomes of connecting."""

import asyncio
import http.server
import json
import tempfile
import threading
from pathlib import Path

import pytest

from meshtrust.cluster import ClusterError, read
from meshtrust.cluster_client import connect
from rehearsal.engine.providers.cluster_client import ClusterClient, UnreachableError
from tests.certificates import make_certificate

USER = make_certificate()
NOWHERE = "http://127.0.0.1:1"


class _ApiServer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, answer = (
            (200, {"gitVersion": "v1.36.0"}) if self.path.startswith("/version") else (401, {"message": "who?"})
        )
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def api_server():
    """A server that tells its version, and takes no credentials."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _ApiServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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
        config = {
            "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": "dev"}}],
            "clusters": [{"name": "dev", "cluster": {"server": server, "certificate-authority-data": USER.pem}}],
            "users": [{"name": "dev", "user": held}],
            "current-context": "dev",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        return str(tmp_path / "config")

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
    path.write_text(path.read_text().replace('"client-key-data"', '"client-key": "user.key", "unused"'))
    with pytest.raises(ClusterError, match='context "dev" cannot be reached'):
        asyncio.run(connect("dev", str(path)))
    assert list(temporary.iterdir()) == []
    assert (tmp_path / "user.key").is_file()


def test_the_client_of_the_embedded_engine_leaves_no_copy_either(api_server, kubeconfig, temporary):
    client = ClusterClient(kubeconfig(api_server), "dev")
    assert client.request("GET", "/version")
    with pytest.raises(UnreachableError):
        ClusterClient(kubeconfig(NOWHERE), "dev")
    assert list(temporary.iterdir()) == []
