"""A first deployment on nodes that pull images: Linkerd starts beside cert-manager, and what fails is resumed."""

import os
from dataclasses import replace

import pytest
from cryptography import x509

from rehearsal.cluster import Cluster
from rehearsal.cluster.waiting_times import WaitingTimes
from rehearsal.workspace import workspace
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.live_stack import LiveStack, get
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, settings
from tests.rehearsal.test_interrupted import running

pytestmark = pytest.mark.soak

TIMES = WaitingTimes(other_pulls=1, shortest_start=0.2, longest_start=0.5)
NO_CONTROLLER = replace(TIMES, missing=("jetstack/cert-manager-controller",))
# Linkerd's chart keeps the definitions of this group, since other software may use them.
KEPT = "gateway.networking.k8s.io"
CERTIFICATE = "/apis/cert-manager.io/v1/namespaces/linkerd/certificates/linkerd-identity-issuer"


@pytest.fixture
def waiting():
    with Cluster.start(f"first-{os.getpid()}", waiting_times=TIMES) as running:
        yield running


@pytest.fixture
def live(waiting, binaries, linkerd_charts):
    with workspace("dev", settings=settings(waiting, binaries, linkerd_charts)) as project:
        before = everything(waiting)
        yield LiveStack(project, waiting)
        LiveStack(project, waiting).run(*DESTROY)
        wait_until(lambda: everything(waiting) <= before, 60)


def everything(cluster):
    """Every object that can be listed, by kind, namespace and name, but for events and what a removal keeps."""
    found = set()
    with cluster.client() as api:
        groups = api.get("/apis").raise_for_status().json()["groups"]
        versions = ["api/v1", *(f"apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
        for version in versions:
            for kind in api.get(f"/{version}").json().get("resources", []):
                if "list" in kind["verbs"] and kind["name"] != "events":
                    listed = api.get(f"/{version}/{kind['name']}")
                    # A kind may go away between the question which there are and the one for its objects.
                    for item in listed.json()["items"] if listed.is_success else []:
                        place = item["metadata"].get("namespace", "")
                        name = f"{place}/{item['metadata']['name']}" if place else item["metadata"]["name"]
                        found.add(f"{version.partition('/')[2]}/{kind['name']}/{name}")
    return {name for name in found if not name.endswith(KEPT)}


def is_ready(cluster, namespace, name):
    """Whether the pods of a Deployment are ready."""
    with cluster.client() as api:
        found = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    return found.is_success and found.json()["status"].get("readyReplicas", 0) > 0


def is_control_plane_ready(cluster):
    return all(
        is_ready(cluster, "linkerd", f"linkerd-{part}") for part in ("identity", "destination", "proxy-injector")
    )


def shape(certificate):
    """The content of a certificate, but for its key, its number and its time."""
    of_its_key = (x509.SubjectKeyIdentifier,)
    extensions = {
        extension.oid.dotted_string: (extension.critical, extension.value)
        for extension in certificate.extensions
        if not isinstance(extension.value, of_its_key)
    }
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.subject, certificate.issuer, extensions, lifetime


def is_issued(cluster):
    return get(cluster, CERTIFICATE)["status"].get("revision", 0) >= 1


def test_linkerd_is_ready_before_cert_manager_which_then_issues(live, waiting):
    waiting.set_waiting_times(NO_CONTROLLER)
    with running(live.project, *UP) as engine:
        wait_until(lambda: is_control_plane_ready(waiting), 300)
        assert engine.poll() is None, "the run waits for cert-manager"
        assert not is_ready(waiting, "cert-manager", "cert-manager")
        waiting.set_waiting_times(TIMES)
        assert engine.wait(300) == 0
    assert is_issued(waiting)
    assert live.leaf_verifies()
    live.run(*UP, *NO_CHANGES)


def test_a_run_that_is_killed_while_linkerd_runs_without_cert_manager_is_resumed(live, waiting):
    waiting.set_waiting_times(NO_CONTROLLER)
    with running(live.project, *UP):
        wait_until(lambda: is_control_plane_ready(waiting), 300)
    first = live.issuer_chain()[0]
    live.run("cancel", "--yes")
    waiting.set_waiting_times(TIMES)
    live.up()
    assert is_issued(waiting)
    assert live.issuer_chain()[0] != first
    assert live.leaf_verifies()


def test_an_image_that_never_comes_ends_the_run_with_the_pod_and_the_next_run_goes_on(live, waiting):
    waiting.set_waiting_times(NO_CONTROLLER)
    said = live.refused(helm={"timeoutSeconds": 45})
    assert "Helm release cert-manager/cert-manager is deployed, and its pods are not ready after 45 seconds" in said
    assert "pod cert-manager-" in said
    assert "ImagePullBackOff: Back-off pulling image" in said
    assert "Put it right and run again" in said
    assert not live.project.outputs(), "nothing is recorded of what is half done"
    first = live.issuer_chain()[0]
    waiting.set_waiting_times(TIMES)
    live.up(helm={"timeoutSeconds": 300})
    assert is_issued(waiting)
    issued = live.issuer_chain()[0]
    assert issued != first, "cert-manager has issued another one"
    assert shape(issued) == shape(first), "and it is of the same kind"
    assert live.leaf_verifies()
