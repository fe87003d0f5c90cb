"""Refusals of the program after it has asked the cluster: one sentence, before anything is changed."""

import subprocess

import pytest

from rehearsal.workspace import workspace
from tests.certificates import make_certificate
from tests.kubeconfigs import command_for_credentials, write_kubeconfig
from tests.refusals import number_of
from tests.rehearsal.control_plane import wait_until


@pytest.fixture
def preview(cluster, binaries):
    """Preview the stack dev with changed settings; return the exit code and all that was written."""

    def run(**settings):
        base = {
            "context": cluster.context,
            "kubeconfig": str(cluster.kubeconfig),
            "certManager": {"charts": str(binaries.charts)},
            "linkerd": {"charts": "https://127.0.0.1:1/charts"},
        }
        with workspace("dev", settings={**base, **settings}) as project:
            result = project.capture("preview", "--non-interactive")
            return result.returncode, result.stdout + result.stderr

    return run


def assert_refused(result, *sentences):
    code, written = result
    assert code != 0
    for sentence in sentences:
        assert sentence in written.replace("\n", " "), written
    assert "Nothing was changed" in written
    assert "Traceback" not in written
    assert "unhandled error" not in written
    assert "SelfSignedCert" not in written, "something was planned before the refusal"


def test_an_unreachable_chart_repository(preview):
    assert_refused(preview(), 'meshtrust:linkerd.charts is "https://127.0.0.1:1/charts", which does not answer')


def test_a_context_that_does_not_exist(preview):
    assert_refused(preview(context="nowhere"), 'meshtrust:context is "nowhere"', "no context of that name")


def test_an_api_server_that_does_not_answer(preview, tmp_path, cluster):
    dead = tmp_path / "kubeconfig"
    text = cluster.kubeconfig.read_text()
    with cluster.client() as api:
        port = api.base_url.port
    dead.write_text(text.replace(f"127.0.0.1:{port}", "127.0.0.1:1"))
    dead.chmod(0o600)
    assert_refused(preview(kubeconfig=str(dead)), "The API server of context", "cannot be reached")


def test_a_command_for_credentials_does_not_get_the_configuration(preview, tmp_path, cluster):
    """The language host puts it into the program's environment, with every secret of it decrypted."""
    seen = tmp_path / "environment"
    user = command_for_credentials(f"env > {seen}; echo log in again >&2; exit 3")
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", user, name=cluster.context)
    assert_refused(preview(kubeconfig=kubeconfig), "log in again")
    assert "PATH=" in (environment := seen.read_text())
    assert "PULUMI_CONFIG=" not in environment


def test_a_stack_that_is_pinned_to_another_cluster(preview):
    assert_refused(preview(clusterUid="some-other"), 'meshtrust:clusterUid is "some-other"')


def test_a_preview_tells_of_a_release_that_an_interrupted_run_left_pending(preview, cluster, linkerd_charts):
    with cluster.client() as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": "linkerd"}}).raise_for_status()
        labels = {"owner": "helm", "name": "linkerd-crds", "status": "pending-install", "version": "1"}
        secret = {"metadata": {"name": "sh.helm.release.v1.linkerd-crds.v1", "labels": labels}}
        path = "/api/v1/namespaces/linkerd/secrets"
        api.post(path, json=secret).raise_for_status()
        try:
            code, written = preview(linkerd={"charts": str(linkerd_charts)})
            assert code == 0, written
            assert "An interrupted run has left release linkerd/linkerd-crds half done" in written
            assert api.get(f"{path}/sh.helm.release.v1.linkerd-crds.v1").is_success, "a preview changes nothing"
        finally:
            _delete_namespace(api)


@pytest.fixture
def live_mesh(cluster):
    """A control plane's bundle, and a pod whose proxy trusts it."""
    root = make_certificate("external root")
    labels = {"linkerd.io/control-plane-ns": "linkerd"}
    container = {
        "name": "linkerd-proxy",
        "image": "proxy",
        "env": [{"name": "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "value": root.pem}],
    }
    pod = {"metadata": {"name": "web", "labels": labels}, "spec": {"containers": [container]}}
    bundle = {"metadata": {"name": "linkerd-identity-trust-roots"}, "data": {"ca-bundle.crt": root.pem}}
    with cluster.client() as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": "linkerd"}}).raise_for_status()
        wait_until(lambda: api.get("/api/v1/namespaces/linkerd/serviceaccounts/default").is_success)
        api.post("/api/v1/namespaces/linkerd/configmaps", json=bundle).raise_for_status()
        api.post("/api/v1/namespaces/linkerd/pods", json=pod).raise_for_status()
        yield
        _delete_namespace(api)


@pytest.mark.usefixtures("live_mesh")
def test_a_first_deployment_that_would_cut_off_a_mesh(preview, linkerd_charts):
    """It would replace what proxies trust and what signs for them in one run, as no rotation may."""
    charts = {"linkerd": {"charts": str(linkerd_charts)}}
    refused = preview(anchors=["own"], **charts)
    assert_refused(
        refused,
        "It is not safe yet to deploy with own: 2 things in the cluster block it.",
        "linkerd/web: its proxy does not trust own",
        "(CN=external root) is not among the anchors",
        "`meshtrust adopt`",
        "pulumi config set --path gate.overrides.deploy-own",
    )
    override = {"deploy-own": f"{number_of(refused[1])} that mesh is given up"}
    code, written = preview(anchors=["own"], gate={"overrides": override}, **charts)
    assert code == 0, written
    assert "meshtrust:gate.overrides says: that mesh is given up" in written


def _delete_namespace(api):
    api.delete("/api/v1/namespaces/linkerd").raise_for_status()
    wait_until(lambda: api.get("/api/v1/namespaces/linkerd").status_code == 404)


@pytest.fixture
def foreign_release(cluster, binaries, linkerd_charts):
    """A release of another in this stack's place."""
    helm = [*binaries.helm, f"--kubeconfig={cluster.kubeconfig}", "--namespace=linkerd"]
    chart = str(linkerd_charts / "linkerd-crds")
    subprocess.run([*helm, "install", "linkerd-crds", chart, "--create-namespace"], capture_output=True, check=True)
    yield linkerd_charts
    subprocess.run([*helm, "uninstall", "linkerd-crds", "--wait"], capture_output=True, check=True)
    with cluster.client() as api:
        _delete_namespace(api)


def test_a_release_that_another_has_deployed(preview, foreign_release, cluster):
    """By the resource, not by a check of the run: what the state has recorded is known to the engine alone."""
    code, written = preview(linkerd={"charts": str(foreign_release)})
    assert code != 0
    said = "Helm release linkerd/linkerd-crds is on the cluster, and this stack has not deployed it."
    assert said in " ".join(written.split())
    assert f"helm --kube-context {cluster.context} -n linkerd uninstall linkerd-crds" in " ".join(written.split())
    assert "Traceback" not in written
