"""A cluster's client does not wait for ever: a server that stops answering is one sentence."""

import asyncio
import json
import threading

import pytest

from meshtrust import cluster_client, port_forward
from meshtrust.cluster import ClusterError, read
from meshtrust.cluster_client import connect
from meshtrust.cluster_process import ClusterProcess
from meshtrust.port_forward import PodUnreachableError, fetch_page
from tests.http_server import serving
from tests.kubeconfigs import command_for_credentials, write_kubeconfig

CREDENTIAL = {
    "apiVersion": "client.authentication.k8s.io/v1",
    "kind": "ExecCredential",
    "status": {"token": "somebody"},
}


@pytest.fixture
def falling_silent(tmp_path):
    """A kubeconfig of a server that tells its version, and to all else is silent."""
    over = threading.Event()

    def answer(path):
        if not path.startswith("/version"):
            over.wait()
        return 200, json.dumps({"gitVersion": "v1.36.0"}).encode()

    with serving(answer) as url:
        yield write_kubeconfig(tmp_path / "config", {}, server=url)
        over.set()


def test_a_server_that_falls_silent_is_one_sentence(falling_silent, monkeypatch):
    async def ask():
        api = await connect("dev", falling_silent)
        monkeypatch.setattr(cluster_client, "REQUEST_SECONDS", 0.2)
        async with asyncio.timeout(30):
            await read(api, "list of pods", url="pods")

    expected = (
        r"list of pods cannot be read: the API server does not answer \(no answer within 0.2 seconds\)\. Run again"
    )
    with pytest.raises(ClusterError, match=expected):
        asyncio.run(ask())


def test_a_pod_that_is_silent_is_unreachable(falling_silent, monkeypatch):
    monkeypatch.setattr(port_forward, "_SECONDS", 0.2)

    async def ask():
        async with asyncio.timeout(30):
            await fetch_page(await connect("dev", falling_silent), "shop", "web-1", 9990, "/metrics")

    with pytest.raises(PodUnreachableError, match=r"no answer within 0.2 seconds"):
        asyncio.run(ask())


def test_a_slow_login_is_not_taken_for_a_pod_that_is_silent(tmp_path, monkeypatch):
    """The process that asks has logged in; this one has not, when it first needs a stream."""
    monkeypatch.setattr(port_forward, "_SECONDS", 1.5)
    slow = f"[ -e {tmp_path}/again ] && sleep 3; touch {tmp_path}/again"
    user = command_for_credentials(f"{slow}; echo '{json.dumps(CREDENTIAL)}'")

    async def ask(kubeconfig):
        await fetch_page(await ClusterProcess().connect("dev", kubeconfig), "shop", "web-1", 9990, "/metrics")

    with (
        serving(lambda path: (200 if path.startswith("/version") else 404, b'{"gitVersion": "v1.36.0"}')) as url,
        pytest.raises(PodUnreachableError, match="the API server answers with 404 Not Found"),
    ):
        asyncio.run(ask(write_kubeconfig(tmp_path / "config", user, server=url)))
