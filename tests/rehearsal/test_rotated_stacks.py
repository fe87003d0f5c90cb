"""Stacks other than the default: each goes through a rotation under load, and records no step that it left out."""

import shutil
from datetime import UTC, datetime

import pytest

from meshtrust.names import TRUST_ROOTS
from meshtrust.pki.chain import find_chain
from meshtrust.pki.pem import fingerprint, read_bundle
from rehearsal.cluster import ensure
from rehearsal.mesh.traffic import read_handshakes, wait_for_proxies
from tests.certificates import make_certificate
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.live_stack import ISSUER_SECRET, get
from tests.rehearsal.rotation_bench import APPLICATIONS, Bench, bench
from tests.rehearsal.stack import NO_CHANGES, UP, charts_of_linkerd
from tests.rehearsal.test_kept_roots import trusted
from tests.rehearsal.test_modes import external, make_cluster_issuer

pytestmark = pytest.mark.soak

WORKLOADS, REPLICAS = 3, 2


def rotate(mesh, to):
    """Rotate by the command, which restarts what it has to, and see that no handshake fails."""
    before = read_handshakes(mesh.cluster)
    mesh.ok("rotate", "--to", to)
    wait_for_proxies(mesh.cluster, WORKLOADS * REPLICAS, 60)
    after = read_handshakes(mesh.cluster)
    assert mesh.outputs()["anchors"] == [to]
    assert_recorded(mesh)
    assert after.attempted > before.attempted
    assert (after.failed, after.refused_leaves) == (before.failed, before.refused_leaves), after.failures[-3:]


def assert_recorded(mesh):
    """See that the outputs say what the cluster has: its bundle, and the signer of its issuer."""
    outputs = mesh.outputs()
    assert trusted(mesh.cluster) == {root["fingerprint"] for root in outputs["roots"].values()}
    roots = {fingerprint(root): root for root in read_bundle(outputs["trustAnchors"])}
    signer = roots[outputs["roots"][outputs["signer"]]["fingerprint"]]
    assert find_chain(read_bundle(content(get(mesh.cluster, ISSUER_SECRET))["tls.crt"]), [signer], datetime.now(UTC))


def unchanged(mesh):
    result = mesh.engine(*UP, *NO_CHANGES)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_mesh_in_high_availability_rotates_after_its_stack_was_renamed():
    linkerd = {"charts": str(charts_of_linkerd()), "ha": True}
    with bench("available", {"linkerd": linkerd}, workloads=WORKLOADS, replicas=REPLICAS) as mesh:
        rename(mesh, "renamed")
        before, roots = mesh.outputs(), trusted(mesh.cluster)
        mesh.up()
        unchanged(mesh)
        after = mesh.outputs()
        assert (after["roots"], trusted(mesh.cluster)) == (before["roots"], roots)
        mesh.ok("rotate", "--to", "2027", "--step")
        write_bundle_again(mesh)
        rotate(mesh, "2027")
        rename(mesh, "dev")


def rename(mesh, name):
    """Rename the stack, its file too if the CLI leaves that to its owner."""
    result = mesh.engine("stack", "rename", name)
    assert result.returncode == 0, result.stderr
    named = mesh.file
    mesh.project = mesh.project.of(name)
    if not mesh.file.exists():
        shutil.move(named, mesh.file)


def write_bundle_again(mesh):
    """Take the times of its changes off the bundle, and do what the refusal of the next step says of that."""
    mesh.kubectl("patch", "configmap", TRUST_ROOTS, "-n", "linkerd", "-p", '{"metadata": {"managedFields": [{}]}}')
    mesh.configure(anchors=["2026", "2027"], signer="2027")
    unknown = f"when ConfigMap linkerd/{TRUST_ROOTS} last changed is not in its metadata.managedFields"
    assert unknown in " ".join(mesh.refused().split())
    held = mesh.kubectl("-n", "linkerd", "get", "configmap", TRUST_ROOTS, "-o", "yaml")
    mesh.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=held)
    written = " ".join(mesh.refused().split())
    assert unknown not in written
    assert "its program was started before the bundle last changed" in written


def test_a_mesh_whose_bundle_trust_manager_publishes_rotates():
    published = {"mode": "trust-manager", "charts": str(ensure().charts)}
    with bench("published", {"trustBundle": published}, workloads=WORKLOADS, replicas=REPLICAS) as mesh:
        rotate(mesh, "2027")
        unchanged(mesh)


# The owner's roots, where issuers of others sign the mesh's.
OWNED = {name: make_certificate(f"root {name} of the owner", days=3650) for name in ("2026", "2027")}


def declare(mesh, mode, anchors, signer):
    """Declare anchors and signer, and in mode external-issuer where each is from."""
    mesh.configure(anchors=anchors, signer=signer)
    if mode == "external-issuer":
        certificates = {name: OWNED[name].pem for name in anchors}
        issuer = external(**{name: f"issuer-{name}" for name in anchors})
        mesh.configure(anchorCertificates=certificates, issuer=issuer)


def deploy_external_issuers(mesh: Bench):
    """Have an issuer of others sign under the generation 2026, and another one be there for 2027."""
    mesh.configure(anchors=["first"], signer="first")
    mesh.up()
    for name, root in OWNED.items():
        make_cluster_issuer(mesh.cluster, f"issuer-{name}", root)
    declare(mesh, "external-issuer", ["2026"], "2026")
    mesh.ok("rotate", "--to", "2026")


# Runs that leave out a part of a step: nearly all, the issuer of the mesh, what Linkerd is deployed with.
PARTIAL = (
    ("--target", "**linkerd-namespace"),
    ("--exclude", "**identity-issuer**"),
    ("--exclude", "**linkerd-control-plane"),
)


@pytest.mark.parametrize("mode", ["anchor", "external-issuer"])
def test_a_step_of_which_a_part_is_left_out_is_not_recorded(mode):
    settings = {"issuer": {"mode": mode}} if mode == "anchor" else {}
    deploy = Bench.up if mode == "anchor" else deploy_external_issuers
    with bench(mode, settings, workloads=WORKLOADS, replicas=REPLICAS, deploy=deploy) as mesh:
        mesh.configure(rotation={"mode": "step"})
        declare(mesh, mode, ["2026", "2027"], "2026")
        mesh.up()
        for anchors in (["2026", "2027"], ["2027"]):
            restart(mesh)
            declare(mesh, mode, anchors, "2027")
            leave_out(mesh)
            mesh.up()
            assert_recorded(mesh)
        assert mesh.outputs()["anchors"] == ["2027"]
        unchanged(mesh)
        assert mesh.failed() == 0


def restart(mesh):
    """Restart the control plane, and then every other workload with a proxy."""
    for namespace in ("linkerd", APPLICATIONS):
        mesh.kubectl("rollout", "restart", "deployment", "-n", namespace)
        mesh.kubectl("rollout", "status", "deployment", "-n", namespace, "--timeout=300s")


def leave_out(mesh):
    """Run the step with each part left out: what is recorded is what is in the cluster, or nothing is recorded."""
    before = mesh.outputs()
    for option in PARTIAL:
        result = mesh.engine(*UP, *option)
        written = result.stdout + result.stderr
        assert "It is not safe" not in written
        assert "Traceback" not in written
        if result.returncode:
            assert mesh.outputs() == before, written
        else:
            assert_recorded(mesh)
            before = mesh.outputs()
