"""A first deployment on nodes that pull images: Linkerd starts beside cert-manager, and what fails is resumed."""

import os

import pytest
from cryptography import x509

from rehearsal.cluster import Cluster
from rehearsal.cluster.waiting_times import WaitingTimes
from rehearsal.observe import Observer
from rehearsal.workspace import workspace
from tests.rehearsal.live_stack import LiveStack, get
from tests.rehearsal.stack import DESTROY, UP, settings

pytestmark = pytest.mark.soak

# cert-manager takes longer than all of Linkerd.
TIMES = WaitingTimes(
    pulls={"jetstack/cert-manager-controller": 15}, other_pulls=1, shortest_start=0.2, longest_start=0.5
)
NO_CONTROLLER = WaitingTimes(
    other_pulls=1, shortest_start=0.2, longest_start=0.5, missing=("jetstack/cert-manager-controller",)
)
CERTIFICATE = "/apis/cert-manager.io/v1/namespaces/linkerd/certificates/linkerd-identity-issuer"


@pytest.fixture
def waiting():
    with Cluster.start(f"first-{os.getpid()}", waiting_times=TIMES) as running:
        yield running


@pytest.fixture
def live(waiting, binaries, linkerd_charts):
    with workspace("dev", settings=settings(waiting, binaries, linkerd_charts)) as project:
        before = Observer(waiting).inventory()
        yield LiveStack(project, waiting)
        LiveStack(project, waiting).run(*DESTROY)
        Observer(waiting).wait_for_inventory(before, 60)


def pods(cluster, namespace):
    """When each pod of a namespace became ready, by the name of what it belongs to; None if it is not."""
    found = {}
    for pod in get(cluster, f"/api/v1/namespaces/{namespace}/pods")["items"]:
        conditions = {entry["type"]: entry for entry in pod["status"].get("conditions", [])}
        ready = conditions.get("Ready", {})
        name = pod["metadata"]["name"].rsplit("-", 2)[0]
        found[name] = ready["lastTransitionTime"] if ready.get("status") == "True" else None
    return found


def shape(certificate):
    """What a certificate says, but for its key, its number and its time."""
    of_its_key = (x509.SubjectKeyIdentifier,)
    extensions = {
        extension.oid.dotted_string: (extension.critical, extension.value)
        for extension in certificate.extensions
        if not isinstance(extension.value, of_its_key)
    }
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.subject, certificate.issuer, extensions, lifetime


def test_linkerd_is_ready_before_cert_manager_which_then_issues_what_the_program_had_signed(live, waiting):
    live.run(*UP)
    control_plane, manager = pods(waiting, "linkerd"), pods(waiting, "cert-manager")
    assert None not in [*control_plane.values(), *manager.values()]
    assert max(control_plane.values()) <= manager["cert-manager"], "Linkerd did not wait for cert-manager"
    certificate = get(waiting, CERTIFICATE)
    assert certificate["status"]["revision"] >= 1, "cert-manager has issued"
    assert live.leaf_verifies()
    live.up()
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
    certificate = get(waiting, CERTIFICATE)
    assert certificate["status"]["revision"] >= 1
    issued = live.issuer_chain()[0]
    assert issued != first, "cert-manager has issued another one"
    assert shape(issued) == shape(first), "and it is of the same kind"
    assert live.leaf_verifies()
