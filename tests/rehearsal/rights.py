"""The accounts of deploy/rbac on a cluster, and their rights less one."""

import contextlib
import json

import yaml

from rehearsal.workspace import REPOSITORY

RBAC = REPOSITORY / "deploy" / "rbac"
PATHS = {
    "ServiceAccount": "/api/v1/namespaces/linkerd/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/linkerd/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/linkerd/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}


def grant(api, file):
    """Give a cluster the roles and accounts of one of the files."""
    for document in yaml.safe_load_all((RBAC / file).read_text()):
        api.post(PATHS[document["kind"]], json=document).raise_for_status()


def write_kubeconfig(cluster, name, directory):
    """Return the path of a kubeconfig that leads to a cluster as one of the accounts."""
    with cluster.client() as api:
        path = f"{PATHS['ServiceAccount']}/meshtrust-{name}/token"
        token = api.post(path, json={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        token.raise_for_status()
    config = json.loads(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token.json()["status"]["token"]}
    written = directory / f"{cluster.name}-{name}"
    written.write_text(json.dumps(config))
    written.chmod(0o600)
    return written


@contextlib.contextmanager
def without(cluster, kind, name, resource):
    """Take away the rule of a role about a resource meanwhile."""
    with cluster.client() as api:
        path = f"{PATHS[kind]}/{name}"
        role = api.get(path).json()
        less = [rule for rule in role["rules"] if resource not in rule["resources"]]
        assert len(less) < len(role["rules"])
        patch = {"headers": {"Content-Type": "application/merge-patch+json"}}
        api.patch(path, json={"rules": less}, **patch).raise_for_status()
        try:
            yield
        finally:
            api.patch(path, json={"rules": role["rules"]}, **patch).raise_for_status()
