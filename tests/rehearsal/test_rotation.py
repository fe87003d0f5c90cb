"""The trust anchor rotates under load; unsafe steps are refused, killed rotations continue, faults are reported."""

import asyncio
import base64
import io
import os
import random
import re
import subprocess
import uuid

import pytest
import yaml
from rich.console import Console

from meshtrust.linkerd.evidence import read_mesh
from rehearsal.cluster import ensure
from rehearsal.connection import connect
from rehearsal.mesh.traffic import read_handshakes, wait_for_proxies
from rehearsal.observe import Observer
from rehearsal.rehearse_rotation import RotationRehearsal
from tests.certificates import make_certificate
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.rotation_bench import APPLICATIONS, bench

# `make soak` has it killed more often.
KILLS = int(os.environ.get("MESHTRUST_KILLS", "5"))


@pytest.fixture(scope="module")
def mesh():
    with bench("rotation", workloads=5, replicas=2) as made:
        yield made


@pytest.fixture
def steady(mesh):
    """The stack with one anchor, whose name is new to every test, and no configuration but that."""
    mesh.configure(gate=None)
    mesh.ok("rotate", "--to", mesh.outputs()["anchors"][-1])
    [anchor] = mesh.outputs()["anchors"]
    return anchor


@pytest.fixture
def following():
    """A name that no generation has had."""
    return f"g{uuid.uuid4().hex[:8]}"


@pytest.mark.soak
@pytest.mark.parametrize("stack", ["dev", "vault"])
def test_fifty_proxies_live_through_a_rotation_and_no_handshake_fails(stack, linkerd_charts, tmp_path):
    """With the stack vault, from the root of one of Vault's PKI mounts to that of another."""
    console = Console(record=True, width=120, file=io.StringIO())
    picture = tmp_path / "rotation.svg"
    name = f"fifty-{os.getpid()}"
    RotationRehearsal(stack, console, linkerd_charts=linkerd_charts, picture=picture, name=name).run()
    text = console.export_text()
    assert "All of it held" in text
    [(handshakes, failed)] = re.findall(r"(\d+) handshakes, (\d+) failed \(", text)
    assert (int(handshakes) > 1000, failed) == (True, "0")
    assert "0 failed" in picture.read_text()


def test_without_the_gate_the_same_steps_break_handshakes(mesh, steady, following):
    """The control of the experiment: who switches before proxies trust the new anchor cuts them off."""
    mesh.configure(anchors=[steady, following], signer=steady, gate={"mode": "warn"})
    mesh.up()
    before = mesh.failed()
    mesh.configure(anchors=[steady, following], signer=following, gate={"mode": "warn"})
    assert "It is taken, because meshtrust:gate.mode is warn" in mesh.up()
    assert mesh.outputs()["transitions"][-1]["gate"] == "warned"
    with mesh.cluster.client() as api:
        api.delete(f"/api/v1/namespaces/{APPLICATIONS}/pods", params={"labelSelector": "app=workload-001"})
    wait_until(lambda: mesh.failed() > before)
    assert "UnknownIssuer" in str(read_handshakes(mesh.cluster).failures) or "certificate" in str(
        read_handshakes(mesh.cluster).failures
    )
    mesh.ok("abort")
    wait_for_proxies(mesh.cluster, 10, 60)


