"""`meshtrust adopt`: a Linkerd that Helm has installed as its guide has it, taken over without a new object."""

import base64
import dataclasses
import gzip
import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from meshtrust.pki.pem import fingerprint
from meshtrust.stacks.takeover.adoption import _without
from rehearsal.mesh.enterprise import write_charts
from rehearsal.workspace import workspace
from tests.certificates import make_certificate
from tests.rehearsal.live_stack import get, write
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP
from tests.rehearsal.test_modes import ISSUER_SECRET, tls_secret

pytestmark = pytest.mark.soak

LICENSE = "hush-license-of-this-test"
LINKERD = "/api/v1/namespaces/linkerd"
CERT_MANAGER = "/apis/cert-manager.io/v1/namespaces/linkerd"
# Linkerd's guide, field for field.
CERTIFICATE: dict[str, Any] = {
    "apiVersion": "cert-manager.io/v1",
    "kind": "Certificate",
    "metadata": {"name": "linkerd-identity-issuer"},
    "spec": {
        "secretName": "linkerd-identity-issuer",
        "duration": "48h",
        "renewBefore": "25h",
        "issuerRef": {"name": "linkerd-trust-anchor", "kind": "Issuer"},
        "commonName": "identity.linkerd.cluster.local",
        "dnsNames": ["identity.linkerd.cluster.local"],
        "isCA": True,
        "privateKey": {"algorithm": "ECDSA"},
        "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    },
}
BUNDLE = {
    "apiVersion": "trust.cert-manager.io/v1alpha1",
    "kind": "Bundle",
    "metadata": {"name": "linkerd-identity-trust-roots"},
    "spec": {
        "sources": [{"secret": {"name": "linkerd-trust-anchor", "key": "tls.crt"}}],
        "target": {
            "configMap": {"key": "ca-bundle.crt"},
            "namespaceSelector": {"matchLabels": {"linkerd.io/is-control-plane": "true"}},
        },
    },
}
ISSUER = {
    "apiVersion": "cert-manager.io/v1",
    "kind": "Issuer",
    "metadata": {"name": "linkerd-trust-anchor"},
    "spec": {"ca": {"secretName": "linkerd-trust-anchor"}},
}


class Helm:
    def __init__(self, binaries, cluster):
        self._command = [*binaries.helm, f"--kubeconfig={cluster.kubeconfig}"]

    def run(self, *arguments, values=None):
        given = ["--values=-"] if values is not None else []
        result = subprocess.run(
            [*self._command, *arguments, *given], input=json.dumps(values), capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr


@pytest.fixture
def root():
    return make_certificate("root.linkerd.cluster.local", days=3650)


@pytest.fixture
def helm(binaries, cluster, observer):
    """Helm, of which nothing is left in the end."""
    before = observer.inventory()
    yield Helm(binaries, cluster)
    observer.wait_for_inventory(before, 60)


@pytest.fixture(params=["helm"])
def guide(request, helm, cluster, binaries, charts):
    """A cluster as Linkerd's guide leaves it: cert-manager, the trust anchor in a Secret, or trust-manager too.

    Buoyant's charts are installed under the names that its own scripts give their releases (BuoyantIO/
    service-mesh-academy, production-readiness/create.sh).
    """
    by_trust_manager, root = request.param == "trust-manager", request.getfixturevalue("root")
    prefix = "linkerd-enterprise" if request.param == "enterprise" else "linkerd"
    with cluster.client() as api:
        for name in ("linkerd", "cert-manager"):
            labels = {"linkerd.io/is-control-plane": "true"} if name == "linkerd" else {}
            api.post("/api/v1/namespaces", json={"metadata": {"name": name, "labels": labels}}).raise_for_status()
    values = {"crds": {"enabled": True, "keep": False}, "global": {"leaderElection": {"namespace": "cert-manager"}}}
    chart = str(binaries.charts / "cert-manager")
    helm.run("install", "cert-manager", chart, "-n", "cert-manager", "--wait", values=values)
    helm.run("install", "linkerd-crds", str(charts / f"{prefix}-crds"), "-n", "linkerd", "--wait")
    write(cluster, f"{LINKERD}/secrets/linkerd-trust-anchor", tls_secret("linkerd-trust-anchor", root))
    write(cluster, f"{CERT_MANAGER}/issuers/linkerd-trust-anchor", ISSUER)
    write(cluster, f"{CERT_MANAGER}/certificates/linkerd-identity-issuer", CERTIFICATE)
    identity = {"issuer": {"scheme": "kubernetes.io/tls"}, "externalCA": by_trust_manager}
    values = {"identity": identity, "controllerReplicas": 2}
    if by_trust_manager:
        chart = str(binaries.charts / "trust-manager")
        own = {"crds": {"keep": False}, "defaultPackage": {"enabled": False}}
        helm.run("install", "trust-manager", chart, "-n", "cert-manager", "--wait", values=own)
        write(
            cluster,
            "/api/v1/namespaces/cert-manager/secrets/linkerd-trust-anchor",
            tls_secret("linkerd-trust-anchor", root),
        )
        write(cluster, "/apis/trust.cert-manager.io/v1alpha1/bundles/linkerd-identity-trust-roots", BUNDLE)
    else:
        values["identityTrustAnchorsPEM"] = root.pem
    if prefix == "linkerd-enterprise":
        values["licenseSecret"] = "buoyant-license"
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "buoyant-license"},
            "stringData": {"license": LICENSE},
        }
        write(cluster, f"{LINKERD}/secrets/buoyant-license", secret)
    chart = str(charts / f"{prefix}-control-plane")
    helm.run("install", "linkerd-control-plane", chart, "-n", "linkerd", "--wait", values=values)
    yield helm
    if by_trust_manager:
        helm.run("uninstall", "trust-manager", "-n", "cert-manager", "--wait")
    helm.run("uninstall", "cert-manager", "-n", "cert-manager", "--wait")
    with cluster.client() as api:
        for name in ("linkerd", "cert-manager"):
            api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def charts(request, linkerd_charts, tmp_path):
    """The charts that `guide` installs."""
    is_enterprise = request.node.callspec.params.get("guide") == "enterprise"
    return write_charts(tmp_path / "charts") if is_enterprise else linkerd_charts


