"""The client of a real API server: many requests at once, the kinds of errors, credentials and streams."""

import asyncio
import tempfile

import pytest

from meshtrust.cluster.api import ForbiddenError, NotFoundError, read, read_items
from meshtrust.cluster.connection.client import connect
from meshtrust.cluster.connection.port_forward import PodUnreachableError, fetch_page


def asked(cluster, question):
    async def ask():
        return await question(await connect(cluster.context, str(cluster.kubeconfig)))

    return asyncio.run(ask())


async def namespaces(api):
    return [item["metadata"]["name"] async for item in read_items(api, "list of namespaces", url="namespaces")]


def test_it_answers_many_questions_at_once(cluster):
    async def many(api):
        names = ["default", "kube-system", "kube-public"] * 20
        found = await asyncio.gather(*(read(api, f"namespace {name}", url=f"namespaces/{name}") for name in names))
        return names == [namespace["metadata"]["name"] for namespace in found]

    assert asked(cluster, many)


def test_what_is_not_there_and_what_is_forbidden_are_told_apart(cluster):
    with pytest.raises(NotFoundError, match="namespace nowhere does not exist") as raised:
        asked(cluster, lambda api: read(api, "namespace nowhere", url="namespaces/nowhere"))
    assert raised.value.said == 'namespaces "nowhere" not found'
    nobody = {"Impersonate-User": "nobody"}
    with pytest.raises(ForbiddenError, match="Give these credentials the right"):
        asked(cluster, lambda api: read(api, "list of Secrets", url="secrets", headers=nobody))


def test_no_copy_of_a_private_key_is_left_behind(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert "client-key-data" in cluster.kubeconfig.read_text()
    assert "kube-system" in asked(cluster, namespaces)
    assert list(tmp_path.iterdir()) == []


def test_streams_are_opened_too(cluster):
    with pytest.raises(PodUnreachableError, match="the API server answers with 404 Not Found"):
        asked(cluster, lambda api: fetch_page(api, "default", "nowhere", 9990, "/metrics"))