def test_what_blocks_a_switch_is_named_whatever_owns_it(mesh, steady, following):
    mesh.run_pod("bare")
    mesh.run_pod("ended", restartPolicy="Never")
    job = {
        "metadata": {"name": "long"},
        "spec": {
            "template": {
                "metadata": {"annotations": {"rehearsal.meshtrust.io/stays": "true"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "example.com/app"}]},
            }
        },
    }
    with mesh.cluster.client() as api:
        api.patch(
            f"/api/v1/namespaces/{APPLICATIONS}/pods/ended/status",
            json={"status": {"phase": "Succeeded"}},
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()
        api.post(f"/apis/batch/v1/namespaces/{APPLICATIONS}/jobs", json=job).raise_for_status()
        path, selected = f"/api/v1/namespaces/{APPLICATIONS}/pods", {"labelSelector": "job-name=long"}
        wait_until(
            lambda: [pod["status"]["phase"] for pod in api.get(path, params=selected).json()["items"]] == ["Running"]
        )
    mesh.configure(anchors=[steady, following], signer=steady)
    mesh.up()
    mesh.configure(anchors=[steady, following], signer=following)
    written = mesh.refused()
    assert f"It is not safe yet to switch the signer to {following}" in written
    assert f"{APPLICATIONS}/bare: its proxy does not trust {following}" in written
    assert f"(Job {APPLICATIONS}/long): its proxy does not trust {following}" in written
    assert f"(Deployment {APPLICATIONS}/workload-001): its proxy does not trust {following}" in written
    assert "ended" not in written, "a pod that has ended connects to nobody"

    blocked = mesh.cli("rotate", "--to", following)
    assert blocked.returncode == 4, blocked.stdout + blocked.stderr
    assert f"{APPLICATIONS}/bare" in blocked.stderr
    assert f"(Job {APPLICATIONS}/long)" in blocked.stderr
    assert "workload-001" not in blocked.stderr, "what a restart reaches was restarted"

    reason = "the bare pod is a test"
    mesh.configure(gate={"overrides": {f"switch-{following}": reason}})
    [number] = re.findall(rf'gate\.overrides\.switch-{following} "([0-9a-f]{{8}}) <reason>"', mesh.refused())
    mesh.configure(gate={"overrides": {f"switch-{following}": f"{number} {reason}"}})
    assert reason in mesh.up()
    entry = mesh.outputs()["transitions"][-1]
    assert (entry["step"], entry["gate"], entry["reason"]) == ("switch", "overridden", reason)
    mesh.delete(f"/api/v1/namespaces/{APPLICATIONS}/pods/bare")
    mesh.delete(f"/apis/batch/v1/namespaces/{APPLICATIONS}/jobs/long")
    mesh.delete(f"/api/v1/namespaces/{APPLICATIONS}/pods/ended")


def test_a_run_that_is_not_safe_waits_and_the_next_one_goes_on_until_the_goal_is_deployed(mesh, steady, following):
    before = mesh.failed()
    mesh.configure(anchors=[following], signer=following)
    mesh.up()
    assert (mesh.outputs()["anchors"], mesh.outputs()["signer"]) == ([steady, following], steady)
    reasons = {
        "switch": f"its proxy does not trust {following}",
        "retire": "its live certificate is not under the anchors that remain",
    }
    for step, reason in reasons.items():
        waiting = mesh.waits()
        report = mesh.outputs()["rotation"]
        assert report["next"] == f"{step}-{following if step == 'switch' else steady}"
        assert report["goal"] == {"anchors": [following], "signer": following}
        assert report["waitingFor"]["count"] >= len(report["waitingFor"]["first"]) == 5
        assert all(line in waiting for line in report["waitingFor"]["first"])
        assert "This run leaves anchors and signer as they are" in waiting
        assert f"(Deployment {APPLICATIONS}/workload-001): " in waiting
        assert reason in waiting
        for namespace in ("linkerd", APPLICATIONS):
            mesh.kubectl("rollout", "restart", "deployment", "-n", namespace)
            mesh.kubectl("rollout", "status", "deployment", "-n", namespace, "--timeout=120s")
        mesh.up()
        assert mesh.outputs()["transitions"][-1]["step"] == step
    assert (mesh.outputs()["anchors"], mesh.outputs()["signer"]) == ([following], following)
    assert mesh.outputs()["rotation"]["converged"]
    assert mesh.outputs()["rotation"]["waitingFor"] == {"count": 0, "first": []}
    assert mesh.failed() == before


def test_a_rotation_is_aborted_from_every_phase(mesh, steady, following):
    before = mesh.failed()
    nothing = mesh.cli("abort")
    assert (nothing.returncode, "No rotation is under way" in nothing.stderr) == (3, True)
    mesh.ok("rotate", "--to", following, "--step")
    assert mesh.status()["phase"] == "introduce"
    mesh.ok("abort")
    assert (mesh.outputs()["anchors"], mesh.outputs()["signer"]) == ([steady], steady)

    second = f"{following}-2"
    mesh.ok("rotate", "--to", second, "--step")
    mesh.ok("rotate", "--to", second, "--step")
    assert (mesh.status()["phase"], mesh.outputs()["signer"]) == ("switch", second)
    assert mesh.status()["issuerRoot"] == second
    mesh.ok("abort")
    assert (mesh.outputs()["anchors"], mesh.outputs()["signer"]) == ([steady], steady)
    assert mesh.status()["issuerRoot"] == steady
    assert mesh.failed() == before

    mesh.configure(anchors=[steady, following], signer=steady)
    assert f'generation "{following}" has been retired' in mesh.refused()
    mesh.configure(anchors=[steady], signer=steady)


@pytest.mark.soak
def test_a_rotation_goes_on_to_what_an_interrupted_abort_was_about_to_retire(mesh, steady, following):
    mesh.ok("rotate", "--to", following, "--step")
    mesh.configure(anchors=[steady], signer=steady)
    assert "is set back to what is deployed" in mesh.ok("rotate", "--to", following)
    assert mesh.outputs()["anchors"] == [following]
    assert following not in mesh.outputs()["retired"]


@pytest.mark.soak
def test_a_rotation_deploys_again_what_the_cluster_does_not_hold(mesh, steady, following):
    """A run that is killed leaves Helm to finish, and the stack's state with what was there before."""
    mesh.ok("rotate", "--to", following, "--step")
    place = ("--namespace", "linkerd", "--kubeconfig", str(mesh.cluster.kubeconfig), "--wait")
    subprocess.run([*ensure().helm, "rollback", "linkerd-control-plane", *place], check=True, capture_output=True)
    before = mesh.failed()
    assert "the cluster does not hold what is deployed" in mesh.ok("rotate", "--to", following)
    assert mesh.outputs()["anchors"] == [following]
    assert mesh.failed() == before
    assert steady in mesh.outputs()["retired"]


@pytest.mark.soak
def test_killed_at_random_moments_it_goes_on_or_back_and_no_handshake_fails(mesh, steady, following):
    chance = random.Random(20261124)  # noqa: S311 the moments, not a secret
    before, killed, target, number = mesh.failed(), 0, steady, 0
    while killed < KILLS:
        outputs = mesh.outputs()
        if target in outputs["retired"] or outputs["anchors"] == [target]:
            number += 1
            target = f"{following}-{number}"
        # Now and then it goes back instead.
        command = ["abort"] if len(outputs["anchors"]) > 1 and chance.random() < 0.2 else ["rotate", "--to", target]
        killed += mesh.kill_after(chance.uniform(0.5, 8), *command)
        # Who kills the real CLI has to take its lock away.
        mesh.engine("cancel", "--yes")
    if target in mesh.outputs()["retired"]:
        target = f"{following}-last"
    mesh.ok("rotate", "--to", target)
    assert mesh.outputs()["anchors"] == [target]
    assert mesh.failed() == before
    assert read_handshakes(mesh.cluster).refused_leaves == 0


def test_a_bundle_edited_by_hand_is_told_and_a_foreign_issuer_does_not_last(mesh, steady):
    assert mesh.cli("verify").returncode == 0
    path = "/api/v1/namespaces/linkerd/configmaps/linkerd-identity-trust-roots"
    merge = {"Content-Type": "application/merge-patch+json"}
    foreign = make_certificate("root.somewhere.else")
    with mesh.cluster.client() as api:
        kept = api.get(path).json()["data"]
        changed = {"data": {"ca-bundle.crt": f"{kept['ca-bundle.crt']}\n{foreign.pem}"}}
        api.patch(path, json=changed, headers=merge).raise_for_status()
        try:
            told = mesh.cli("verify")
            assert told.returncode == 1
            assert "is not what the stack deployed: it holds" in told.stdout
        finally:
            api.patch(path, json={"data": kept}, headers=merge).raise_for_status()

        secret = "/api/v1/namespaces/linkerd/secrets/linkerd-identity-issuer"
        issuer = make_certificate("identity.linkerd.cluster.local", issuer=foreign)
        texts = {"tls.crt": issuer.pem, "tls.key": issuer.key_pem, "ca.crt": foreign.pem}
        data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        api.patch(secret, json={"data": data}, headers=merge).raise_for_status()
        # cert-manager sees at once that it is not its own, and issues again.
        wait_until(lambda: mesh.cli("verify").returncode == 0, 60)
        served = mesh.status()
        assert served["issuerRoot"] == steady
        assert all(replica["current"] for replica in served["servedIssuers"].values())
    assert mesh.outputs()["anchors"] == [steady]


@pytest.mark.usefixtures("steady")
def test_an_identity_service_that_missed_a_reload_is_told_and_healed(mesh):
    with mesh.cluster.client() as api:
        selected = {"labelSelector": "linkerd.io/control-plane-component=identity"}
        [pod] = api.get("/api/v1/namespaces/linkerd/pods", params=selected).json()["items"]
        api.patch(
            f"/api/v1/namespaces/linkerd/pods/{pod['metadata']['name']}",
            json={"metadata": {"annotations": {"rehearsal.meshtrust.io/misses-reload": "true"}}},
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()
    observer = Observer(mesh.cluster)
    old = observer.secret_certificate("linkerd", "linkerd-identity-issuer")
    observer.renew_certificate("linkerd", "linkerd-identity-issuer")
    observer.wait_for_another("linkerd", "linkerd-identity-issuer", old, 60)
    told = mesh.cli("verify")
    assert told.returncode == 1
    assert "it has missed the reload" in told.stdout
    healed = mesh.cli("heal")
    assert healed.returncode == 0, healed.stderr
    assert mesh.cli("verify").returncode == 0
    assert "nothing was to do" in mesh.ok("heal")


@pytest.mark.usefixtures("steady")
def test_a_right_that_is_missing_is_named(mesh, tmp_path):
    """A reader without the right to read pods gets an error, and no step is checked without them."""
    kubeconfig = _limited(mesh.cluster, tmp_path)
    mesh.configure(kubeconfig=str(kubeconfig), context=mesh.cluster.context)
    try:
        told = mesh.cli("status")
        assert told.returncode == 3
        assert "The list of pods cannot be read" in told.stderr
        assert "Give these credentials the right" in told.stderr
        assert "Traceback" not in told.stderr
    finally:
        mesh.configure(kubeconfig=str(mesh.cluster.kubeconfig), context=mesh.cluster.context)


def _limited(cluster, tmp_path):
    with cluster.client() as api:
        api.post(
            "/api/v1/namespaces/default/serviceaccounts", json={"metadata": {"name": "limited"}}
        ).raise_for_status()
        role = {
            "metadata": {"name": "limited"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["namespaces", "configmaps", "secrets"],
                    "verbs": ["get", "list"],
                }
            ],
        }
        binding = {
            "metadata": {"name": "limited"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "limited"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "limited"}],
        }
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        api.post(f"{rbac}/clusterroles", json=role).raise_for_status()
        api.post(f"{rbac}/clusterrolebindings", json=binding).raise_for_status()
        token = api.post(
            "/api/v1/namespaces/default/serviceaccounts/limited/token", json={"spec": {}}
        ).raise_for_status()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token.json()["status"]["token"]}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


@pytest.mark.usefixtures("steady")
def test_a_stack_on_another_cluster_is_refused(mesh):
    mesh.configure(clusterUid="11111111-2222-3333-4444-555555555555")
    try:
        told = mesh.cli("status")
        assert told.returncode == 3
        assert "leads to cluster" in told.stderr
    finally:
        mesh.configure(clusterUid=None)


@pytest.mark.usefixtures("steady")
def test_a_look_outlasts_an_api_server_that_is_started_again(mesh):
    async def judge():
        api = await connect(mesh.cluster.context, str(mesh.cluster.kubeconfig))
        mesh.cluster.kill("kube-apiserver")
        return await read_mesh(api, "linkerd")

    assert asyncio.run(judge()).pods
    mesh.cluster.restart("kube-apiserver")
    wait_until(lambda: mesh.cli("verify").returncode == 0, 60)
