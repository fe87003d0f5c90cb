"""The program on a real API server with real cert-manager controllers: what it makes holds, and stays as it is."""

import asyncio
import base64
import re
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtrust.cluster import cert_manager
from meshtrust.pki.chain import verify_chain
from meshtrust.pki.pem import read_bundle, sha256_hex
from rehearsal import mesh
from rehearsal.connection import connect
from rehearsal.pulumi.home import find_installed
from rehearsal.workspace import workspace
from tests.key_material import KeySearch, kept_and_shown, process_arguments
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, run, settings


class Deployed:
    """A deployed stack, and the arguments of every process that ran while it was."""

    def __init__(self, project, arguments):
        self.project, self.arguments = project, arguments

    def up(self, *more):
        run(self.project, *UP, *more)


@pytest.fixture(scope="module")
def deployed(cluster, binaries, linkerd_charts, observer):
    """The stack production, in high availability; `make rehearse` is tested with the others."""
    before = observer.inventory()
    with workspace("production", settings=settings(cluster, binaries, linkerd_charts)) as project:
        with process_arguments() as arguments:
            run(project, *UP)
        yield Deployed(project, arguments)
        run(project, *DESTROY)
    observer.wait_for_inventory(before, 60)


@pytest.fixture
def secrets(cluster, deployed):  # noqa: ARG001 they are there once it is deployed
    with cluster.client() as api:
        return api.get("/api/v1/secrets").json()["items"]


def named(secrets, name):
    [found] = [entry for entry in secrets if entry["metadata"]["name"] == name]
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def public_key(key_pem: str) -> object:
    return load_pem_private_key(key_pem.encode(), None).public_key()


def test_the_issued_secret_is_what_linkerd_and_its_check_expect(deployed, secrets):
    issued = named(secrets, "linkerd-identity-issuer")
    outputs = deployed.project.outputs()
    issuer, intermediate = read_bundle(issued["tls.crt"])
    [root] = read_bundle(issued["ca.crt"])
    assert root == read_bundle(outputs["trustAnchors"])[0], "`linkerd check` reads the trust anchor from ca.crt"
    assert verify_chain([issuer, intermediate], [root], datetime.now(UTC)) == [issuer, intermediate, root]
    assert public_key(issued["tls.key"]) == issuer.public_key()
    assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    lifetime = issuer.not_valid_after_utc - issuer.not_valid_before_utc
    assert lifetime.total_seconds() == 48 * 3600


def test_the_anchors_key_is_on_no_cluster(deployed, secrets):
    [root] = read_bundle(deployed.project.outputs()["trustAnchors"])
    keys = [
        base64.b64decode(value).decode()
        for entry in secrets
        for name, value in (entry.get("data") or {}).items()
        if name == "tls.key"
    ]
    assert len(keys) >= 2
    assert root.public_key() not in [public_key(key) for key in keys]


def test_the_control_plane_carries_the_bundle_and_its_hash(deployed, cluster):
    bundle = deployed.project.outputs()["trustAnchors"]
    with cluster.client() as api:
        roots = api.get("/api/v1/namespaces/linkerd/configmaps/linkerd-identity-trust-roots").json()
        pods = api.get("/api/v1/namespaces/linkerd/pods").json()["items"]
    assert roots["data"]["ca-bundle.crt"].strip() == bundle
    assert pods
    for pod in pods:
        annotations = pod["metadata"]["annotations"]
        assert annotations["meshtrust.io/trust-anchors-sha256"] == sha256_hex(bundle)
        assert annotations.get("linkerd.io/trust-root-sha256", sha256_hex(bundle)) == sha256_hex(bundle)


def test_a_proxy_gets_a_leaf_that_verifies(deployed, cluster):
    leaf = mesh.request_leaf(cluster, namespace="linkerd", service_account="default")
    roots = read_bundle(deployed.project.outputs()["trustAnchors"])
    assert len(verify_chain(read_bundle(leaf.chain_pem), roots, datetime.now(UTC))) == 4
    assert leaf.identity == "default.linkerd.serviceaccount.identity.linkerd.cluster.local"


def test_nothing_changes_after_a_renewal_nor_a_refresh(deployed, observer):
    deployed.up(*NO_CHANGES)
    old = observer.secret_certificate("linkerd", "linkerd-identity-issuer")
    observer.renew_certificate("linkerd", "linkerd-identity-issuer")
    new = observer.wait_for_another("linkerd", "linkerd-identity-issuer", old, 60)
    assert new.public_key() != old.public_key()
    deployed.up(*NO_CHANGES)
    run(deployed.project, "refresh", "--yes", "--non-interactive", *NO_CHANGES)
    deployed.up(*NO_CHANGES)


def run_for_output(project, *command):
    """Run a command that is meant to show secrets."""
    result = project.capture(*command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_private_key_is_in_no_output_log_state_configmap_helm_value_or_argument(deployed, cluster, secrets):
    keys = [
        base64.b64decode(value).decode()
        for entry in secrets
        for name, value in (entry.get("data") or {}).items()
        if name == "tls.key"
    ]
    state = run_for_output(deployed.project, "stack", "export", "--show-secrets")
    blocks = re.finditer(r"-----BEGIN ((?:EC |RSA )?PRIVATE KEY)-----.*?-----END \1-----", state)
    in_state = {re.sub(r"\\+n", "\n", block.group()) for block in blocks}
    assert len(in_state) >= 2, "the anchor's and the intermediate's, which are encrypted there"
    search = KeySearch([*keys, *in_state])
    assert search.find(named(secrets, "linkerd-identity-issuer")["tls.key"]), "it finds a key where there is one"
    search.check(kept_and_shown(deployed.project, cluster))
    helm = [text for text in deployed.arguments.values() if "linkerd-control-plane" in text]
    assert helm or find_installed("kubernetes"), "the arguments of the run's own processes were seen"
    search.check(deployed.arguments)


def test_cert_manager_is_asked_by_a_dry_run_that_leaves_nothing(deployed, cluster):
    async def ask():
        await cert_manager.wait_answers(await connect(cluster.context, str(cluster.kubeconfig)), "cert-manager", 180)

    asyncio.run(ask())
    assert deployed
    with cluster.client() as api:
        assert not api.get("/apis/cert-manager.io/v1/namespaces/cert-manager/issuers").json()["items"]
