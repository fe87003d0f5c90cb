"""The kind Link of linkerd-multicluster on a cluster: a schema of its fields, and the objects.

Nothing mirrors services here: what is judged of a Link is what its object says.
"""

from tests.rehearsal.control_plane import wait_until

GROUP = "multicluster.linkerd.io"
NAMESPACE = "linkerd-multicluster"
IDENTITY = f"linkerd-gateway.{NAMESPACE}.serviceaccount.identity.linkerd.cluster.local"
VERSIONS = ("v1alpha1", "v1alpha2", "v1alpha3")
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_MERGE = {"Content-Type": "application/merge-patch+json"}
_TEXTS = (
    "targetClusterName",
    "targetClusterDomain",
    "targetClusterLinkerdNamespace",
    "clusterCredentialsSecret",
    "gatewayAddress",
    "gatewayIdentity",
    "gatewayPort",
)


def install_links(cluster):
    """Have a cluster know the kind, in every version that linkerd2 serves."""
    spec = {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "links", "singular": "link", "kind": "Link"},
        "versions": [_version(name, served=True) for name in VERSIONS],
    }
    with cluster.client() as api:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        _apply(api, f"/api/v1/namespaces/{NAMESPACE}", namespace)
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"links.{GROUP}"},
            "spec": spec,
        }
        api.post(_CRDS, json=body).raise_for_status()
        wait_until(lambda: api.get(_path(VERSIONS[-1])).is_success and _prefers(api, VERSIONS[-1]))


def serve_only_the_first_version(cluster):
    """Have a cluster serve the kind as an older linkerd-multicluster does."""
    versions = [_version(name, served=name == VERSIONS[0]) for name in VERSIONS]
    with cluster.client() as api:
        patch = {"spec": {"versions": versions}}
        api.patch(f"{_CRDS}/links.{GROUP}", json=patch, headers=_MERGE).raise_for_status()
        wait_until(lambda: _prefers(api, VERSIONS[0]))


def remove_links(cluster):
    """Have a cluster forget the kind, and all Links with it."""
    with cluster.client() as api:
        api.delete(f"{_CRDS}/links.{GROUP}").raise_for_status()
        wait_until(lambda: api.get(f"/apis/{GROUP}").status_code == 404)


def apply_link(cluster, target, **spec):
    """Link a cluster to another one, as `linkerd multicluster link-gen` writes it, or change the Link."""
    whole = {
        "targetClusterName": target,
        "targetClusterDomain": "cluster.local",
        "targetClusterLinkerdNamespace": "linkerd",
        "clusterCredentialsSecret": f"cluster-credentials-{target}",
        "gatewayAddress": "192.0.2.7",
        "gatewayPort": "4143",
        "gatewayIdentity": IDENTITY,
        **spec,
    }
    body = {"apiVersion": f"{GROUP}/{VERSIONS[-1]}", "kind": "Link", "metadata": {"name": target}, "spec": whole}
    with cluster.client() as api:
        _apply(api, f"/apis/{GROUP}/{VERSIONS[-1]}/namespaces/{NAMESPACE}/links/{target}", body)


def _apply(api, path, body):
    headers = {"Content-Type": "application/apply-patch+yaml"}
    api.patch(f"{path}?fieldManager=tests&force=true", json=body, headers=headers).raise_for_status()


def _version(name, *, served):
    texts = {text: {"type": "string"} for text in _TEXTS}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": texts}}}
    return {
        "name": name,
        "served": served,
        "storage": name == VERSIONS[-1],
        "schema": {"openAPIV3Schema": schema},
    }


def _path(version):
    return f"/apis/{GROUP}/{version}/links"


def _prefers(api, version):
    found = api.get(f"/apis/{GROUP}")
    return found.is_success and found.json()["preferredVersion"]["version"] == version
