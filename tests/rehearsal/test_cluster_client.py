"""The client of a cluster against a real API server: answers, refusals, port-forwards, and what stays on the disk."""

import asyncio
import json
import tempfile

import pytest
import yaml

from meshtrust.cluster import api as cluster_api
from meshtrust.cluster.api import (
    CONFIGMAPS,
    NAMESPACES,
    SECRETS,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Request,
)
from meshtrust.cluster.connection.port_forward import PodUnreachableError, fetch_page
from rehearsal.connection import connect


def asked(cluster, question):
    async def ask():
        return await question(await connect(cluster.context, str(cluster.kubeconfig)))

    return asyncio.run(ask())


async def names(items):
    return [item["metadata"]["name"] async for item in items]


def test_a_list_in_pages_is_the_list(cluster, monkeypatch):
    whole = asked(cluster, lambda api: names(api.list(NAMESPACES)))
    monkeypatch.setattr(cluster_api, "_PAGE", 2)
    assert asked(cluster, lambda api: names(api.list(NAMESPACES))) == whole
    assert len(whole) > 2


def test_many_questions_are_answered_at_once(cluster):
    async def many(api):
        wanted = ["default", "kube-system", "kube-public"] * 20
        found = await asyncio.gather(*(api.get(NAMESPACES, name) for name in wanted))
        return wanted == [namespace["metadata"]["name"] for namespace in found]

    assert asked(cluster, many)


def test_a_document_is_asked_for_without_its_text(cluster):
    document = Request(method="HEAD", path="/openapi/v2", what="OpenAPI document", accept="application/json")
    assert asked(cluster, lambda api: api.send(document)) is None


def test_what_does_not_exist_is_named_and_an_optional_one_is_none(cluster):
    with pytest.raises(NotFoundError, match="namespace nowhere does not exist") as raised:
        asked(cluster, lambda api: api.get(NAMESPACES, "nowhere"))
    assert raised.value.server_message == 'namespaces "nowhere" not found'
    assert asked(cluster, lambda api: api.find(NAMESPACES, "nowhere")) is None
    assert asked(cluster, lambda api: api.discover("nowhere.example")) is None
    assert asked(cluster, lambda api: api.list_custom("apps", "gadgets", "Gadget")) is None


def test_an_object_is_created_once(cluster):
    item = {"metadata": {"name": "made-once"}, "data": {"a": "1"}}
    asked(cluster, lambda api: api.create(CONFIGMAPS, item, namespace="default"))
    with pytest.raises(ConflictError, match="ConfigMap default/made-once"):
        asked(cluster, lambda api: api.create(CONFIGMAPS, {**item, "data": {"a": "2"}}, namespace="default"))
    assert asked(cluster, lambda api: api.get(CONFIGMAPS, "made-once", namespace="default"))["data"] == {"a": "1"}


def test_a_watched_object_is_seen_as_it_changes_and_is_not_asked_for(cluster, monkeypatch):
    item = {"metadata": {"name": "watched"}, "data": {"a": "1"}}

    async def follow(api):
        await api.create(CONFIGMAPS, item, namespace="default")
        found = await api.get(CONFIGMAPS, "watched", namespace="default")
        async with api.watch(CONFIGMAPS, found, namespace="default") as look:
            monkeypatch.setattr(api, "get", None)
            for value in ("2", "3"):
                await api.patch(CONFIGMAPS, "watched", {"data": {"a": value}}, namespace="default")
                while (await look(60))["data"]["a"] != value:
                    pass
        return True

    assert asked(cluster, follow)


def test_a_dry_run_makes_no_object(cluster):
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tried"}, "data": {"a": "1"}}
    asked(cluster, lambda api: api.dry_run(CONFIGMAPS, item, "default", seconds=5))
    assert asked(cluster, lambda api: api.find(CONFIGMAPS, "tried", namespace="default")) is None


def test_a_patch_of_an_object_that_has_changed_since_is_refused_and_one_of_its_version_is_made(cluster):
    async def label(api, version):
        change = {"metadata": {"resourceVersion": version, "labels": {"tried": "yes"}}}
        return await api.patch(NAMESPACES, "default", change)

    async def both(api):
        found = await api.get(NAMESPACES, "default")
        with pytest.raises(cluster_api.ConflictError, match="namespace default cannot be changed"):
            await label(api, "1")
        return await label(api, found["metadata"]["resourceVersion"])

    assert asked(cluster, both)["metadata"]["labels"]["tried"] == "yes"


def test_whom_the_kubeconfig_impersonates_has_only_their_rights(cluster, tmp_path):
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for entry in config["users"]:
        entry["user"]["as"] = "nobody"
    path = tmp_path / "config"
    path.write_text(json.dumps(config))

    async def read():
        api = await connect(cluster.context, str(path))
        return await names(api.list(SECRETS))

    with pytest.raises(ForbiddenError, match=r'User "nobody" cannot list.* Give these credentials the right'):
        asyncio.run(read())


def test_no_copy_of_a_private_key_is_left_behind(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert "client-key-data" in cluster.kubeconfig.read_text()
    assert asked(cluster, lambda api: names(api.list(NAMESPACES)))
    assert list(tmp_path.iterdir()) == []


def test_a_port_of_a_pod_that_does_not_exist_is_unreachable(cluster):
    with pytest.raises(PodUnreachableError, match="the API server answers with 404 Not Found"):
        asked(cluster, lambda api: fetch_page(api, "default", "nowhere", 9990, "/metrics"))
