"""The runbook's rehearsed pages: their commands run as they stand there, and show what they are said to."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from meshtrust.pki.pem import read_bundle
from rehearsal.mesh.traffic import read_handshakes, wait_for_proxies
from rehearsal.observe import Observer
from rehearsal.workspace import REPOSITORY
from tests.certificates import Pair, make_certificate
from tests.rehearsal import ending_tls
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.follower import Follower, section_of, steps
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.linkerd_install import install_by_the_cli
from tests.rehearsal.rotation_bench import APPLICATIONS, bench
from tests.rehearsal.stack import UP

pytestmark = pytest.mark.soak

PAGE = (REPOSITORY / "docs" / "runbook.md").read_text()
WORKLOADS = 2
SIGNED = {"signer": "2026"}
ROOTS = ("get", "configmap", "linkerd-identity-trust-roots", "-n", "linkerd", "-o", r"jsonpath={.data.ca-bundle\.crt}")
# Long enough for the mesh to be up before.
ANCHOR_SECONDS = 150


def page(heading):
    """The commands of a page of the runbook, which says that it is rehearsed."""
    section = section_of("runbook.md", heading)
    assert "*Rehearsed.*" in section
    return steps(section)


@pytest.fixture(scope="module")
def mesh():
    with bench("runbook", SIGNED, workloads=WORKLOADS, replicas=1) as made:
        yield made


@pytest.fixture
def follower(mesh):
    return Follower(mesh)


def end_the_issuer(mesh):
    """Take cert-manager away, and let the issuer in the Secret be one that has ended."""
    Follower(mesh).follow([("kubectl scale deployment cert-manager -n cert-manager --replicas 0", "")])
    secrets = "/api/v1/namespaces/linkerd/secrets"
    observer = Observer(mesh.cluster)
    with mesh.cluster.client() as api:
        ca = content(api.get(f"{secrets}/linkerd-issuer-ca-2026").json())
        issuer = make_certificate(
            "identity.linkerd.cluster.local", issuer=Pair.of(ca["tls.crt"], ca["tls.key"]), path_length=0, days=0
        )
        wait_until(lambda: issuer.certificate.not_valid_after_utc < datetime.now(UTC))
        patch = {"stringData": {"tls.crt": f"{issuer.pem}{ca['tls.crt']}", "tls.key": issuer.key_pem}}
        api.patch(
            f"{secrets}/linkerd-identity-issuer", json=patch, headers={"Content-Type": "application/merge-patch+json"}
        ).raise_for_status()
    assert observer.secret_certificate("linkerd", "linkerd-identity-issuer") == issuer.certificate


def test_an_expired_issuer(mesh, follower):
    seen, cured, well = page("An expired issuer")
    end_the_issuer(mesh)
    follower.follow(seen)
    follower.follow(cured)
    wait_until(lambda: "identity issuer" not in mesh.cli("verify").stdout, 90)
    follower.follow(well)


def test_a_compromised_anchor(mesh, follower):
    out, well = page("A compromised anchor")
    follower.follow(out)
    wait_for_proxies(mesh.cluster, WORKLOADS, 60)
    follower.follow(well)
    outputs = mesh.outputs()
    assert (outputs["anchors"], outputs["signer"]) == (["2027"], "2027")
    trail = [(step["step"], step["gate"], step.get("reason")) for step in outputs["transitions"]]
    assert trail[-3:] == [("introduce", "none", None), ("switch", "warned", None), ("retire", "warned", None)]
    with mesh.cluster.client() as api:
        pods = api.get(f"/api/v1/namespaces/{APPLICATIONS}/pods").json()["items"]
    assert len(pods) == WORKLOADS


@pytest.fixture(scope="module")
def ending():
    """A mesh whose one anchor ends while it is at work, protected as a made stack has it."""

    def deploy_with_a_root_that_ends(made):
        ending_tls.install(made.project.home)
        environment = {**made.project.environment, "ENDING_SECONDS": str(ANCHOR_SECONDS)}
        replace(made, project=replace(made.project, environment=environment)).up()

    # Under a root that ends within the hour no intermediate is signed.
    settings = {**SIGNED, "anchor": {"protect": True}, "issuer": {"mode": "anchor"}}
    with bench("ending", settings, workloads=WORKLOADS, replicas=1, deploy=deploy_with_a_root_that_ends) as made:
        yield made


def restart_everything(mesh):
    """Delete the pods of the mesh and of its control plane, as where all nodes go down."""
    with mesh.cluster.client() as api:
        for namespace in ("linkerd", APPLICATIONS):
            api.delete(f"/api/v1/namespaces/{namespace}/pods").raise_for_status()


def _is_down(mesh):
    """No pod has a proxy that got a certificate, and the identity service does not start."""
    with mesh.cluster.client() as api:
        identity = api.get("/apis/apps/v1/namespaces/linkerd/deployments/linkerd-identity").json()
    return read_handshakes(mesh.cluster).proxies == 0 and not identity["status"].get("readyReplicas")


def test_an_expired_anchor(ending):
    follower = Follower(ending)
    seen, cured, well = page("An expired anchor")
    [root] = read_bundle(ending.outputs()["trustAnchors"])
    assert root.not_valid_after_utc > datetime.now(UTC), "the mesh was at work before"
    wait_until(lambda: root.not_valid_after_utc < datetime.now(UTC), ANCHOR_SECONDS)
    restart_everything(ending)
    wait_until(lambda: _is_down(ending), 60)
    follower.follow(seen)
    planned = json.loads(ending.ok("plan", "--to", "2027", "--json"))
    assert [(step["step"], step["generations"]) for step in planned["steps"]] == [("replace", ["2027"])]
    follower.follow(cured)
    wait_for_proxies(ending.cluster, WORKLOADS, 60)
    follower.follow(well)
    mended = ending.failed()
    handshakes = read_handshakes(ending.cluster).succeeded
    wait_until(lambda: read_handshakes(ending.cluster).succeeded > handshakes + 20, 60)
    assert ending.failed() == mended
    assert ending.outputs()["transitions"][-1]["step"] == "replace"


@pytest.fixture(scope="module")
def lost():
    """A mesh whose stack is lost."""
    with bench("lost", SIGNED, workloads=WORKLOADS, replicas=1) as made:
        yield made


def test_a_lost_key(lost):
    follower = Follower(lost)
    issued, rotated = page("A lost key")
    [root] = read_bundle(lost.outputs()["trustAnchors"])
    before = lost.failed()
    follower.follow(issued)
    assert read_bundle(lost.outputs()["trustAnchors"]) == [root], "nothing that is trusted has changed"
    follower.follow(rotated)
    wait_for_proxies(lost.cluster, WORKLOADS, 60)
    assert lost.failed() == before
    assert (lost.outputs()["anchors"], lost.outputs()["issuer"]["mode"]) == (["2027"], "intermediate")
    result = lost.engine(*UP, "--expect-no-changes")
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def restored():
    """A mesh that has gone through a rotation, and a stack whose state was restored from before it."""
    with bench("restored", SIGNED, workloads=WORKLOADS, replicas=1) as made:
        before = made.engine("stack", "export").stdout
        made.ok("rotate", "--to", "2027")
        made.engine("stack", "import", "--force", stdin=before)
        yield made


def test_a_state_from_before_a_rotation(restored):
    """The way out is that of a lost key, under the generation that signs in the cluster."""
    follower, failed = Follower(restored), restored.failed()
    [root] = read_bundle(restored.kubectl(*ROOTS))
    restored.configure(anchors=["2026"], signer="2026")
    written = " ".join(restored.refused().split())
    assert "The cluster is ahead of this stack's state" in written
    assert "set the stack up again with the root that signs in the cluster" in written
    restored.configure(anchors=["2027"], signer="2027")
    again, _ = page("A lost key")
    follower.follow([(line.replace("2026", "2027"), shown) for line, shown in again])
    assert read_bundle(restored.outputs()["trustAnchors"]) == [root], "nothing that is trusted has changed"
    assert restored.failed() == failed


@pytest.fixture(scope="module")
def installed():
    """A mesh that `linkerd install` has made, and a stack that was never deployed."""
    with bench("cli", workloads=WORKLOADS, replicas=1, deploy=install_by_the_cli) as made:
        yield made


def test_linkerd_installed_by_the_cli(installed):
    follower = Follower(installed)
    taken_over, rotated = page("Linkerd installed by the CLI")
    [root] = read_bundle(installed.kubectl(*ROOTS))
    assert "docs/runbook.md, Linkerd installed by the CLI" in " ".join(installed.refused().split())
    follower.follow(taken_over)
    assert read_bundle(installed.outputs()["trustAnchors"]) == [root], "nothing that is trusted has changed"
    result = installed.engine(*UP, "--expect-no-changes")
    assert result.returncode == 0, result.stdout
    follower.follow(rotated)
    wait_for_proxies(installed.cluster, WORKLOADS, 60)
    assert root not in read_bundle(installed.kubectl(*ROOTS))
    assert read_handshakes(installed.cluster).succeeded > 0
    assert installed.failed() == 0


def test_a_page_that_is_rehearsed_is_tested_here():
    rehearsed = re.findall(r"(?m)^## (.*)\n\n\*Rehearsed\.\*", PAGE)
    tested = ["An expired issuer", "A compromised anchor", "An expired anchor", "A lost key"]
    assert rehearsed == [*tested, "Linkerd installed by the CLI"]


def test_a_command_of_a_page_is_one_that_there_is():
    """Of pages that are not rehearsed, too."""
    named = set(re.findall(r"meshtrust ([a-z]+) --", PAGE))
    reference = (REPOSITORY / "docs" / "commands.md").read_text()
    assert named
    assert named <= set(re.findall(r"(?m)^## meshtrust ([a-z]+)$", reference))
