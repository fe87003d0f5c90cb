"""Pods that do not get ready: a run waits for them, tells what keeps them, and does not end well before they are."""

import asyncio

import pytest

from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.readiness import wait_ready
from rehearsal.connection import connect
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.live_stack import get
from tests.rehearsal.stack import UP

NOWHERE = {"nodeSelector": {"kubernetes.io/os": "plan9"}}


@pytest.fixture
def namespace(cluster):
    """A namespace that no other test has: until one is gone takes longer than a test."""
    with cluster.client() as api:
        made = api.post("/api/v1/namespaces", json={"metadata": {"generateName": "readiness-"}}).raise_for_status()
        name = made.json()["metadata"]["name"]
        yield name
        api.delete(f"/api/v1/namespaces/{name}").raise_for_status()


def deployment_of(name, **pod):
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "work", "image": "example.org/work"}], **pod},
    }
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}


@pytest.fixture
def deploy(cluster, namespace):
    """Make a Deployment as Helm would, of a release."""

    def make(name, release, *, replicas=1, away=0, **pod):
        deployment = deployment_of(name, **pod)
        deployment["metadata"]["annotations"] = {"meta.helm.sh/release-name": release}
        deployment["spec"] |= {"replicas": replicas, "strategy": {"rollingUpdate": {"maxUnavailable": away}}}
        with cluster.client() as api:
            api.post(f"/apis/apps/v1/namespaces/{namespace}/deployments", json=deployment).raise_for_status()

    return make


@pytest.fixture
def wait(cluster, namespace):
    """Wait for a release; return the messages meanwhile, and act at each."""

    def call(release, seconds, meanwhile=lambda: None):
        told: list[str] = []

        def tell(waits):
            told.append(waits)
            meanwhile()

        async def ask():
            api = await connect(cluster.context, str(cluster.kubeconfig))
            await wait_ready(api, namespace, release, seconds, tell)

        asyncio.run(ask())
        return told

    return call


def not_ready(wait, release):
    with pytest.raises(ClusterError) as refused:
        wait(release, 1)
    return str(refused.value)


def test_pods_that_get_ready_are_waited_for_and_told_of(deploy, wait, cluster, namespace):
    deploy("soon", "ours", **NOWHERE)

    def let_any_node_take_them():
        patch = {"spec": {"template": {"spec": {"nodeSelector": None}}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        with cluster.client() as api:
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments/soon"
            api.patch(path, json=patch, headers=headers).raise_for_status()

    assert wait("ours", 60, let_any_node_take_them)[:1] == ["Waiting for Deployment soon, 0 of 1 new pods ready"]
    assert wait("ours", 60) == []


def test_a_deployment_of_another_release_is_not_waited_for(deploy, wait):
    deploy("never", "theirs", **NOWHERE)
    assert wait("ours", 1) == []


@pytest.mark.parametrize(("away", "needed"), [(1, "enough"), ("20%", "enough"), (0, "all"), ("19%", "all")])
def test_as_many_may_be_missing_as_the_deployment_itself_allows(*, deploy, wait, cluster, namespace, away, needed):
    """As in high availability while a node is down: each of the pods wants a node of its own."""
    nodes = len(get(cluster, "/api/v1/nodes")["items"])
    alone = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "spread"}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [alone]}}
    assert nodes == 4, "a fifth of the pods is one"
    deploy("spread", "ours", replicas=nodes + 1, away=away, affinity=affinity)
    wait_until(lambda: status_of(cluster, namespace, "spread").get("availableReplicas") == nodes)
    if needed == "all":
        assert f"Deployment spread, {nodes} of {nodes + 1} new pods ready: pod spread-" in not_ready(wait, "ours")
    else:
        wait("ours", 60)


def test_of_one_pod_none_may_be_missing(deploy, wait):
    deploy("never", "ours", away=1, **NOWHERE)
    assert "0 of 1 new pods ready" in not_ready(wait, "ours")


def test_a_pod_without_a_node_is_told_in_the_schedulers_words(deploy, wait, cluster, namespace):
    deploy("never", "ours", **NOWHERE)
    wait_until(lambda: scheduled(pod_of(cluster, namespace)) == "False")
    said = not_ready(wait, "ours")
    assert f"Helm release {namespace}/ours is deployed, and its pods are not ready after 1 seconds" in said
    assert "Deployment never, 0 of 1 new pods ready: pod never-" in said
    assert "Unschedulable: 0/" in said


