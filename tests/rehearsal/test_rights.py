"""The rights in deploy/rbac are enough for the commands they are for, and a missing right is named with its use."""

import json
import re
import subprocess
import sys

import pytest

from meshtrust.pki.pem import fingerprint
from rehearsal.observe import Observer
from rehearsal.workspace import REPOSITORY
from tests.rehearsal.rights import PATHS, grant, without, write_kubeconfig
from tests.rehearsal.rotation_bench import bench

pytestmark = pytest.mark.soak

# What `meshtrust rotate` does of a step before it deploys: all that it does with rights of its own.
PREPARE = """
import asyncio, sys
from pathlib import Path
from meshtrust.commands.display.renderers import JsonRenderer
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.progress import StackProgress
from meshtrust.stacks.rotator import RotationOptions, next_step, restart_until_safe
from meshtrust.stacks.target import Selection, open_target

async def run(stack, directory, kubeconfig, to):
    target = await open_target(Selection(stack=stack, directory=Path(directory), kubeconfig=kubeconfig))
    progress = StackProgress(stack, JsonRenderer().show, EngineLogs())
    await restart_until_safe(target, next_step(target, to), RotationOptions(), progress)

asyncio.run(run(*sys.argv[1:]))
"""


class Account:
    """A service account with the rights of deploy/rbac, and a kubeconfig that is its own."""

    def __init__(self, mesh, name, directory):
        self._mesh = mesh
        self.kubeconfig = write_kubeconfig(mesh.cluster, name, directory)

    def cli(self, *arguments):
        """Run a command on the stack as this account, and leave the stack's file as it was."""
        file = self._mesh.file
        before = file.read_text()
        self._mesh.configure(kubeconfig=str(self.kubeconfig))
        try:
            return self._mesh.cli(*arguments)
        finally:
            file.write_text(before)

    def prepare(self, to):
        """Bring the cluster to where the next step of a rotation is safe, as this account."""
        project = self._mesh.project
        result = subprocess.run(
            [sys.executable, "-c", PREPARE, project.stack, str(project.directory), str(self.kubeconfig), to],
            env=self._mesh.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]

    def without(self, kind, name, resource):
        """Take away the rule about a resource meanwhile."""
        return without(self._mesh.cluster, kind, name, resource)


@pytest.fixture(scope="module")
def mesh():
    with bench("rights", workloads=2, replicas=1) as made, made.cluster.client() as api:
        for file in ("read-only.yaml", "operator.yaml"):
            grant(api, file)
        yield made


@pytest.fixture(scope="module")
def reader(mesh, tmp_path_factory):
    return Account(mesh, "read-only", tmp_path_factory.mktemp("accounts"))


@pytest.fixture(scope="module")
def operator(mesh, tmp_path_factory):
    return Account(mesh, "operator", tmp_path_factory.mktemp("accounts"))


