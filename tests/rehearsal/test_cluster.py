"""The cluster itself: it runs workloads, survives crashes, and never outlives who started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rehearsal.cluster import Cluster, ClusterError

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "example.com/web"}]},
        },
    },
}


def wait_until(reached, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return value


def is_alive(pid):
    """Whether a process runs; one that only waits to be asked what became of it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids_of(cluster):
    return [int(path.read_text()) for path in cluster.directory.glob("*.pid")]


def test_a_deployment_becomes_available(cluster):
    with cluster.client() as api:
        api.post("/apis/apps/v1/namespaces/default/deployments", json=DEPLOYMENT).raise_for_status()
        path = "/apis/apps/v1/namespaces/default/deployments/web"
        wait_until(lambda: api.get(path).json()["status"].get("availableReplicas") == 3)
        api.delete(path).raise_for_status()
        pods = "/api/v1/namespaces/default/pods"
        wait_until(lambda: not api.get(pods).json()["items"])


def test_a_webhook_that_nothing_answers_for_is_refused_at_once(cluster):
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "unserved"},
        "webhooks": [
            {
                "name": "unserved.example.com",
                "clientConfig": {"service": {"namespace": "default", "name": "unserved"}},
                "rules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ],
                "objectSelector": {"matchLabels": {"validate": "me"}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "failurePolicy": "Fail",
            }
        ],
    }
    service = {"metadata": {"name": "unserved"}, "spec": {"ports": [{"port": 443}]}}
    map_ = {"metadata": {"name": "judged", "labels": {"validate": "me"}}}
    webhooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    with cluster.client() as api:
        api.post("/api/v1/namespaces/default/services", json=service).raise_for_status()
        api.post(webhooks, json=configuration).raise_for_status()
        try:
            answer = wait_until(
                lambda: (
                    (got := api.post("/api/v1/namespaces/default/configmaps?dryRun=All", json=map_)).is_error and got
                )
            )
            assert "503 Service Unavailable" in answer.text
        finally:
            api.delete(f"{webhooks}/unserved")
            api.delete("/api/v1/namespaces/default/services/unserved")


def test_a_restarted_api_server_has_kept_everything(cluster):
    with cluster.client() as api:
        api.post("/api/v1/namespaces/default/configmaps", json={"metadata": {"name": "kept"}}).raise_for_status()
    cluster.restart("kube-apiserver")
    with cluster.client() as api:
        assert api.get("/api/v1/namespaces/default/configmaps/kept").is_success
        api.delete("/api/v1/namespaces/default/configmaps/kept").raise_for_status()


def test_clusters_run_side_by_side_and_leave_nothing(cluster):
    with Cluster.start(f"second-{os.getpid()}") as second:
        pids = pids_of(second)
        with cluster.client() as one, second.client() as other:
            path = "/api/v1/namespaces/kube-system"
            assert one.get(path).json()["metadata"]["uid"] != other.get(path).json()["metadata"]["uid"]
        assert second.name in [entry.name for entry in Cluster.running()]
        with pytest.raises(ClusterError, match=rf"A cluster named {second.name} is running\. Stop it"):
            Cluster.start(second.name)
    assert not second.directory.exists()
    assert not any(is_alive(pid) for pid in pids)


def test_a_cluster_ends_with_a_starter_that_was_killed():
    name = f"orphan-{os.getpid()}"
    program = f"from rehearsal.cluster import Cluster; Cluster.start({name!r}); print('started', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "started\n"
        cluster = Cluster.attach(name)
        pids = pids_of(cluster)
        assert len(pids) > 8
        starter.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert not cluster.is_running()
    cluster.stop()


def test_no_process_outlives_a_supervisor_that_was_killed():
    cluster = Cluster.start(f"beheaded-{os.getpid()}", keep=True)
    pids = pids_of(cluster)
    os.kill(int((cluster.directory / "supervisor.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    cluster.stop()


@pytest.mark.parametrize("name", ["", "Upper", "../escape", "a" * 40])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ClusterError, match="is not a name of a cluster"):
        Cluster.start(name)


def test_a_cluster_that_does_not_run_cannot_be_attached_to():
    with pytest.raises(ClusterError, match="No cluster named nowhere is running"):
        Cluster.attach("nowhere")


def test_a_process_that_there_is_not_cannot_be_killed(cluster):
    with pytest.raises(ClusterError, match=r"no running process named konnectivity \(running: .*kube-apiserver"):
        cluster.kill("konnectivity")
