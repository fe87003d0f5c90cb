"""A cluster whose pods take their time: what a pod waits for, and in which order, is a kubelet's."""

import os
from dataclasses import replace
from datetime import datetime

import pytest

from rehearsal.cluster import Cluster
from rehearsal.cluster.waiting_times import WaitingTimes
from tests.rehearsal.test_cluster import wait_until

PODS = "/api/v1/namespaces/default/pods"
TIMES = WaitingTimes(pulls={"slow": 2}, other_pulls=0.2, shortest_start=0.1, longest_start=0.3)


@pytest.fixture(scope="module")
def waiting():
    with Cluster.start(f"waiting-{os.getpid()}", waiting_times=TIMES) as running:
        yield running


@pytest.fixture
def api(waiting):
    with waiting.client() as client:
        yield client


def make_pod(api, name, image, node="node-1", **spec):
    containers = [{"name": "web", "image": image}]
    body = {"metadata": {"name": name}, "spec": {"containers": containers, "nodeName": node, **spec}}
    api.post(PODS, json=body).raise_for_status()


def status(api, name):
    return api.get(f"{PODS}/{name}").raise_for_status().json()["status"]


def is_ready(api, name):
    return any(
        entry["type"] == "Ready" and entry["status"] == "True" for entry in status(api, name).get("conditions", [])
    )


def seconds_to_ready(api, name):
    pod = api.get(f"{PODS}/{name}").raise_for_status().json()
    [since] = [entry["lastTransitionTime"] for entry in pod["status"]["conditions"] if entry["type"] == "Ready"]
    made = pod["metadata"]["creationTimestamp"]
    return (datetime.fromisoformat(since) - datetime.fromisoformat(made)).total_seconds()


def warning(api, name, reason):
    """The newest warning about a pod with this reason; empty if there is none."""
    fields = f"involvedObject.name={name},reason={reason}"
    found = api.get("/api/v1/namespaces/default/events", params={"fieldSelector": fields}).json()["items"]
    return found[-1]["message"] if found else ""


def why_waiting(api, name):
    return [entry["state"]["waiting"] for entry in status(api, name).get("containerStatuses", [])]


def test_a_pod_is_ready_once_its_image_is_pulled_and_its_container_started(api):
    make_pod(api, "slow", "example.com/slow:1")
    wait_until(lambda: is_ready(api, "slow"))
    assert seconds_to_ready(api, "slow") >= 2


def test_a_pod_pulls_no_image_before_its_secret_is_there(waiting, api):
    waiting.set_waiting_times(replace(TIMES, missing=("unpulled",)))
    volume = {"name": "keys", "secret": {"secretName": "late"}}
    make_pod(api, "mounting", "example.com/unpulled:1", volumes=[volume])
    wait_until(lambda: '"late" not found' in warning(api, "mounting", "FailedMount"))
    assert why_waiting(api, "mounting") == [], "the image was not asked for"
    api.post("/api/v1/namespaces/default/secrets", json={"metadata": {"name": "late"}}).raise_for_status()
    waiting_for = wait_until(lambda: why_waiting(api, "mounting"))
    assert waiting_for[0]["reason"] == "ImagePullBackOff"
    waiting.set_waiting_times(TIMES)
    wait_until(lambda: is_ready(api, "mounting"))


def test_a_node_pulls_an_image_once_and_each_node_for_itself(waiting, api):
    make_pod(api, "first", "example.com/once:1")
    wait_until(lambda: is_ready(api, "first"))
    waiting.set_waiting_times(replace(TIMES, missing=("once",)))
    make_pod(api, "again", "example.com/once:1")
    make_pod(api, "elsewhere", "example.com/once:1", node="node-2")
    wait_until(lambda: is_ready(api, "again"))
    waiting_for = wait_until(lambda: why_waiting(api, "elsewhere"))
    assert waiting_for[0]["reason"] == "ImagePullBackOff"
    assert "example.com/once:1" in waiting_for[0]["message"]
    waiting.set_waiting_times(TIMES)
    wait_until(lambda: is_ready(api, "elsewhere"))


def test_nodes_pull_for_several_pods_at_once(waiting, api):
    waiting.set_waiting_times(replace(TIMES, pulls={"endless": 3600}))
    make_pod(api, "endless", "example.com/endless:1")
    make_pod(api, "beside", "example.com/beside:1")
    wait_until(lambda: is_ready(api, "beside"))
    assert not is_ready(api, "endless")


def test_nodes_that_serialize_image_pulls_pull_one_image_after_the_other(waiting, api):
    pulls = {"one": 2, "other": 2}
    waiting.set_waiting_times(replace(TIMES, pulls=pulls, serialize_image_pulls=True))
    for name in pulls:
        make_pod(api, name, f"example.com/{name}:1", node="node-3")
    for name in pulls:
        wait_until(lambda name=name: is_ready(api, name))
    # Kubernetes' times are whole seconds.
    assert max(seconds_to_ready(api, name) for name in pulls) >= 3
    waiting.set_waiting_times(TIMES)
