"""Ways to fool a gate, played on thirty proxies that connect to each other all the time: refused, or without harm."""

import shutil
from dataclasses import replace

import pytest

from meshtrust.cluster.api import OFFLINE
from meshtrust.pki.pem import normalise_bundle, sha256_hex
from rehearsal.mesh.traffic import read_handshakes, wait_for_proxies
from tests.certificates import make_certificate
from tests.refusals import acknowledge, number_of
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.links import apply_link, install_links, remove_links
from tests.rehearsal.rotation_bench import APPLICATIONS, bench
from tests.rehearsal.stack import UP, charts_of_linkerd
from tests.rehearsal.test_kept_roots import State

pytestmark = pytest.mark.soak

CONFIG_MAPS = "/api/v1/namespaces/linkerd/configmaps"
BUNDLE = f"{CONFIG_MAPS}/linkerd-identity-trust-roots"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
EXTERNAL = "workload.linkerd.io"
MERGE = {"Content-Type": "application/merge-patch+json"}
OTHER = "linkerd-b"


@pytest.fixture(scope="module")
def mesh():
    with bench("evidence", workloads=10, replicas=3) as made:
        yield made


@pytest.fixture
def introduced(mesh, request):
    """The stack with two anchors, and their names; in the end the new one is alone, and no handshake has failed."""
    [old] = mesh.outputs()["anchors"]
    new = f"g{abs(hash(request.node.name)) % 10**8}"
    before = read_handshakes(mesh.cluster)
    mesh.ok("rotate", "--to", new, "--step")
    yield old, new
    mesh.configure(gate=None)
    mesh.ok("rotate", "--to", new)
    assert mesh.outputs()["anchors"] == [new]
    wait_for_proxies(mesh.cluster, 30, 60)
    after = read_handshakes(mesh.cluster)
    assert after.attempted > before.attempted
    assert (after.failed, after.refused_leaves) == (before.failed, before.refused_leaves), after.failures[-3:]


def control_plane_pod(api, component):
    selected = {"labelSelector": f"linkerd.io/control-plane-component={component}"}
    pods = api.get("/api/v1/namespaces/linkerd/pods", params=selected).json()["items"]
    [pod] = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return pod["metadata"]["name"]