@pytest.mark.parametrize(
    "command",
    [["status", "--json"], ["verify", "--json"], ["plan", "--to", "next"], ["chain", "--json"], ["export"]],
    ids=lambda command: command[0],
)
def test_the_rights_to_read_are_enough_for_what_only_reads(reader, command):
    result = reader.cli(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "forbidden" not in result.stdout
    if command[0] == "verify":
        assert json.loads(result.stdout)["findings"] == []


def test_a_reader_sees_each_new_issuer_and_may_read_no_secret(mesh, reader):
    observer = Observer(mesh.cluster)
    old = observer.secret_certificate("linkerd", "linkerd-identity-issuer")
    observer.renew_certificate("linkerd", "linkerd-identity-issuer")
    new = observer.wait_for_another("linkerd", "linkerd-identity-issuer", old, 60)
    seen = json.loads(reader.cli("status", "--json").stdout)["issuer"]
    assert seen["fingerprint"] == fingerprint(new)
    assert seen == json.loads(mesh.cli("status", "--json").stdout)["issuer"]
    with mesh.cluster.client() as api:
        for verb in ("get", "list", "watch"):
            attributes = {
                "namespace": "linkerd",
                "resource": "secrets",
                "verb": verb,
                "name": "linkerd-identity-issuer",
            }
            spec = {"user": "system:serviceaccount:linkerd:meshtrust-read-only", "resourceAttributes": attributes}
            path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            answer = api.post(path, json={"spec": spec})
            assert answer.is_success, answer.text
            assert not answer.json()["status"]["allowed"]


def test_where_cert_manager_tells_nothing_the_right_to_the_secret_is_enough(mesh, reader):
    with mesh.cluster.client() as api, reader.without("Role", "meshtrust-read-only", "certificaterequests"):
        grant(api, "issuer-secret.yaml")
        try:
            result = reader.cli("status", "--json")
        finally:
            for kind in ("Role", "RoleBinding"):
                api.delete(f"{PATHS[kind]}/meshtrust-issuer-secret").raise_for_status()
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["issuer"]


def test_the_rights_to_read_change_nothing(reader):
    result = reader.cli("rotate", "--to", "next", "--step")
    assert result.returncode == 3
    assert "forbidden" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("kind", "resource", "message"),
    [
        ("ClusterRole", "namespaces", "The namespace kube-system, whose UID identifies the cluster, cannot be read"),
        ("ClusterRole", "pods", "The list of pods cannot be read"),
        # Both that are read are asked for at once.
        ("Role", "configmaps", "The ConfigMap linkerd/linkerd-(identity-trust-roots|config) cannot be read"),
        ("Role", "certificaterequests", "the right to list certificates and certificaterequests is enough"),
    ],
)
def test_a_right_less_is_told_by_what_cannot_be_read(reader, kind, resource, message):
    with reader.without(kind, "meshtrust-read-only", resource):
        result = reader.cli("status")
    assert result.returncode == 3
    assert re.search(message, result.stderr)
    assert "Give these credentials the right to do so." in result.stderr
    assert "Traceback" not in result.stderr


def test_without_port_forward_the_served_issuer_is_a_warning_that_names_the_right(reader):
    with reader.without("Role", "meshtrust-read-only", "pods/portforward"):
        result = reader.cli("verify", "--json")
    assert result.returncode == 0, result.stderr
    findings = json.loads(result.stdout)["findings"]
    assert findings
    for finding in findings:
        assert finding["severity"] == "warning"
        assert "create pods/portforward" in finding["fix"]


def test_the_rights_of_an_operator_are_enough_to_heal(mesh, operator, missed_reload):
    assert missed_reload
    healed = operator.cli("heal")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert "every replica signs with the issuer in the Secret now" in healed.stdout
    assert mesh.cli("verify").returncode == 0


@pytest.fixture
def missed_reload(mesh):
    """An issuer that the identity service has not taken over."""
    with mesh.cluster.client() as api:
        path = "/api/v1/namespaces/linkerd/pods"
        [pod] = api.get(path, params={"labelSelector": "linkerd.io/control-plane-component=identity"}).json()["items"]
        api.patch(
            f"{path}/{pod['metadata']['name']}",
            json={"metadata": {"annotations": {"rehearsal.meshtrust.io/misses-reload": "true"}}},
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()
    observer = Observer(mesh.cluster)
    old = observer.secret_certificate("linkerd", "linkerd-identity-issuer")
    observer.renew_certificate("linkerd", "linkerd-identity-issuer")
    return observer.wait_for_another("linkerd", "linkerd-identity-issuer", old, 60)


def test_without_the_right_to_restart_a_heal_says_so(operator, missed_reload):
    assert missed_reload
    with operator.without("ClusterRole", "meshtrust-operator", "deployments"):
        result = operator.cli("heal")
    assert result.returncode == 3
    assert "The Deployment linkerd/linkerd-identity cannot be changed" in result.stderr
    assert "Give these credentials the right to do so." in result.stderr
    assert operator.cli("heal").returncode == 0


def test_the_rights_of_an_operator_are_enough_for_what_a_rotation_does_between_deployments(mesh, operator):
    mesh.ok("rotate", "--to", "2027", "--step")
    restarted = [event["workload"] for event in operator.prepare("2027") if event.get("done")]
    assert len(restarted) == 2
    mesh.ok("rotate", "--to", "2027", "--step")
    assert [event for event in operator.prepare("2027") if event.get("done")]
    assert json.loads(mesh.ok("plan", "--to", "2027", "--json"))["blockers"] == []
    mesh.ok("rotate", "--to", "2027")
    assert mesh.outputs()["anchors"] == ["2027"]
    assert mesh.failed() == 0
