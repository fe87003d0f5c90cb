"""A cluster's client does not wait for ever: a server that stops answering is one sentence."""

import asyncio
import json
import threading
import urllib.parse

import pytest

from meshtrust.cluster.api import PODS, ClusterError, ForbiddenError, Request, UnreachableError
from meshtrust.cluster.connection import port_forward
from meshtrust.cluster.connection import session as cluster_client
from meshtrust.cluster.connection.port_forward import PodUnreachableError, fetch_page
from rehearsal.connection import connect
from tests.api_server import holding
from tests.http_server import serving
from tests.kubeconfigs import command_for_credentials, write_kubeconfig
from tests.lossy_proxy import lossy_proxy


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
            [pod async for pod in api.list(PODS)]

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


def test_a_command_for_credentials_that_fails_is_one_sentence(tmp_path):
    wants_a_login = "read -r line; echo your session has expired, log in again$line >&2; exit 3"
    kubeconfig = write_kubeconfig(tmp_path / "config", command_for_credentials(wants_a_login))
    with pytest.raises(
        ClusterError,
        match=r'context "dev" cannot be reached: .*code 3: your session has expired, log in again\. Check',
    ):
        asyncio.run(connect("dev", kubeconfig))


@pytest.fixture
def behind_a_proxy(tmp_path):
    """A kubeconfig of a server with a list, behind a proxy that loses connections; and the proxy."""
    objects = {"/api/v1/pods": {"metadata": {}, "items": [{"metadata": {"name": "x" * 40000}}]}}
    with holding(objects, tmp_path) as kubeconfig:
        server = json.loads((tmp_path / "config").read_text())["clusters"][0]["cluster"]["server"]
        with lossy_proxy(urllib.parse.urlsplit(server).port, lost=0.15) as proxy:
            yield write_kubeconfig(tmp_path / "lossy", {}, server=f"http://127.0.0.1:{proxy.port}"), proxy
        assert kubeconfig


def test_reads_outlast_connections_that_are_lost_at_random(behind_a_proxy):
    kubeconfig, proxy = behind_a_proxy

    async def ask():
        api = await connect("dev", kubeconfig)
        return [len([item async for item in api.list(PODS)]) for _ in range(30)]

    assert asyncio.run(ask()) == [1] * 30
    assert proxy.losses > 10


def test_a_write_that_may_come_twice_is_not_sent_again(behind_a_proxy):
    kubeconfig, proxy = behind_a_proxy

    async def ask():
        api = await connect("dev", kubeconfig)
        proxy.lost, proxy.losses = 1.0, 0
        await api.send(Request(method="POST", path="/api/v1/pods", what="pod", body={}, repeatable=False))

    with pytest.raises(UnreachableError, match=r"The pod cannot be changed: the API server does not answer"):
        asyncio.run(ask())
    assert proxy.losses <= 2, "one request, and its answer"


def test_a_server_that_loses_every_connection_is_one_sentence_in_the_end(behind_a_proxy, monkeypatch):
    kubeconfig, proxy = behind_a_proxy
    monkeypatch.setattr(cluster_client, "ANSWER_SECONDS", 1)

    async def ask():
        api = await connect("dev", kubeconfig)
        proxy.lost = 1.0
        [pod async for pod in api.list(PODS)]

    proxy.lost = 0.0
    with pytest.raises(UnreachableError, match=r"list of pods cannot be read: the API server does not answer"):
        asyncio.run(ask())
    assert proxy.losses > 2


def test_a_refusal_is_not_asked_again(tmp_path):
    asked = []

    def answer(path):
        asked.append(path)
        if path.startswith("/version"):
            return 200, json.dumps({"gitVersion": "v1.36.0"}).encode()
        return 403, json.dumps({"message": "pods is forbidden"}).encode()

    async def ask(kubeconfig):
        api = await connect("dev", kubeconfig)
        [pod async for pod in api.list(PODS)]

    with serving(answer) as url, pytest.raises(ForbiddenError):
        asyncio.run(ask(write_kubeconfig(tmp_path / "config", {}, server=url)))
    assert [path for path in asked if "pods" in path] == ["/api/v1/pods?limit=500"]
