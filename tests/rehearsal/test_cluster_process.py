"""A cluster that is asked by a process of its own answers as it does to this one."""

import asyncio
import tempfile

import pytest

from meshtrust.cluster.api import ClusterError, ForbiddenError, NotFoundError, read, read_items
from meshtrust.cluster.connection.client import connect
from meshtrust.cluster.connection.port_forward import PodUnreachableError, fetch_page
from meshtrust.cluster.connection.process import ClusterProcess


@pytest.fixture
def asker():
    return ClusterProcess()


def asked(connecting, question):
    async def ask():
        return await question(await connecting)

    return asyncio.run(ask())


async def namespaces(api):
    listed = [item["metadata"]["name"] async for item in read_items(api, "list of namespaces", url="namespaces")]
    one = await read(api, "namespace kube-system", url="namespaces/kube-system")
    return listed, one


def test_it_answers_as_the_client_of_this_process_does(cluster, asker):
    place = (cluster.context, str(cluster.kubeconfig))
    assert asked(asker.connect(*place), namespaces) == asked(connect(*place), namespaces)


def test_it_answers_many_questions_at_once(cluster, asker):
    async def many(api):
        names = ["default", "kube-system", "kube-public"] * 20
        found = await asyncio.gather(*(read(api, f"namespace {name}", url=f"namespaces/{name}") for name in names))
        return names == [namespace["metadata"]["name"] for namespace in found]

    assert asked(asker.connect(cluster.context, str(cluster.kubeconfig)), many)


def test_what_is_not_there_and_what_is_forbidden_are_told_apart(cluster, asker):
    place = (cluster.context, str(cluster.kubeconfig))
    with pytest.raises(NotFoundError, match="namespace nowhere does not exist") as raised:
        asked(asker.connect(*place), lambda api: read(api, "namespace nowhere", url="namespaces/nowhere"))
    assert raised.value.said == 'namespaces "nowhere" not found'
    nobody = {"Impersonate-User": "nobody"}
    with pytest.raises(ForbiddenError, match="Give these credentials the right"):
        asked(asker.connect(*place), lambda api: read(api, "list of Secrets", url="secrets", headers=nobody))


def test_no_copy_of_a_private_key_is_left_behind(cluster, asker, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    place = (cluster.context, str(cluster.kubeconfig))
    assert "client-key-data" in cluster.kubeconfig.read_text()
    assert asked(connect(*place), namespaces) == asked(asker.connect(*place), namespaces)
    assert list(tmp_path.iterdir()) == []


def test_streams_are_opened_too(cluster, asker):
    with pytest.raises(PodUnreachableError, match="the API server answers with 404 Not Found"):
        asked(
            asker.connect(cluster.context, str(cluster.kubeconfig)),
            lambda api: fetch_page(api, "default", "nowhere", 9990, "/metrics"),
        )


def test_a_process_that_is_killed_is_one_sentence(cluster, asker):
    process = asker.start()

    async def kill(api):
        process.kill()
        await read(api, "namespace default", url="namespaces/default")

    with pytest.raises(ClusterError, match="has ended before it answered"):
        asked(asker.connect(cluster.context, str(cluster.kubeconfig)), kill)