def annotate(api, pod, **annotations):
    named = {f"rehearsal.meshtrust.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    path = f"/api/v1/namespaces/linkerd/pods/{pod}"
    api.patch(path, json={"metadata": {"annotations": named}}, headers=MERGE).raise_for_status()


def old_bundle(api):
    """The first root of the bundle alone, as it was before the introduction."""
    whole = api.get(BUNDLE).json()["data"]["ca-bundle.crt"]
    return whole.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----", whole


def switch(mesh, old, new, **gate):
    mesh.configure(anchors=[old, new], signer=new, gate=gate or None)


def restart_applications(mesh):
    mesh.kubectl("rollout", "restart", "deployment", "-n", APPLICATIONS)
    for number in range(1, 11):
        mesh.kubectl("rollout", "status", f"deployment/workload-{number:03}", "-n", APPLICATIONS, "--timeout=120s")


def test_a_proxy_that_restarted_while_the_bundle_was_cut_is_asked_and_not_believed(mesh, introduced):
    old, new = introduced
    restart_applications(mesh)
    with mesh.cluster.client() as api:
        cut, whole = old_bundle(api)
        api.patch(BUNDLE, json={"data": {"ca-bundle.crt": cut}}, headers=MERGE).raise_for_status()
        pod = control_plane_pod(api, "destination")
        annotate(api, pod, restart="while the bundle is cut")
        path = f"/api/v1/namespaces/linkerd/pods/{pod}"

        def has_restarted():
            status = api.get(path).json()["status"]
            entries = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
            [proxy] = [entry for entry in entries if entry["name"] == "linkerd-proxy"]
            return proxy["restartCount"] == 1 and proxy["ready"]

        wait_until(has_restarted, 60)
        api.patch(BUNDLE, json={"data": {"ca-bundle.crt": whole}}, headers=MERGE).raise_for_status()
    switch(mesh, old, new)
    written = mesh.refused()
    assert f"linkerd/{pod} (Deployment linkerd/linkerd-destination): its proxy does not trust {new}" in written


def test_an_injector_that_would_give_the_bundle_of_before_is_asked_and_restarted(mesh, introduced):
    old, new = introduced
    restart_applications(mesh)
    with mesh.cluster.client() as api:
        cut, _ = old_bundle(api)
        body = {"metadata": {"name": "bundle-of-before"}, "data": {"ca-bundle.crt": cut}}
        api.post(CONFIG_MAPS, json=body).raise_for_status()
        pod = control_plane_pod(api, "proxy-injector")
        annotate(api, pod, mounts_bundle="bundle-of-before")
    switch(mesh, old, new)
    assert f"linkerd/{pod} (Deployment linkerd/linkerd-proxy-injector): it would give a new pod other roots" in (
        mesh.refused()
    )


@pytest.fixture
def strangers(mesh, introduced):
    """Peers outside the mesh that trust the root, each by name, with the earlier roots."""
    old, new = introduced
    external = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"externalworkloads.{EXTERNAL}"},
        "spec": {
            "group": EXTERNAL,
            "scope": "Namespaced",
            "names": {"plural": "externalworkloads", "singular": "externalworkload", "kind": "ExternalWorkload"},
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            ],
        },
    }
    workload = {
        "apiVersion": f"{EXTERNAL}/v1beta1",
        "kind": "ExternalWorkload",
        "metadata": {"name": "vm-1", "namespace": APPLICATIONS},
        "spec": {"meshTLS": {"identity": "spiffe://cluster.local/vm-1", "serverName": "vm-1.cluster.local"}},
    }
    with mesh.cluster.client() as api:
        cut, _ = old_bundle(api)
        made = api.post(CRDS, json=external)
        path = f"/apis/{EXTERNAL}/v1beta1/namespaces/{APPLICATIONS}/externalworkloads"
        wait_until(lambda: api.get(path).is_success)
        api.post(path, json=workload).raise_for_status()
        proxy = {
            "name": "linkerd-proxy",
            "image": "example.com/proxy",
            "env": [{"name": "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "value": cut}],
        }
        idle = {
            "metadata": {"name": "idle"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "idle"}},
                "template": {
                    "metadata": {"labels": {"app": "idle"}},
                    "spec": {"containers": [{"name": "app", "image": "example.com/app"}, proxy]},
                },
            },
        }
        api.post(f"/apis/apps/v1/namespaces/{APPLICATIONS}/deployments", json=idle).raise_for_status()
        api.post("/api/v1/namespaces", json={"metadata": {"name": OTHER}}).raise_for_status()
        wait_until(lambda: api.get(f"/api/v1/namespaces/{OTHER}/serviceaccounts/default").is_success)
        theirs = {**proxy, "env": [*proxy["env"], {"name": "_l5d_ns", "value": OTHER}]}
        body = {
            "metadata": {"name": "theirs", "annotations": {"rehearsal.meshtrust.io/proxy": "none"}},
            "spec": {"containers": [{"name": "app", "image": "example.com/app"}, theirs]},
        }
        api.post(f"/api/v1/namespaces/{OTHER}/pods", json=body).raise_for_status()
    install_links(mesh.cluster)
    apply_link(mesh.cluster, "west")
    yield old, new
    remove_links(mesh.cluster)
    mesh.delete(f"/apis/apps/v1/namespaces/{APPLICATIONS}/deployments/idle")
    mesh.delete(f"/api/v1/namespaces/{OTHER}/pods/theirs")
    mesh.delete(f"{path}/vm-1")
    if made.is_success:
        mesh.delete(f"{CRDS}/externalworkloads.{EXTERNAL}")


def test_whoever_else_trusts_the_root_is_named_and_acknowledged_by_name(mesh, strangers):
    old, new = strangers
    restart_applications(mesh)
    # With the labels of the identity service and a forged annotation, as anyone may set them.
    mesh.run_pod("impostor")
    with mesh.cluster.client() as api:
        _, whole = old_bundle(api)
        labels = {"linkerd.io/control-plane-component": "identity"}
        annotations = {"linkerd.io/trust-root-sha256": sha256_hex(normalise_bundle(whole))}
        path = f"/api/v1/namespaces/{APPLICATIONS}/pods/impostor"
        api.patch(path, json={"metadata": {"labels": labels, "annotations": annotations}}, headers=MERGE)
    switch(mesh, old, new)
    written = mesh.refused()
    outside = (
        f"ExternalWorkload {APPLICATIONS}/vm-1",
        "Link linkerd-multicluster/west",
        f"Linkerd in namespace {OTHER}",
    )
    for subject in (*outside, f"Deployment {APPLICATIONS}/idle"):
        assert f"- {subject}: " in written, written
    assert "impostor" not in written
    given = acknowledge(written, "seen to by the test")
    assert set(given[f"switch-{new}"]) == set(outside)
    switch(mesh, old, new, acknowledged=given)
    written = mesh.refused()
    assert f"- Deployment {APPLICATIONS}/idle: its template holds roots without {new}" in written
    assert not [subject for subject in outside if f"- {subject}: " in written]
    mesh.delete(path)


