"""A Linkerd of `linkerd install`: its objects are marked for Helm, and its issuer's Secret is given Kubernetes' type.

`linkerd install` leaves no release of Helm, and a Secret of a type of its own, which cert-manager can never write. The
type of a Secret cannot change, so that it is deleted and written again. The identity service goes on with the issuer
that it has read, as long as its pods do not restart.
"""

import base64
from collections.abc import Mapping
from typing import Any

from cryptography import x509

from meshtrust.cluster.api import (
    CONFIGMAPS,
    CRONJOBS,
    DEFINITIONS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    SECRETS,
    Api,
    ConflictError,
    NotFoundError,
    Object,
    Resource,
)
from meshtrust.cluster.helm_release import mark_as_own
from meshtrust.names import (
    CONTROL_PLANE_NAMESPACE_LABEL,
    IDENTITY_ISSUER,
    KUBERNETES_TLS,
    LINKERD_TLS,
    SECRET_KEYS,
)
from meshtrust.pki.pem import to_pem

# Holds the issuer between the deletion of its Secret and the next one: a run may be killed there.
KEPT = f"{IDENTITY_ISSUER}-kept"

_RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"
# Kinds of linkerd2 ``charts/linkerd-control-plane/templates``; each has the control plane's label.
_IN_NAMESPACE = (
    Resource("v1", "serviceaccounts", "ServiceAccount"),
    SECRETS,
    CONFIGMAPS,
    Resource(_RBAC, "roles", "Role"),
    Resource(_RBAC, "rolebindings", "RoleBinding"),
    Resource("v1", "services", "Service"),
    DEPLOYMENTS,
    CRONJOBS,
    DISRUPTION_BUDGETS,
)
_OF_CLUSTER = (
    Resource(_RBAC, "clusterroles", "ClusterRole"),
    Resource(_RBAC, "clusterrolebindings", "ClusterRoleBinding"),
    Resource(_ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
    Resource(_ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
)


async def mark_for_helm(api: Api, namespace: str, release: str, *, is_control_plane: bool) -> int:
    """Mark what `linkerd install` has made as parts of a Helm release, and return how many objects that are.

    The next installation of that release takes them over (helm ``pkg/action/validate.go``). What another release owns
    is left as it is.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        release: Name of the release.
        is_control_plane: Whether it is that of the control plane; else it is that of Linkerd's definitions.

    Raises:
        ClusterError: An object cannot be read or marked.
    """
    labels = f"{CONTROL_PLANE_NAMESPACE_LABEL}={namespace}"
    places = [(DEFINITIONS, "")]
    if is_control_plane:
        places = [*((kind, namespace) for kind in _IN_NAMESPACE), *((kind, "") for kind in _OF_CLUSTER)]
    marked = 0
    for kind, where in places:
        found = [item async for item in api.list(kind, namespace=where, labels=labels, metadata_only=True)]
        for item in found:
            marked += await mark_as_own(api, kind, item, (namespace, release))
    return marked


async def find_issuer_secret(api: Api, namespace: str) -> Object | None:
    """Return the identity issuer's Secret, or what a killed conversion has kept of it; None if there is neither.

    Raises:
        ClusterError: It cannot be read.
    """
    secret = await api.find(SECRETS, IDENTITY_ISSUER, namespace=namespace)
    return secret or await api.find(SECRETS, KEPT, namespace=namespace)


async def convert_issuer_secret(api: Api, namespace: str, root: x509.Certificate) -> None:
    """Write the identity issuer's Secret with Kubernetes' own type and keys; the issuer in it stays.

    A run that is killed meanwhile leaves the issuer in a Secret beside it, from which the next one goes on.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        root: The root that the issuer chains to.

    Raises:
        ClusterError: A Secret cannot be read, written or deleted.
    """
    secret = await api.find(SECRETS, IDENTITY_ISSUER, namespace=namespace)
    if secret is not None and _is_of_the_cli(secret):
        # One that an earlier run has left may be older than what is in use.
        await _delete(api, namespace, KEPT)
        await api.create(SECRETS, _named(KEPT, converted(secret, root)), namespace=namespace)
        await _delete(api, namespace, IDENTITY_ISSUER)
        secret = None
    kept = await api.find(SECRETS, KEPT, namespace=namespace)
    if kept is None:
        return
    if secret is None:
        try:
            await api.create(SECRETS, _named(IDENTITY_ISSUER, kept), namespace=namespace)
        except ConflictError:
            # The answer to the first of two requests was lost, or whoever renews the issuer has just written it.
            await api.get(SECRETS, IDENTITY_ISSUER, namespace=namespace)
    await _delete(api, namespace, KEPT)


def converted(secret: Mapping[str, Any], root: x509.Certificate) -> dict[str, Any]:
    """Return a Secret of `linkerd install` as one of Kubernetes' own type; any other one as it is.

    Args:
        secret: The Secret.
        root: The root that its issuer chains to.
    """
    if not _is_of_the_cli(secret):
        return dict(secret)
    given = secret.get("data") or {}
    keys = zip(SECRET_KEYS[KUBERNETES_TLS], SECRET_KEYS[LINKERD_TLS], strict=True)
    data = {new: given[old] for new, old in keys if old in given}
    root_pem = base64.b64encode(f"{to_pem(root)}\n".encode()).decode()
    return {**secret, "type": KUBERNETES_TLS, "data": {**data, "ca.crt": root_pem}}


def _is_of_the_cli(secret: Mapping[str, Any]) -> bool:
    """Whether a Secret has Linkerd's own keys (linkerd2 ``charts/linkerd-control-plane/templates/identity.yaml``)."""
    return secret.get("type") != KUBERNETES_TLS and SECRET_KEYS[LINKERD_TLS][0] in (secret.get("data") or {})


def _named(name: str, secret: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new Secret with the content of another one."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": KUBERNETES_TLS,
        "data": secret["data"],
    }


async def _delete(api: Api, namespace: str, name: str) -> None:
    try:
        await api.delete(SECRETS, name, namespace=namespace)
    except NotFoundError:
        return
