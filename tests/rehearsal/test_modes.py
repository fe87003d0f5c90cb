"""Every way to have the identity issuer signed, on a real API server with real cert-manager controllers."""

import base64
import time
from datetime import UTC, datetime

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from meshtrust.chain import verify_chain
from meshtrust.pem import fingerprint, read_bundle
from rehearsal import mesh
from rehearsal.workspace import workspace
from tests.certificates import make_certificate
from tests.key_material import KeySearch
from tests.rehearsal.issuer_watch import IssuerWatch, content

UP = ("up", "--yes", "--skip-preview", "--non-interactive")
NO_CHANGES = ("--expect-no-changes",)
SECRETS = "/api/v1/namespaces/linkerd/secrets"
ISSUER_SECRET = f"{SECRETS}/linkerd-identity-issuer"
CERT_MANAGER = "/apis/cert-manager.io/v1"


class Stack:
    """A stack in a workspace, whose configuration a test changes as its owner would."""

    def __init__(self, project, cluster):
        self.project, self.cluster = project, cluster

    def configure(self, **settings):
        path = self.project.directory / "stacks" / f"Pulumi.{self.project.stack}.yaml"
        document = yaml.safe_load(path.read_text())
        for key, value in settings.items():
            below = document["config"].get(f"meshtrust:{key}")
            both = isinstance(below, dict) and isinstance(value, dict)
            document["config"][f"meshtrust:{key}"] = {**below, **value} if both else value
        path.write_text(yaml.safe_dump(document))

    def set_key(self, generation, pem):
        path = f'anchorKeys["{generation}"]'
        self.run("config", "set", "--path", "--secret", path, stdin=pem)

    def run(self, *command, stdin=None):
        result = self.project.capture(*command, stdin=stdin)
        assert result.returncode == 0, result.stdout + result.stderr
        KeySearch().check({f"what `{command[0]}` wrote": result.stdout + result.stderr})

    def up(self, **settings):
        """Deploy, and see that the next run has nothing to do."""
        self.configure(**settings)
        self.run(*UP)
        self.run(*UP, *NO_CHANGES)

    def refused(self, *command, **settings):
        """Return what is said when a command fails."""
        self.configure(**settings)
        result = self.project.capture(*(command or UP))
        said = result.stdout + result.stderr
        assert result.returncode != 0, said
        assert "Traceback" not in said, said
        return " ".join(said.split())

    def issuer_chain(self):
        """The chain that the Secret holds, without its root."""
        return read_bundle(content(get(self.cluster, ISSUER_SECRET))["tls.crt"])

    def leaf_verifies(self):
        """Whether the identity service signs under the bundle, seen from a proxy's side."""
        leaf = mesh.request_leaf(self.cluster, namespace="linkerd", service_account="default")
        roots = read_bundle(self.project.outputs()["trustAnchors"])
        return verify_chain(read_bundle(leaf.chain_pem), roots, datetime.now(UTC))


def get(cluster, path):
    with cluster.client() as api:
        response = api.get(path)
        assert response.is_success, response.text
        return response.json()


def names(cluster, path):
    with cluster.client() as api:
        response = api.get(path)
        return [entry["metadata"]["name"] for entry in response.json()["items"]] if response.is_success else []


def write(cluster, path, body):
    with cluster.client() as api:
        headers = {"Content-Type": "application/apply-patch+yaml"}
        response = api.patch(f"{path}?fieldManager=third-party&force=true", json=body, headers=headers)
        assert response.is_success, response.text


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
    """An issuer of elsewhere, which signs with an intermediate under a root."""
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
def make_stack(cluster, binaries, linkerd_charts, observer, embedded):
    """Make a stack that is destroyed in the end, and leaves nothing."""
    before = observer.inventory()
    made = []

    def make(**settings):
        base = {
            "context": cluster.context,
            "kubeconfig": str(cluster.kubeconfig),
            "anchor": {"protect": False},
            "linkerd": {"charts": str(linkerd_charts)},
            "certManager": {"charts": str(binaries.charts)},
        }
        opened = workspace("dev", settings={**base, **settings}, embedded=embedded)
        stack = Stack(opened.__enter__(), cluster)
        made.append((opened, stack))
        return stack

    yield make
    for opened, stack in made:
        stack.run("destroy", "--yes", "--skip-preview", "--non-interactive")
        opened.__exit__(None, None, None)
    observer.wait_for_inventory(before, 60)


@pytest.fixture
def owned(make_stack, root):
    """A stack with the owner's root and key, not deployed yet."""
    stack = make_stack(anchors=["own"], anchorCertificates={"own": root.pem})
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
        assert len(owned.issuer_chain()) == 2, "cert-manager issues anew over a Secret that was there"
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
    assert "is no CA, so that the identity service ends with it" in stack.refused()
    write_issuer(cluster, make_certificate("another root"))
    assert "holds an issuer that the mesh would refuse" in stack.refused()
    write_issuer(cluster, root)
    stack.up()
    assert stack.leaf_verifies()


def test_an_issuer_of_elsewhere_is_there_and_signs_under_the_signer(make_stack, cluster, root, binaries):
    """With a cert-manager that was there before."""
    other = make_stack(certManager={"charts": str(binaries.charts), "install": True})
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
    # A rotation from one issuer of elsewhere to the next.
    certificates = {"own": root.pem, "next": next_root.pem}
    other.up(anchors=["own", "next"], anchorCertificates=certificates, issuer=external(own="corporate", next="next"))
    other.up(signer="next")
    assert other.leaf_verifies()[-1] == next_root.certificate
    other.up(
        anchors=["next"],
        anchorCertificates={"next": next_root.pem},
        issuer={"refs": {"next": {"name": "next", "kind": "ClusterIssuer"}}},
    )


def test_a_cert_manager_that_is_not_there_is_not_taken_for_granted(make_stack, binaries):
    stack = make_stack(certManager={"charts": str(binaries.charts), "install": False})
    assert "its API cert-manager.io/v1 is not there" in stack.refused("preview")
