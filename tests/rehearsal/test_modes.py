"""Every way to have the identity issuer signed, on a real API server with real cert-manager controllers."""

import base64
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from meshtrust.pki.pem import fingerprint, read_bundle
from tests.certificates import make_certificate
from tests.rehearsal.issuer_watch import IssuerWatch
from tests.rehearsal.live_stack import get, names, write
from tests.rehearsal.stack import NO_CHANGES, UP

pytestmark = pytest.mark.soak

SECRETS = "/api/v1/namespaces/linkerd/secrets"
ISSUER_SECRET = f"{SECRETS}/linkerd-identity-issuer"
CERT_MANAGER = "/apis/cert-manager.io/v1"


def tls_secret(name, pair, *above):
    data = {"tls.crt": "".join([pair.pem, *(entry.pem for entry in above)]), "tls.key": pair.key_pem}
    if name == "linkerd-identity-issuer":
        data["ca.crt"] = above[-1].pem
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def write_issuer(cluster, root, **kind):
    issuer = make_certificate("identity.linkerd.cluster.local", issuer=root, **kind)
    write(cluster, ISSUER_SECRET, tls_secret("linkerd-identity-issuer", issuer, root))
    return issuer


def make_cluster_issuer(cluster, name, root):
    """An external issuer, which signs with an intermediate under a root."""
    intermediate = make_certificate(f"intermediate of {name}", issuer=root)
    write(cluster, f"/api/v1/namespaces/cert-manager/secrets/{name}", tls_secret(name, intermediate, root))
    issuer = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "ClusterIssuer",
        "metadata": {"name": name},
        "spec": {"ca": {"secretName": name}},
    }
    write(cluster, f"{CERT_MANAGER}/clusterissuers/{name}", issuer)
    deadline = time.monotonic() + 30
    while not any(
        entry["type"] == "Ready" and entry["status"] == "True"
        for entry in get(cluster, f"{CERT_MANAGER}/clusterissuers/{name}").get("status", {}).get("conditions", [])
    ):
        assert time.monotonic() < deadline, "the ClusterIssuer never became ready"
        time.sleep(0.1)
    return intermediate


def external(**refs):
    return {
        "mode": "external-issuer",
        "refs": {key: {"name": name, "kind": "ClusterIssuer"} for key, name in refs.items()},
    }


@pytest.fixture(scope="module")
def root():
    """A root whose key its owner has."""
    return make_certificate("root of the owner", days=3650)


@pytest.fixture
def owned(make_stack, root):
    """A stack with the owner's root and key, not deployed yet."""
    # With the webhooks' certificates left to the chart, cert-manager goes with the last mode that needs it.
    stack = make_stack(anchors=["own"], anchorCertificates={"own": root.pem}, webhooks={"mode": "chart"})
    stack.set_key("own", root.key_pem)
    return stack


def test_a_live_stack_moves_through_every_mode_and_has_an_issuer_throughout(owned, cluster, root):
    owned.up(issuer={"mode": "anchor"})
    roots = read_bundle(owned.project.outputs()["trustAnchors"])
    assert roots == [root.certificate]
    with IssuerWatch(cluster, roots) as watch:
        assert len(owned.issuer_chain()) == 1

        owned.up(issuer={"mode": "intermediate"})
        assert len(owned.issuer_chain()) == 2
        assert "linkerd-trust-anchor" not in names(cluster, SECRETS)
        assert names(cluster, f"{CERT_MANAGER}/issuers") == ["linkerd-issuer-ca-own"]

        owned.up(issuer={"mode": "anchor"})
        assert len(owned.issuer_chain()) == 1
        assert "linkerd-issuer-ca-own" not in names(cluster, SECRETS)
        owned.up(issuer={"mode": "intermediate"})

        elsewhere = make_cluster_issuer(cluster, "corporate", root)
        owned.up(issuer=external(own="corporate"))
        assert owned.issuer_chain()[1] == elsewhere.certificate
        assert names(cluster, f"{CERT_MANAGER}/issuers") == []
        issued = owned.issuer_chain()

        assert 'First deploy mode "external-secret"' in owned.refused(issuer={"mode": "pulumi"})
        # What its owner made goes with cert-manager; a Certificate of others would have been a reason to refuse.
        owned.up(issuer={"mode": "external-secret"})
        assert owned.issuer_chain() == issued, "the Secret stays when its Certificate goes"
        assert "cert-manager" not in names(cluster, "/api/v1/namespaces")
        written = write_issuer(cluster, root)
        owned.run(*UP, *NO_CHANGES)
        assert owned.issuer_chain()[0] == written.certificate

        owned.up(issuer={"mode": "pulumi"})
        [first] = owned.issuer_chain()
        owned.run("refresh", "--yes", "--non-interactive", *NO_CHANGES)
        owned.up(issuer={"serial": "2"})
        [second] = owned.issuer_chain()
        assert first != second

        owned.up(issuer={"mode": "intermediate"})
        assert len(owned.issuer_chain()) == 2, "cert-manager issues again over a Secret that was there"
        assert owned.leaf_verifies()
        seen = [fingerprint(entry) for entry in (issued[0], written.certificate, first, second)]
    assert not watch.wrong
    assert [mark for mark in watch.issuers if mark in seen] == seen, "the watch saw what the test saw"


