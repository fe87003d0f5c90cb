"""A cluster's client does not wait for ever: a server that stops answering is one sentence."""

import asyncio
import json
import threading

import pytest

from meshtrust import cluster_client
from meshtrust.cluster import ClusterError, read
from meshtrust.cluster_client import connect
from tests.http_server import serving
from tests.kubeconfigs import write_kubeconfig


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
