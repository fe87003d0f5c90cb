"""Linkerd as `linkerd install | kubectl apply -f -` leaves it: no Helm release, and one root that signs by itself."""

import json
import shutil
import subprocess

from rehearsal.cluster import ensure
from tests.certificates import Pair, make_certificate
from tests.rehearsal.rotation_bench import Bench
from tests.rehearsal.stack import charts_of_linkerd

# linkerd2 charts/linkerd-control-plane/templates/namespace.yaml, which renders for its CLI alone.
NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {
        "name": "linkerd",
        "annotations": {"linkerd.io/inject": "disabled"},
        "labels": {
            "linkerd.io/is-control-plane": "true",
            "config.linkerd.io/admission-webhooks": "disabled",
            "linkerd.io/control-plane-ns": "linkerd",
            "pod-security.kubernetes.io/enforce": "privileged",
        },
    },
}


def install_by_the_cli(made: Bench) -> None:
    """Install Linkerd by its own CLI where that is on PATH; else apply what it would render of the charts."""
    for manifests in _rendered_by_the_cli() if shutil.which("linkerd") else _rendered_by_helm():
        made.kubectl("apply", "-f", "-", stdin=manifests)
    for name in ("linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"):
        made.kubectl("rollout", "status", "deployment", name, "-n", "linkerd", "--timeout=90s")


def _rendered_by_the_cli():
    # A rehearsal's nodes have no container runtime that its checks would know.
    for options in (("--crds", "--set", "installGatewayAPI=true"), ()):
        yield _written("linkerd", "install", "--ignore-cluster", *options)


def _rendered_by_helm():
    """linkerd2 cli/cmd/options.go, initializeIssuerCredentials; cli/cmd/install.go, renderOverrides."""
    root = make_certificate("identity.linkerd.cluster.local", days=365)
    yield json.dumps(NAMESPACE)
    yield _template("linkerd-crds", {"installGatewayAPI": True})
    yield _template("linkerd-control-plane", _credentials(root))
    yield json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "linkerd-config-overrides", "namespace": "linkerd"},
            "stringData": {"linkerd-config-overrides": json.dumps(_credentials(root))},
        }
    )


def _credentials(root: Pair) -> dict[str, object]:
    issuer = {"scheme": "linkerd.io/tls", "tls": {"crtPEM": root.pem, "keyPEM": root.key_pem}}
    return {"identityTrustAnchorsPEM": root.pem, "identity": {"issuer": issuer}}


def _template(chart: str, values: dict[str, object]) -> str:
    directory = str(charts_of_linkerd() / chart)
    return _written(
        *ensure().helm, "template", chart, directory, "-n", "linkerd", "--values=-", given=json.dumps(values)
    )


def _written(*command: str, given: str = "") -> str:
    result = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