def test_a_pod_that_is_not_made_is_told_in_the_api_servers_words(deploy, wait, cluster, namespace):
    deploy("never", "ours", serviceAccountName="nobody")
    wait_until(lambda: "ReplicaFailure" in str(status_of(cluster, namespace, "never").get("conditions")))
    assert 'FailedCreate: pods "never-' in (said := not_ready(wait, "ours"))
    assert 'serviceaccount "nobody" not found' in said


def test_an_image_that_is_not_there_is_told_in_the_kubelets_words(deploy, wait, cluster, namespace):
    deploy("never", "ours", **NOWHERE)
    wait_until(lambda: pod_of(cluster, namespace) is not None)
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "example.org/work"'}
    container = {
        "name": "work",
        "image": "example.org/work",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": waiting},
    }
    # No node has the pod, so that nobody but this test writes what a kubelet would.
    path = f"/api/v1/namespaces/{namespace}/pods/{pod_of(cluster, namespace)['metadata']['name']}/status"
    with cluster.client() as api:
        patch = {"status": {"containerStatuses": [container]}}
        api.patch(path, json=patch, headers={"Content-Type": "application/merge-patch+json"}).raise_for_status()
    assert 'container work: ImagePullBackOff: Back-off pulling image "example.org/work"' in not_ready(wait, "ours")


def status_of(cluster, namespace, deployment):
    return get(cluster, f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}").get("status") or {}


def pod_of(cluster, namespace):
    return next(iter(get(cluster, f"/api/v1/namespaces/{namespace}/pods")["items"]), None)


def scheduled(pod):
    conditions = (pod or {}).get("status", {}).get("conditions") or []
    return next((each["status"] for each in conditions if each["type"] == "PodScheduled"), None)


def test_a_run_does_not_end_well_before_the_control_plane_is_ready(make_stack):
    stack = make_stack()
    stack.run(*UP)
    nowhere = {"values": NOWHERE}
    for turn in ("the run that deploys it", "the next, which finds nothing to change"):
        said = stack.refused(linkerd=nowhere, helm={"timeoutSeconds": 2})
        assert "error: Helm release linkerd/linkerd-control-plane is deployed, and its pods are not ready" in said, turn
        assert "Deployment linkerd-identity, 0 of 1 new pods ready: pod linkerd-identity-" in said, turn
        assert "Unschedulable: 0/" in said, turn
        assert "unhandled error" not in said, turn
    assert stack.leaf_verifies(), "the old pods serve"
    stack.up(linkerd={"values": {}}, helm={"timeoutSeconds": 600})


@pytest.mark.soak
def test_a_cert_manager_that_is_not_ready_is_not_built_upon(make_stack, cluster):
    stack = make_stack()
    said = stack.refused(certManager={"values": {"webhook": NOWHERE}}, helm={"timeoutSeconds": 2})
    assert "error: Helm release cert-manager/cert-manager is deployed, and its pods are not ready" in said
    assert "Deployment cert-manager-webhook, 0 of 1 new pods ready: pod cert-manager-webhook-" in said
    with cluster.client() as api:
        assert not api.get("/apis/cert-manager.io/v1/namespaces/linkerd/issuers").json()["items"]
    stack.up(certManager={"values": {}}, helm={"timeoutSeconds": 600})


@pytest.fixture
def forbidden(cluster):
    """Let the API server refuse one of the control plane's Deployments, as a cluster's own policy may."""
    spec = {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
            ]
        },
        "validations": [{"expression": "object.metadata.name != 'linkerd-identity'", "message": "not in this cluster"}],
    }
    base = "/apis/admissionregistration.k8s.io/v1"
    name = {"metadata": {"name": "forbidden"}}
    binding = {"policyName": "forbidden", "validationActions": ["Deny"]}
    with cluster.client() as api:
        api.post(f"{base}/validatingadmissionpolicies", json={**name, "spec": spec}).raise_for_status()
        api.post(f"{base}/validatingadmissionpolicybindings", json={**name, "spec": binding}).raise_for_status()
        wait_until(lambda: _is_refused(api))

        def allow():
            for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
                api.delete(f"{base}/{kind}/forbidden").raise_for_status()
            wait_until(lambda: not _is_refused(api))

        yield allow


def _is_refused(api):
    deployment = deployment_of("linkerd-identity")
    answer = api.post("/apis/apps/v1/namespaces/default/deployments", params={"dryRun": "All"}, json=deployment)
    return not answer.is_success


@pytest.mark.soak
def test_a_release_that_was_refused_half_way_is_mended_by_the_next_run(make_stack, forbidden):
    stack = make_stack()
    assert "not in this cluster" in stack.refused()
    forbidden()
    stack.up()
    assert stack.leaf_verifies()
