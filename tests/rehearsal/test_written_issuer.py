"""Thirty proxies under load and an issuer that others write: two issuers of one end, and roots that have ended."""

import base64
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from meshtrust.pki.pem import fingerprint
from rehearsal.mesh.traffic import read_handshakes
from tests.certificates import make_certificate
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.live_stack import write
from tests.rehearsal.rotation_bench import APPLICATIONS, Bench, bench
from tests.rehearsal.test_evidence import annotate, control_plane_pod
from tests.rehearsal.test_modes import ISSUER_SECRET, tls_secret

pytestmark = pytest.mark.soak

# Longer than a bench needs until its proxies have their certificates.
ENDS_AFTER_SECONDS = 420


def write_issuer(mesh, issuer, root):
    """Write the issuer without its root beside it, whose end would be that of each certificate that is issued."""
    secret = tls_secret("linkerd-identity-issuer", issuer, root)
    secret["data"]["tls.crt"] = base64.b64encode(issuer.pem.encode()).decode()
    write(mesh.cluster, ISSUER_SECRET, secret)


@contextlib.contextmanager
def written_bench(name, generation, root, issuer):
    """Have thirty proxies in a mesh whose issuer's Secret the test writes."""

    def deploy(made: Bench):
        with made.cluster.client() as api:
            api.post("/api/v1/namespaces", json={"metadata": {"name": "linkerd"}}).raise_for_status()
        write_issuer(made, issuer, root)
        made.up()

    settings = {
        "anchors": [generation],
        "anchorCertificates": {generation: root.pem},
        "issuer": {"mode": "external-secret"},
        "rotation": {"mode": "step"},
    }
    with bench(name, settings, workloads=10, replicas=3, deploy=deploy) as made:
        yield made


def restart(mesh, namespace=APPLICATIONS):
    mesh.kubectl("rollout", "restart", "deployment", "-n", namespace)
    mesh.kubectl("rollout", "status", "deployment", "-n", namespace, "--timeout=180s")


def test_a_replica_that_signs_with_another_issuer_of_the_same_end_is_told_apart():
    old, new = (make_certificate(f"the {name} root", days=3650) for name in ("old", "new"))
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)

    def issuer(root):
        made = make_certificate("identity.linkerd.cluster.local", issuer=root, not_after=end)
        assert made.certificate.not_valid_after_utc == end
        return made

    first, second = issuer(old), issuer(new)
    with written_bench("twins", "old", old, first) as mesh:
        certificates = {"old": old.pem, "new": new.pem}
        mesh.configure(anchors=["old", "new"], signer="old", anchorCertificates=certificates)
        mesh.up()
        restart(mesh)
        before = read_handshakes(mesh.cluster)
        with mesh.cluster.client() as api:
            pod = control_plane_pod(api, "identity")
            annotate(api, pod, misses_reload="true")
        write_issuer(mesh, second, new)
        mesh.configure(signer="new")
        mesh.up()
        restart(mesh)
        mesh.configure(anchors=["new"], anchorCertificates={"new": new.pem})
        written = mesh.refused()
        subject = f"linkerd/{pod} (Deployment linkerd/linkerd-identity)"
        assert f"- {subject}: which of two issuers with the same end it signs with cannot be seen" in written
        assert f"- {APPLICATIONS}/workload-001" in written
        mesh.configure(anchors=["old", "new"], anchorCertificates=certificates)
        mesh.ok("rotate", "--to", "new")
        after = read_handshakes(mesh.cluster)
        assert mesh.outputs()["anchors"] == ["new"]
        assert after.attempted > before.attempted
        assert (after.failed, after.refused_leaves) == (before.failed, before.refused_leaves), after.failures[-3:]


def test_anchors_that_have_ended_are_not_replaced_while_certificates_under_them_are_in_use():
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ENDS_AFTER_SECONDS)
    brief = make_certificate("a root that ends", not_after=end)
    issuer = make_certificate("identity.linkerd.cluster.local", issuer=brief, days=30)
    last = make_certificate("the next root", days=3650)
    with written_bench("ended", "brief", brief, issuer) as mesh:
        assert datetime.now(UTC) < end, "the bench took longer than its root lived"
        wait_until(lambda: datetime.now(UTC) > end, ENDS_AFTER_SECONDS)
        before = read_handshakes(mesh.cluster)
        write_issuer(mesh, make_certificate("identity.linkerd.cluster.local", issuer=last, days=30), last)
        mesh.configure(anchors=["last"], anchorCertificates={"last": last.pem})
        written = mesh.refused()
        assert "It is not safe yet to replace what has ended by last" in written
        assert f"- {APPLICATIONS}/workload-001" in written
        assert "its live certificate outlives the ended anchors until" in written
        assert [root["fingerprint"] for root in mesh.outputs()["roots"].values()] == [fingerprint(brief.certificate)]
        wait_until(lambda: read_handshakes(mesh.cluster).attempted > before.attempted + 300, 60)
        after = read_handshakes(mesh.cluster)
        assert (after.failed, after.refused_leaves) == (before.failed, before.refused_leaves), after.failures[-3:]
