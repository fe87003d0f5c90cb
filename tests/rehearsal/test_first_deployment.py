"""A first deployment on nodes that pull images: Linkerd starts beside cert-manager, and what fails is resumed."""

import base64
import contextlib
import os
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509

from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE
from meshtrust.pki.pem import read_bundle
from rehearsal import mesh
from rehearsal.cluster import Cluster
from rehearsal.cluster.waiting_times import WaitingTimes
from rehearsal.mesh.traffic import make_workloads, read_handshakes, wait_for_proxies
from rehearsal.workspace import workspace
from tests.certificates import make_certificate
from tests.key_material import KeySearch, kept_and_shown
from tests.rehearsal.control_plane import proxy_of, wait_until
from tests.rehearsal.faults.conftest import meet, take_away_what_a_kill_left
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.live_stack import ISSUER_SECRET, LiveStack, get, names
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, settings
from tests.rehearsal.test_interrupted import running

pytestmark = pytest.mark.soak

TIMES = WaitingTimes(other_pulls=1, shortest_start=0.2, longest_start=0.5)
NO_LINKERD = replace(TIMES, missing=("linkerd/controller", "stand-in/linkerd-controller"))
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


# The settings' limit for each wait, and what a run may take beside: with all its checks, and a fault.
LIMIT, BESIDE = 30, 90
PODS = "/api/v1/namespaces/default/pods"
CONFIGMAPS = "/api/v1/namespaces/linkerd/configmaps"
POLICIES = "/apis/admissionregistration.k8s.io/v1"


def ends_in_time(live):
    """Return what a run says that fails within its limit, and records nothing."""
    begun = time.monotonic()
    said = live.refused(helm={"timeoutSeconds": LIMIT})
    assert time.monotonic() - begun < LIMIT + BESIDE, said
    assert not live.project.outputs(), "nothing is recorded of what is half done"
    return said


def goes_on(live, cluster):
    """The cause is mended: the next run deploys all, and a pod that is made then gets its proxy."""
    live.up(helm={"timeoutSeconds": 300})
    assert is_issued(cluster)
    assert live.leaf_verifies()
    assert is_injected(cluster)


def is_injected(cluster):
    """Whether a pod that is made now gets a proxy by the API server's call of the injector."""
    pod = {
        "metadata": {"name": "sample", "annotations": {"linkerd.io/inject": "enabled"}},
        "spec": {"containers": [{"name": "app", "image": "example.com/app"}]},
    }
    with cluster.client() as api:
        answer = api.post(PODS, params={"dryRun": "All"}, json=pod, timeout=30).raise_for_status()
    return proxy_of(answer.json()) is not None


@contextlib.contextmanager
def standing_still(cluster, component):
    """A process answers nobody, while its pod is as ready as it was."""
    pid = int((cluster.directory / f"{component}.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_image_of_linkerd_that_never_comes_ends_the_run_with_the_pod_and_the_next_run_goes_on(live, waiting):
    waiting.set_waiting_times(NO_LINKERD)
    said = ends_in_time(live)
    assert "Helm release linkerd/linkerd-control-plane is deployed, and its pods are not ready" in said
    assert "pod linkerd-identity-" in said
    assert "ImagePullBackOff: Back-off pulling image" in said
    waiting.set_waiting_times(TIMES)
    goes_on(live, waiting)


def test_a_webhook_of_cert_manager_that_never_answers_ends_the_run_and_the_next_run_goes_on(live, waiting):
    with standing_still(waiting, "cert-manager-webhook"):
        said = ends_in_time(live)
    assert (
        f"cert-manager is installed, and does not answer after {LIMIT} seconds (meshtrust:helm.timeoutSeconds)" in said
    )
    assert 'failed calling webhook "webhook.cert-manager.io"' in said
    assert "let the API server reach the webhook's, on port 10250 by default" in said
    assert "it has an issuer that a run has signed: it ends 48h after that" in said, "Linkerd runs already"
    goes_on(live, waiting)


def test_an_injector_that_never_answers_ends_the_run_and_the_next_run_goes_on(live, waiting):
    with standing_still(waiting, "linkerd-proxy-injector"):
        said = ends_in_time(live)
    assert (
        f"Linkerd is deployed, and after {LIMIT} seconds (meshtrust:helm.timeoutSeconds) this run still waits" in said
    )
    assert "the proxy injector to answer the API server" in said
    assert "Until then new pods start without a proxy" in said
    assert "let the API server reach them on port 8443" in said
    goes_on(live, waiting)


@contextlib.contextmanager
def forbidden(cluster, group, plural):
    """A policy of the cluster's own refuses to have objects of a kind created."""
    rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [plural]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "not before it is approved"}],
    }
    binding = {"policyName": "forbidden", "validationActions": ["Deny"]}
    with cluster.client() as api:
        for kind, body in (("validatingadmissionpolicies", spec), ("validatingadmissionpolicybindings", binding)):
            made = {"metadata": {"name": "forbidden"}, "spec": body}
            api.post(f"{POLICIES}/{kind}", json=made).raise_for_status()
        try:
            yield
        finally:
            for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
                api.delete(f"{POLICIES}/{kind}/forbidden").raise_for_status()


