"""Linkerd's control plane on a cluster of the tests, with credentials that a test makes and changes as it likes."""

import asyncio
import base64
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from rehearsal.cluster import Cluster
from rehearsal.connection import connect
from tests.certificates import Pair, make_certificate

NAMESPACE = "linkerd"
_ISSUER = "identity.linkerd.cluster.local"


def wait_until(reached, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return value


@dataclass
class ControlPlane:
    """A release of the chart, and the Secret of its issuer."""

    cluster: Cluster
    helm: list[str]
    charts: Path

    def install(self, bundle: str, **identity_issuer: str):
        """Install it, or change what it trusts."""
        values = {
            "identityTrustAnchorsPEM": bundle,
            "identity": {"issuer": {"scheme": "kubernetes.io/tls", **identity_issuer}},
        }
        command = ["upgrade", "--install", "linkerd-control-plane", str(self.charts / "linkerd-control-plane")]
        where = ["--namespace", NAMESPACE, f"--kubeconfig={self.cluster.kubeconfig}", "--values=-", "--wait"]
        result = subprocess.run(
            [*self.helm, *command, *where], input=json.dumps(values), capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr

    def create_namespace(self):
        labels = {"linkerd.io/is-control-plane": "true", "config.linkerd.io/admission-webhooks": "disabled"}
        self.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})

    def set_issuer(self, root: Pair) -> Pair:
        """Put a new identity issuer under a root into its Secret."""
        issuer = make_certificate(_ISSUER, issuer=root, path_length=0)
        data = {"tls.crt": issuer.pem, "tls.key": issuer.key_pem, "ca.crt": root.pem}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "linkerd-identity-issuer"},
            "type": "kubernetes.io/tls",
            "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
        }
        self.apply(f"/api/v1/namespaces/{NAMESPACE}/secrets/linkerd-identity-issuer", secret)
        return issuer

    def pods(self, namespace: str, labels: str = "") -> list[dict]:
        path = f"/api/v1/namespaces/{namespace}/pods"
        return self.get(f"{path}?labelSelector={labels}")["items"]

    def identity_pod(self) -> dict:
        """The one replica of the identity service, once it is ready."""

        def find():
            found = self.pods(NAMESPACE, "linkerd.io/control-plane-component=identity")
            return len(found) == 1 and is_ready(found[0]) and found[0]

        return wait_until(find)

    def get(self, path: str) -> dict:
        return self._call("GET", path)

    def post(self, path: str, body: dict) -> dict:
        return self._call("POST", path, json=body)

    def patch(self, path: str, body: dict) -> dict:
        return self._call("PATCH", path, json=body, headers={"Content-Type": "application/merge-patch+json"})

    def apply(self, path: str, body: dict) -> dict:
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self._call("PATCH", f"{path}?fieldManager=tests&force=true", json=body, headers=headers)

    def delete(self, path: str):
        self._call("DELETE", path)

    def _call(self, method: str, path: str, **request) -> dict:
        with self.cluster.client() as api:
            response = api.request(method, path, **request)
        assert response.is_success, response.text
        return response.json()


def is_ready(pod: dict) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def proxy_of(pod: dict) -> dict | None:
    """The proxy of a pod: a native sidecar, as the chart's default has it."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    found = [entry for entry in containers if entry["name"] == "linkerd-proxy"]
    assert len(found) < 2
    return found[0] if found else None


def anchors_of(pod: dict) -> str:
    """The trust anchors that are written into a pod."""
    proxy = proxy_of(pod)
    assert proxy is not None
    return next(entry["value"] for entry in proxy["env"] if entry["name"] == "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS")


def forward(cluster: Cluster, function, *arguments):
    """Call one of meshtrust.cluster.connection.port_forward's functions for a cluster."""

    async def call():
        api = await connect(cluster.context, str(cluster.kubeconfig))
        return await function(api, *arguments)

    return asyncio.run(call())