def adopt(project, cluster, *more):
    command = [sys.executable, "-m", "meshtrust", "adopt", "--stack", "adopted", "--context", cluster.context]
    where = ["--kubeconfig", str(cluster.kubeconfig), "--cwd", str(project.directory)]
    return subprocess.run([*command, *where, *more], capture_output=True, text=True, check=False)


@pytest.fixture
def project():
    """The project without a stack, run by the real CLI, which alone can import."""
    with workspace("dev") as made:
        yield dataclasses.replace(made, stack="adopted")


def revision_of(cluster):
    """The values that Linkerd's release was last upgraded with, and how often it was."""
    selection = "labelSelector=owner=helm,name=linkerd-control-plane,status=deployed"
    [secret] = get(cluster, f"{LINKERD}/secrets?{selection}")["items"]
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    return release["version"], release["config"]


def _with_a_root_of_its_own(text, **rotation):
    """Edit a stack's file as a person would who wants a root of the stack's own at once."""
    stack = yaml.safe_load(text)
    config = stack["config"]
    del config["meshtrust:anchorCertificates"], config["meshtrust:issuer"]["refs"]
    config |= {"meshtrust:anchors": ["own"], "meshtrust:signer": "own", "meshtrust:rotation": rotation}
    config["meshtrust:issuer"]["mode"] = "intermediate"
    config["meshtrust:anchor"] = {"protect": False}
    return yaml.safe_dump(stack)


@pytest.mark.parametrize("guide", ["helm", "trust-manager", "enterprise"], indirect=True)
@pytest.mark.usefixtures("guide")
def test_the_guides_linkerd_is_taken_over_without_a_replacement(project, cluster, charts, root):
    written = adopt(project, cluster, "--charts", str(charts))
    assert written.returncode == 0, written.stderr
    assert "in mode external-issuer" in written.stdout
    issued = get(cluster, ISSUER_SECRET)["data"]["tls.crt"]

    def run(*command):
        result = project.capture(*command)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run("stack", "init")
    imports = ("--file", str(project.directory / "import-adopted.json"), "--protect=false", "--generate-code=false")
    run("import", "--yes", "--skip-preview", *imports)
    file = project.directory / "stacks" / "Pulumi.adopted.yaml"
    adopted = file.read_text()
    assert LICENSE not in adopted
    file.write_text(_with_a_root_of_its_own(adopted, mode="step"))
    refused = project.capture("up", "--yes", "--skip-preview", "--non-interactive")
    assert refused.returncode != 0
    assert "It is not safe yet to deploy with own" in refused.stdout + refused.stderr
    file.write_text(adopted)
    preview = json.loads(run("preview", "--json"))
    operations = {step["urn"].rpartition("::")[2]: step["op"] for step in preview["steps"]}
    assert operations["linkerd-control-plane"] == "update"
    assert set(operations.values()) <= {"same", "update", "create", "read"}, operations
    created = {name for name, operation in operations.items() if operation == "create"}
    assert created <= {"meshtrust-adopted", "trust-anchor", "webhooks", "trust-bundle", "linkerd", "identity-issuer"}, (
        "nothing is made but components, which are names in the state"
    )
    run(*UP)
    run(*UP, *NO_CHANGES)
    run("refresh", "--yes", "--non-interactive")
    run(*UP, *NO_CHANGES)
    assert get(cluster, ISSUER_SECRET)["data"]["tls.crt"] == issued, "the issuer was not issued again"
    revision, values = revision_of(cluster)
    assert revision == 2
    assert values["controllerReplicas"] == 2, "what its user had set is set still"
    roots = get(cluster, f"{LINKERD}/configmaps/linkerd-identity-trust-roots")["data"]["ca-bundle.crt"]
    assert roots.strip() == root.pem.strip()
    run(*DESTROY)