@pytest.mark.parametrize("mode", ["anchor", "intermediate"])
def test_an_rsa_root_from_elsewhere_signs(make_stack, mode):
    root = make_certificate("an RSA root", key=rsa.generate_private_key(65537, 2048), days=3650)
    stack = make_stack(anchors=["rsa"], anchorCertificates={"rsa": root.pem}, issuer={"mode": mode})
    stack.set_key("rsa", root.key_pem)
    stack.up()
    assert stack.leaf_verifies()[-1] == root.certificate
    assert isinstance(stack.issuer_chain()[0].public_key(), type(make_certificate().certificate.public_key()))


def test_a_third_party_writes_the_secret_and_what_it_writes_is_checked(make_stack, cluster, root):
    stack = make_stack(anchors=["own"], anchorCertificates={"own": root.pem}, issuer={"mode": "external-secret"})
    said = stack.refused("preview")
    assert "nobody has written Secret linkerd/linkerd-identity-issuer yet" in said
    assert f"kubectl --context {cluster.context} -n linkerd create secret generic linkerd-identity-issuer" in said
    with cluster.client() as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": "linkerd"}}).raise_for_status()
    write_issuer(cluster, root, ca=False)
    assert "which is not marked as a CA" in stack.refused()
    write_issuer(cluster, make_certificate("another root"))
    assert "holds a certificate that is not trusted" in stack.refused()
    write_issuer(cluster, root)
    stack.up()
    assert stack.leaf_verifies()


def test_an_issuer_of_elsewhere_is_there_and_signs_under_the_signer(make_stack, cluster, root):
    """With a cert-manager that was there before."""
    other = make_stack(webhooks={"mode": "chart"})
    other.up()
    make_cluster_issuer(cluster, "corporate", root)
    make_cluster_issuer(cluster, "stranger", make_certificate("another root", days=3650))
    next_root = make_certificate("the next root", days=3650)
    make_cluster_issuer(cluster, "next", next_root)
    other.configure(anchors=["2026", "own"], anchorCertificates={"own": root.pem}, signer="2026")
    other.up()
    assert "which the cluster does not have" in other.refused(signer="own", issuer=external(own="corporat"))
    assert "Linkerd was left as it is" in other.refused(issuer=external(own="stranger"))
    # What is restarted before an anchor is retired is the gate's matter, which has tests of its own.
    other.up(issuer=external(own="corporate"), gate={"mode": "warn"})
    assert other.leaf_verifies()[-1] == root.certificate
    other.up(anchors=["own"])
    # A rotation from one external issuer to the next.
    certificates = {"own": root.pem, "next": next_root.pem}
    other.up(anchors=["own", "next"], anchorCertificates=certificates, issuer=external(own="corporate", next="next"))
    other.up(signer="next")
    assert other.leaf_verifies()[-1] == next_root.certificate
    other.up(
        anchors=["next"],
        anchorCertificates={"next": next_root.pem},
        issuer={"refs": {"next": {"name": "next", "kind": "ClusterIssuer"}}},
    )


def test_a_cert_manager_that_is_not_there_is_not_taken_for_granted(make_stack):
    stack = make_stack(certManager={"install": False})
    assert "its API cert-manager.io/v1 is not there" in stack.refused("preview")
