"""The files that a pod has of its service account, with a token that the API server has made."""

import base64
import json
from pathlib import Path


def request_token(cluster, namespace, account):
    """Return a token of a service account."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    with cluster.client() as api:
        made = api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", json=request)
    made.raise_for_status()
    return made.json()["status"]["token"]


def write_service_account(cluster, directory: Path, namespace, account):
    """Write token and ca.crt of an account as the kubelet mounts them."""
    held = json.loads(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    (directory / "token").write_text(request_token(cluster, namespace, account))
    (directory / "ca.crt").write_bytes(base64.b64decode(held["certificate-authority-data"]))
