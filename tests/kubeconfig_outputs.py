"""Kubeconfigs as stacks export them that have made a cluster, in the shapes of the clouds."""

import base64
from typing import Any

from tests.certificates import make_certificate

TOKEN = "hush-token"
CLIENT_KEY = base64.b64encode(b"hush client key").decode()
_AUTHORITY = base64.b64encode(make_certificate().pem.encode()).decode()


def kubeconfig(
    user: dict[str, Any], *, name: str = "aws", server: str = "https://10.0.0.1", **cluster: Any
) -> dict[str, Any]:
    """Return one with a single context, whose names are the same."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": _AUTHORITY, **cluster}}
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "users": [{"name": name, "user": user}],
        "preferences": {},
    }


def _command(command: str, arguments: list[str]) -> dict[str, Any]:
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": command,
            "args": arguments,
            "env": None,
            "installHint": "Install it",
            "provideClusterInfo": True,
        }
    }


# pulumi-eks nodejs/eks/cluster.ts, generateKubeconfig: an object; the user is a command.
EKS = kubeconfig(_command("aws", ["--region", "eu-west-1", "eks", "get-token", "--cluster-name", "mesh"]))
# gcloud container clusters get-credentials.
GKE = kubeconfig(_command("gke-gcloud-auth-plugin", []), name="gke_project_zone_mesh")
# The API of AKS, listManagedClusterUserCredentials: an administrator has a certificate and a token.
AKS = kubeconfig({"client-certificate-data": _AUTHORITY, "client-key-data": CLIENT_KEY, "token": TOKEN}, name="mesh")
# kind get kubeconfig.
KIND = kubeconfig({"client-certificate-data": _AUTHORITY, "client-key-data": CLIENT_KEY}, name="kind-mesh")