def test_roots_of_others_and_pods_of_others_hold_nothing_up(mesh, introduced):
    """Another control plane in the cluster, under a root of its own."""
    _, new = introduced
    foreign = make_certificate("root.somewhere.else")
    proxy = {
        "name": "linkerd-proxy",
        "image": "example.com/proxy",
        "env": [
            {"name": "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "value": foreign.pem},
            {"name": "_l5d_ns", "value": "elsewhere"},
        ],
    }
    body = {
        "metadata": {"name": "foreign", "annotations": {"rehearsal.meshtrust.io/proxy": "none"}},
        "spec": {"containers": [{"name": "app", "image": "example.com/app"}, proxy]},
    }
    with mesh.cluster.client() as api:
        api.post("/api/v1/namespaces/default/pods", json=body).raise_for_status()
    planned = mesh.ok("plan", "--to", new)
    assert f"{APPLICATIONS}/workload-001" in planned
    assert "foreign" not in planned
    mesh.ok("rotate", "--to", new)
    mesh.delete("/api/v1/namespaces/default/pods/foreign")


def test_an_override_is_for_what_its_refusal_listed(mesh, introduced):
    old, new = introduced
    switch(mesh, old, new)
    number = number_of(mesh.refused())
    mesh.kubectl("rollout", "restart", "deployment/workload-001", "-n", APPLICATIONS)
    mesh.kubectl("rollout", "status", "deployment/workload-001", "-n", APPLICATIONS, "--timeout=120s")
    switch(mesh, old, new, overrides={f"switch-{new}": f"{number} it was safe on Monday"})
    assert "was given for another refusal, or was used already" in " ".join(mesh.refused().split())


def test_a_proxy_beside_an_init_container_that_never_ends_holds_a_retirement_up(mesh, introduced):
    old, new = introduced
    path = f"/api/v1/namespaces/{APPLICATIONS}/pods"
    body = {
        "metadata": {"name": "initialising", "annotations": {"rehearsal.meshtrust.io/initialising": "true"}},
        "spec": {
            "initContainers": [{"name": "migrate", "image": "example.com/app"}],
            "containers": [{"name": "app", "image": "example.com/app"}],
        },
    }
    with mesh.cluster.client() as api:
        api.post(path, json=body).raise_for_status()

        def status():
            return api.get(f"{path}/initialising").json()["status"]

        def serves():
            return any(
                entry["name"] == "linkerd-proxy" and entry["ready"]
                for entry in status().get("initContainerStatuses", [])
            )

        wait_until(serves, 60)
        assert status()["phase"] == "Pending"
        mesh.ok("rotate", "--to", new, "--step")
        result = mesh.cli("rotate", "--to", new)
        blocker = f"{APPLICATIONS}/initialising: its live certificate is not under the anchors that remain"
        assert (result.returncode, blocker in result.stdout + result.stderr) == (4, True), result.stdout + result.stderr
        mesh.configure(anchors=[new], signer=new)
        assert f"- {blocker}" in mesh.refused()
        assert mesh.outputs()["anchors"] == [old, new]
        assert status()["phase"] == "Pending"
        attempted, failed = read_handshakes(mesh.cluster).by_pod[f"{APPLICATIONS}/initialising"]
    assert attempted > 0
    assert failed == 0
    mesh.delete(f"{path}/initialising")


def test_no_chart_is_upgraded_in_the_run_of_a_switch(mesh, introduced, tmp_path):
    old, new = introduced
    restart_applications(mesh)
    copied = shutil.copytree(charts_of_linkerd(), tmp_path / "charts")
    switch(mesh, old, new)
    before = {"charts": str(charts_of_linkerd())}
    mesh.configure(linkerd={"charts": str(copied)})
    written = " ".join(mesh.refused().split())
    mesh.configure(linkerd=before)
    assert f"This run would switch the signer to {new}, and upgrade in the same run" in written
    assert "First deploy the upgrade alone" in written


def test_a_preview_that_asked_no_cluster_does_not_say_that_a_switch_is_safe(mesh, introduced):
    switch(mesh, *introduced)
    offline = replace(mesh.project, environment={**mesh.project.environment, OFFLINE: "1"})
    result = offline.capture("preview", "--non-interactive")
    written = " ".join((result.stdout + result.stderr).split())
    assert result.returncode == 0, written
    assert "no cluster was asked whether it is safe to switch the signer" in written
    assert "Everything is ready" not in written


def test_the_root_that_thirty_proxies_trust_is_not_made_again(mesh, introduced):
    old, _ = introduced
    with mesh.cluster.client() as api:
        before = api.get(BUNDLE).json()["data"]
    urn = State(mesh).urn(f"trust-anchor-{old}-key")
    for command in (("preview", "--non-interactive"), UP):
        result = mesh.engine(*command, "--target-replace", urn)
        written = " ".join((result.stdout + result.stderr).split())
        assert result.returncode != 0, written
        assert f'generation "{old}" has the root' in written
    with mesh.cluster.client() as api:
        assert api.get(BUNDLE).json()["data"] == before
