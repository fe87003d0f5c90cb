"""A first deployment where `linkerd install` has made a mesh: a goal of the stack's own is reached by runs alone."""

import base64
import json

import pytest

from meshtrust.linkerd.cli_install import KEPT
from meshtrust.pki.pem import fingerprint, read_bundle
from rehearsal.mesh.traffic import read_handshakes
from tests.rehearsal.linkerd_install import install_by_the_cli
from tests.rehearsal.rotation_bench import bench
from tests.rehearsal.test_reconcile import RESTARTING, run_until_converged
from tests.rehearsal.test_runbook import ROOTS

pytestmark = pytest.mark.soak

GOAL = {"anchors": ["own"], "signer": "own", "rotation": RESTARTING}
SECRET = ("get", "secret", "linkerd-identity-issuer", "-n", "linkerd", "-o", "json")


@pytest.fixture(scope="module")
def installed():
    with bench("present", GOAL, workloads=4, replicas=2, deploy=install_by_the_cli) as made:
        yield made


def secret_of(mesh):
    found = json.loads(mesh.kubectl(*SECRET))
    return found["type"], {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def test_a_mesh_that_is_there_is_led_to_the_goal_by_runs_alone_and_no_handshake_fails(installed):
    [root] = read_bundle(installed.kubectl(*ROOTS))
    existing = f"existing-{fingerprint(root)[:8]}"
    objects = ("get", "deploy,secret,cm", "-n", "linkerd", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
    before = installed.kubectl(*objects)
    previewed = installed.engine("preview", "--non-interactive")
    written = " ".join((previewed.stdout + previewed.stderr).split())
    assert previewed.returncode == 0, written
    assert f"has a mesh, with anchors {existing}, signer {existing}. This run takes it over" in written
    assert f"Later runs switch the signer to own, then retire {existing}" in written
    assert installed.kubectl(*objects) == before, "a preview changes nothing"

    # A run in mode step does as it did: a goal that would drop a root in one run is refused.
    assert "It is not safe yet to deploy with own" in installed.refused()

    _, issuer = secret_of(installed)
    installed.up()
    outputs = installed.outputs()
    assert (outputs["anchors"], outputs["signer"]) == ([existing, "own"], existing)
    assert (outputs["rotation"]["next"], outputs["issuer"]) == ("switch-own", {"mode": "external-secret"})
    bundle = read_bundle(installed.kubectl(*ROOTS))
    assert root in bundle
    assert len(bundle) == 2
    kind, now = secret_of(installed)
    assert (kind, now["tls.crt"], now["tls.key"]) == ("kubernetes.io/tls", issuer["crt.pem"], issuer["key.pem"])
    assert KEPT not in installed.kubectl("get", "secrets", "-n", "linkerd", "-o", "name")

    assert run_until_converged(installed, most=4) == ["switch", "retire"]
    outputs = installed.outputs()
    assert (outputs["anchors"], outputs["signer"]) == (["own"], "own")
    assert [entry["step"] for entry in outputs["transitions"]] == ["deploy", "switch", "retire"]
    assert root not in read_bundle(installed.kubectl(*ROOTS))
    result = installed.engine("up", "--yes", "--skip-preview", "--non-interactive", "--expect-no-changes")
    assert result.returncode == 0, result.stdout
    assert installed.failed() == 0
    assert read_handshakes(installed.cluster).succeeded > 100
