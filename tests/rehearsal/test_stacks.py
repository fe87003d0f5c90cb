"""Every stack of stacks/ that has a cluster of its own, deployed as its file says on what its comments ask for.

The stacks dev and guide are what a rehearsal runs (test_rehearsal.py); east and west are a fleet (test_fleet.py).
"""

import subprocess

import pytest
import yaml

from tests.certificates import make_certificate
from tests.rehearsal.live_stack import get, names, write
from tests.rehearsal.stack import DESTROY, NO_CHANGES
from tests.rehearsal.test_adopt import Helm
from tests.rehearsal.test_modes import make_cluster_issuer, write_issuer

pytestmark = pytest.mark.soak

VIZ_SECRETS = "/api/v1/namespaces/linkerd-viz/secrets"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def helm(binaries, cluster, observer):
    """Helm, of which nothing is left in the end."""
    before = observer.inventory()
    yield Helm(binaries, cluster)
    observer.wait_for_inventory(before, 60)


@pytest.fixture
def cert_manager(helm, cluster, binaries):
    """A cert-manager that was there before."""
    make_namespace(cluster, "cert-manager")
    values = {"crds": {"enabled": True, "keep": False}, "global": {"leaderElection": {"namespace": "cert-manager"}}}
    helm.run(
        "install", "cert-manager", str(binaries.charts / "cert-manager"), "-n", "cert-manager", "--wait", values=values
    )
    yield helm
    helm.run("uninstall", "cert-manager", "-n", "cert-manager", "--wait")
    delete_namespace(cluster, "cert-manager")


@pytest.fixture
def vault(cert_manager, cluster, root):
    """The ClusterIssuer that the stack's file names."""
    assert cert_manager
    make_cluster_issuer(cluster, "vault-mesh", root)
    yield
    with cluster.client() as api:
        api.delete("/apis/cert-manager.io/v1/clusterissuers/vault-mesh").raise_for_status()


@pytest.fixture
def trust_manager(cert_manager, binaries):
    """A trust-manager that was there before."""
    values = {"crds": {"keep": False}, "defaultPackage": {"enabled": False}}
    chart = str(binaries.charts / "trust-manager")
    cert_manager.run("install", "trust-manager", chart, "-n", "cert-manager", "--wait", values=values)
    yield
    cert_manager.run("uninstall", "trust-manager", "-n", "cert-manager", "--wait")


@pytest.fixture
def gateway_api(binaries, cluster, linkerd_charts):
    """The definitions of the Gateway API, which were there before."""
    command = [*binaries.helm, "template", "crds", str(linkerd_charts / "linkerd-crds"), "--set=installGatewayAPI=true"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [item for item in yaml.safe_load_all(rendered) if item and item["spec"]["group"].startswith("gateway.")]
    assert found
    for item in found:
        write(cluster, f"{DEFINITIONS}/{item['metadata']['name']}", item)
    yield
    with cluster.client() as api:
        for item in found:
            api.delete(f"{DEFINITIONS}/{item['metadata']['name']}").raise_for_status()


@pytest.fixture
def viz(cluster):
    """The namespace of linkerd-viz."""
    make_namespace(cluster, "linkerd-viz")
    yield
    delete_namespace(cluster, "linkerd-viz")


@pytest.fixture(scope="module")
def root():
    return make_certificate("root of the owner", days=3650)


def make_namespace(cluster, name):
    with cluster.client() as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()


def delete_namespace(cluster, name):
    with cluster.client() as api:
        api.delete(f"/api/v1/namespaces/{name}").raise_for_status()


def live(stack):
    """Deploy it, and see that it does its work and stays as it is."""
    stack.up()
    stack.run("refresh", "--yes", "--non-interactive", *NO_CHANGES)
    return stack.leaf_verifies()


def test_production(make_stack, cluster):
    stack = make_stack("production")
    assert len(live(stack)) == 4
    replicas = get(cluster, "/apis/apps/v1/namespaces/linkerd/deployments/linkerd-identity")["spec"]["replicas"]
    assert replicas == 3


def test_without_cert_manager(make_stack, cluster):
    assert len(live(make_stack("no-cert-manager"))) == 3
    assert "cert-manager" not in names(cluster, "/api/v1/namespaces")


def test_a_third_party_that_writes_the_issuer(make_stack, cluster, root):
    stack = make_stack("third-party", anchorCertificates={"2026": root.pem})
    make_namespace(cluster, "linkerd")
    write_issuer(cluster, root)
    assert live(stack)[-1] == root.certificate


@pytest.mark.usefixtures("vault")
def test_an_issuer_of_elsewhere(make_stack, root):
    assert live(make_stack("vault", anchorCertificates={"2026": root.pem}))[-1] == root.certificate


@pytest.mark.usefixtures("trust_manager", "gateway_api", "viz")
def test_a_platform_that_has_cert_manager_and_trust_manager(make_stack, cluster):
    stack = make_stack("platform")
    assert len(live(stack)) == 4
    owners = get(cluster, "/api/v1/namespaces/linkerd/configmaps/linkerd-identity-trust-roots")["metadata"]
    assert [owner["kind"] for owner in owners["ownerReferences"]] == ["Bundle"]
    # cert-manager leaves what it has issued, and a namespace that others made stays.
    stack.run(*DESTROY)
    assert names(cluster, VIZ_SECRETS) == ["tap-injector-k8s-tls", "tap-k8s-tls"]
    with cluster.client() as api:
        api.delete(VIZ_SECRETS).raise_for_status()