def test_an_issuer_that_fails_while_linkerd_runs_ends_the_run_and_the_next_run_goes_on(live, waiting):
    with forbidden(waiting, "cert-manager.io", "certificaterequests"):
        said = ends_in_time(live)
    assert f"After {LIMIT} seconds this run still waits for cert-manager to issue Certificate linkerd/" in said
    assert "not before it is approved" in said, "in the cluster's words"
    assert "nothing renews it until cert-manager does. Put it right and run again." in said
    assert is_control_plane_ready(waiting)
    assert not is_issued(waiting)
    first = live.issuer_chain()[0]
    goes_on(live, waiting)
    assert live.issuer_chain()[0] != first


def test_a_first_run_that_is_killed_at_each_stage_is_resumed(live, waiting):
    """Before and after the first credentials, while cert-manager pulls; before it issues; and while Helm is at work."""
    waiting.set_waiting_times(NO_CONTROLLER)
    release = "creating kubernetes:helm.sh/v3:Release {}: begun"
    certificate = "creating kubernetes:cert-manager.io/v1:Certificate identity-issuer-certificate: begun"
    kill(live, release.format("linkerd-crds"))
    kill(live, release.format("linkerd-control-plane"))
    first = live.issuer_chain()[0]
    waiting.set_waiting_times(NO_LINKERD)
    kill(live, certificate)
    assert live.issuer_chain()[0] == first
    with running(live.project, *UP):
        wait_until(lambda: "linkerd-identity-trust-roots" in names(waiting, CONFIGMAPS), 180)
    take_away_what_a_kill_left(live.project)
    waiting.set_waiting_times(TIMES)
    goes_on(live, waiting)
    assert live.issuer_chain()[0] != first


def kill(live, boundary):
    """Kill a run as it begins with a resource."""
    code, written = meet(live.project, *UP, FAULTS_AT=boundary)
    assert code == -signal.SIGKILL, written
    take_away_what_a_kill_left(live.project)


def served(cluster):
    """The certificate in the Secret of each webhook, by the webhook's Service."""
    secrets = "/api/v1/namespaces/linkerd/secrets"
    return {
        webhook.service: read_bundle(content(get(cluster, f"{secrets}/{webhook.secret}"))["tls.crt"])[0]
        for webhook in CONTROL_PLANE
    }


def test_secrets_that_another_has_left_are_not_taken_for_the_first_credentials(live, waiting):
    """Whatever is in them, cert-manager counts it as its own where names and key are right."""
    other = make_certificate("another authority")
    issuer = make_certificate("identity.linkerd.cluster.local", names=["identity.linkerd.cluster.local"], issuer=other)
    left = {"linkerd-identity-issuer": issuer}
    for webhook in CONTROL_PLANE:
        host = f"{webhook.service}.linkerd.svc"
        left[webhook.secret] = make_certificate(host, names=[host], issuer=other, ca=False, key_cert_sign=False)
    with waiting.client() as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": "linkerd"}}).raise_for_status()
        for name, pair in left.items():
            texts = {"tls.crt": pair.pem, "tls.key": pair.key_pem, "ca.crt": other.pem}
            data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
            body = {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}
            api.post("/api/v1/namespaces/linkerd/secrets", json=body).raise_for_status()
    goes_on(live, waiting)
    [authority] = read_bundle(live.project.outputs()["webhooks"]["caBundle"])
    for certificate in served(waiting).values():
        certificate.verify_directly_issued_by(authority)


def test_no_handshake_fails_as_cert_manager_replaces_the_first_issuer_and_no_key_is_kept_of_it(live, waiting):
    waiting.set_waiting_times(NO_CONTROLLER)
    with running(live.project, *UP) as engine:
        wait_until(lambda: is_control_plane_ready(waiting) and is_injected(waiting), 300)
        make_workloads(waiting, "shop", 2)
        wait_for_proxies(waiting, 2, 60)
        first = content(get(waiting, ISSUER_SECRET))
        keys = [first["tls.key"], *(content(get(waiting, secret_of(each)))["tls.key"] for each in CONTROL_PLANE)]
        before, since = read_handshakes(waiting), datetime.now(UTC)
        waiting.set_waiting_times(TIMES)
        assert engine.wait(300) == 0
    assert live.issuer_chain()[0] != read_bundle(first["tls.crt"])[0]
    assert mesh.wait_event(waiting, "IssuerUpdated", since=since, timeout_seconds=60)
    # A leaf of the new issuer joins those of the first.
    make_workloads(waiting, "shop", 3)
    wait_for_proxies(waiting, 3, 60)
    wait_until(lambda: read_handshakes(waiting).attempted > before.attempted + 50, 60)
    after = read_handshakes(waiting)
    assert (after.failed, after.refused_leaves) == (before.failed, 0), after.failures
    assert before.failed == 0, before.failures
    search = KeySearch(keys)
    search.check(kept_and_shown(live.project, waiting))
    decrypted = live.project.capture("stack", "export", "--show-secrets").stdout
    assert "PRIVATE KEY" in decrypted, "the anchor's"
    assert search.find_known(decrypted) is None
    with waiting.client() as api:
        api.delete("/api/v1/namespaces/shop").raise_for_status()


def secret_of(webhook):
    return f"/api/v1/namespaces/linkerd/secrets/{webhook.secret}"