@pytest.mark.usefixtures("guide")
def test_a_goal_of_the_stacks_own_is_reached_by_runs_alone_once_the_mesh_is_imported(
    project, cluster, linkerd_charts, root
):
    assert adopt(project, cluster, "--charts", str(linkerd_charts)).returncode == 0

    def run(*command):
        result = project.capture(*command)
        assert result.returncode == 0, result.stdout + result.stderr
        return " ".join((result.stdout + result.stderr).split())

    run("stack", "init")
    file = project.directory / "stacks" / "Pulumi.adopted.yaml"
    adopted = file.read_text()
    file.write_text(_with_a_root_of_its_own(adopted))
    early = project.capture("preview", "--non-interactive")
    written = " ".join((early.stdout + early.stderr).split())
    assert early.returncode != 0
    assert "is on the cluster, and this stack has not deployed it" in written, "its owner is another"
    imports = ("--file", str(project.directory / "import-adopted.json"), "--protect=false", "--generate-code=false")
    file.write_text(adopted)
    run("import", "--yes", "--skip-preview", *imports)
    file.write_text(_with_a_root_of_its_own(adopted, restart="workloads"))
    existing = f"existing-{fingerprint(root.certificate)[:8]}"
    assert f"has a mesh, with anchors {existing}, signer {existing}" in run("preview", "--non-interactive")
    run(*UP)
    outputs = project.outputs()
    assert (outputs["anchors"], outputs["signer"]) == ([existing, "own"], existing)
    assert outputs["issuer"]["mode"] == "external-issuer"
    for _ in range(4):
        run(*UP)
        if project.outputs()["rotation"]["converged"]:
            break
    outputs = project.outputs()
    assert (outputs["anchors"], outputs["signer"], outputs["issuer"]["mode"]) == (["own"], "own", "intermediate")
    assert [entry["step"] for entry in outputs["transitions"]] == ["deploy", "switch", "retire"]
    run(*UP, *NO_CHANGES)
    run(*DESTROY)


def test_what_cannot_be_taken_over_is_told(guide, project, cluster, linkerd_charts):
    chart = str(linkerd_charts / "linkerd-control-plane")
    key = make_certificate().key_pem
    guide.run(
        "upgrade",
        "linkerd-control-plane",
        chart,
        "-n",
        "linkerd",
        "--reuse-values",
        values={"proxyInjector": {"keyPEM": key}},
    )
    said = adopt(project, cluster)
    assert said.returncode == 3
    assert "Value proxyInjector.keyPEM of release linkerd-control-plane is a private key" in said.stderr
    assert key.splitlines()[1] not in said.stderr
    guide.run("uninstall", "linkerd-control-plane", "-n", "linkerd", "--wait")
    said = adopt(project, cluster)
    assert said.returncode == 3
    assert "Namespace linkerd has no Helm release of chart linkerd-control-plane" in said.stderr
    assert not (project.directory / "stacks" / "Pulumi.adopted.yaml").exists()
    guide.run("uninstall", "linkerd-crds", "-n", "linkerd", "--wait")


@pytest.mark.parametrize("guide", ["enterprise"], indirect=True)
def test_a_license_among_the_values_is_to_be_moved_into_a_secret_first(guide, project, cluster, charts):
    chart = str(charts / "linkerd-enterprise-control-plane")
    values = {"license": LICENSE, "licenseSecret": ""}
    guide.run("upgrade", "linkerd-control-plane", chart, "-n", "linkerd", "--reuse-values", values=values)
    said = adopt(project, cluster)
    assert said.returncode == 3
    assert (
        "Value license of release linkerd-control-plane is the license, which would stand in plaintext" in said.stderr
    )
    assert "--set licenseSecret=buoyant-license" in said.stderr
    assert LICENSE not in said.stdout + said.stderr
    for release in ("linkerd-control-plane", "linkerd-crds"):
        guide.run("uninstall", release, "-n", "linkerd", "--wait")


def test_the_stacks_file_says_what_the_cluster_has(guide, project, cluster, root):
    assert adopt(project, cluster).returncode == 0
    config = yaml.safe_load((project.directory / "stacks" / "Pulumi.adopted.yaml").read_text())["config"]
    year = str(root.certificate.not_valid_before_utc.year)
    assert config["meshtrust:anchors"] == [year]
    assert config["meshtrust:anchorCertificates"] == {year: root.pem}
    assert config["meshtrust:issuer"] == {
        "mode": "external-issuer",
        "refs": {year: {"name": "linkerd-trust-anchor", "kind": "Issuer", "group": "cert-manager.io"}},
        "duration": "48h",
        "renewBefore": "25h",
    }
    assert config["meshtrust:linkerd"]["values"] == {"controllerReplicas": 2}
    again = adopt(project, cluster)
    assert again.returncode == 3
    assert "is there already" in again.stderr
    for release in ("linkerd-control-plane", "linkerd-crds"):
        guide.run("uninstall", release, "-n", "linkerd", "--wait")


def test_values_that_follow_from_the_stack_are_left_out_and_no_others():
    values = {"a": {"b": 1, "c": {"d": 2}}, "e": {"f": {"g": 3}}, "h": {}, "i": 4}
    assert _without(values, ("a.b", "e.f", "i.x")) == {"a": {"c": {"d": 2}}, "h": {}, "i": 4}
