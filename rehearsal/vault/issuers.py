"""cert-manager issuers on an OpenBao server, with each way to log in that cert-manager has for a cluster.

Source: cert-manager, Vault issuer: AppRole, Kubernetes by a service account's token, and a static token.
"""

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from meshtrust.names import CERT_MANAGER_API
from rehearsal.cluster import Cluster
from rehearsal.errors import RehearsalError
from rehearsal.vault.pki import allow_signing
from rehearsal.vault.server import OpenBao

# Where cert-manager reads what a ClusterIssuer names.
NAMESPACE = "cert-manager"
_READY_SECONDS = 60
_CORE, _RBAC = f"/api/v1/namespaces/{NAMESPACE}", "/apis/rbac.authorization.k8s.io/v1"
_ISSUERS = f"/apis/{CERT_MANAGER_API}/clusterissuers"
LogIn = Callable[[OpenBao, httpx.Client, str], dict[str, Any]]


def make_vault_issuer(bao: OpenBao, name: str, path: str, log_in: LogIn | None = None, **changed: Any) -> None:
    """Make a ClusterIssuer that signs by a path of the server, with a policy for that path alone.

    Args:
        bao: The server; the issuer is made in the cluster that it runs beside.
        name: Name of the ClusterIssuer.
        path: Where it signs, such as `pki/root/sign-intermediate`.
        log_in: How cert-manager logs in; by Kubernetes' own tokens unless given.
        changed: Members of `spec.vault` that are to be otherwise; None leaves one out.
    """
    allow_signing(bao, name, path)
    with bao.cluster.client() as api:
        vault = {
            "server": bao.address,
            "path": path,
            "caBundle": _base64(bao.ca_pem),
            "auth": (log_in or by_kubernetes)(bao, api, name),
            **changed,
        }
        spec = {"vault": {key: value for key, value in vault.items() if value is not None}}
        body = {"apiVersion": CERT_MANAGER_API, "kind": "ClusterIssuer", "metadata": {"name": name}, "spec": spec}
        apply(api, f"{_ISSUERS}/{name}", body)


def by_kubernetes(bao: OpenBao, api: httpx.Client, name: str) -> dict[str, Any]:
    """Let cert-manager log in by a token that it requests for a service account, and the server have it reviewed."""
    _enable(bao, "kubernetes")
    reviewer = _service_account(api, "vault-reviewer")
    apply(
        api,
        f"{_RBAC}/clusterrolebindings/vault-reviewer",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "vault-reviewer"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [reviewer],
        },
    )
    token = api.post(f"{_CORE}/serviceaccounts/vault-reviewer/token", json={"spec": {}}).raise_for_status().json()
    bao.write(
        "auth/kubernetes/config",
        kubernetes_host=str(api.base_url).rstrip("/"),
        kubernetes_ca_cert=(bao.cluster.directory / "ca.crt").read_text(),
        token_reviewer_jwt=token["status"]["token"],
        disable_local_ca_jwt=True,
    )
    _service_account(api, name)
    _let_cert_manager_request_tokens(api, name)
    bao.write(
        f"auth/kubernetes/role/{name}",
        bound_service_account_names=[name],
        bound_service_account_namespaces=[NAMESPACE],
        # cert-manager asks for a token of this audience (internal/vault/vault.go, requestTokenWithKubernetesAuth).
        audience=f"vault://{name}",
        token_policies=[name],
        token_ttl="10m",  # noqa: S106 a time
    )
    return {"kubernetes": {"mountPath": "/v1/auth/kubernetes", "role": name, "serviceAccountRef": {"name": name}}}


def by_app_role(bao: OpenBao, api: httpx.Client, name: str) -> dict[str, Any]:
    """Let cert-manager log in by an AppRole, whose secret id is in a Secret."""
    _enable(bao, "approle")
    bao.write(f"auth/approle/role/{name}", token_policies=[name], token_ttl="10m")  # noqa: S106 a time
    role = bao.call("GET", f"auth/approle/role/{name}/role-id")["role_id"]
    secret = bao.call("POST", f"auth/approle/role/{name}/secret-id")["secret_id"]
    write_secret(api, name, {"secretId": secret})
    return {"appRole": {"path": "approle", "roleId": role, "secretRef": {"name": name, "key": "secretId"}}}


def by_token(bao: OpenBao, api: httpx.Client, name: str) -> dict[str, Any]:
    """Let cert-manager use a token that is in a Secret, and that nobody renews."""
    made = bao.write("auth/token/create", policies=[name], ttl="24h", no_parent=True)
    token = (made.get("auth") or made)["client_token"]
    write_secret(api, name, {"token": token})
    return {"tokenSecretRef": {"name": name, "key": "token"}}


def wait_ready(cluster: Cluster, name: str) -> None:
    """Wait until cert-manager has logged in for a ClusterIssuer.

    Raises:
        RehearsalError: It does not become ready in time; the message has cert-manager's reason.
    """
    deadline = time.monotonic() + _READY_SECONDS
    with cluster.client() as api:
        while True:
            issuer = api.get(f"{_ISSUERS}/{name}").raise_for_status().json()
            conditions = issuer.get("status", {}).get("conditions", [])
            if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions):
                return
            if time.monotonic() > deadline:
                reason = "; ".join(entry.get("message", "") for entry in conditions) or "nothing"
                msg = f"ClusterIssuer {name} does not become ready. cert-manager says of it: {reason}"
                raise RehearsalError(msg)
            time.sleep(0.1)


def write_secret(api: httpx.Client, name: str, texts: Mapping[str, str]) -> None:
    """Write a Secret into the namespace that ClusterIssuers read."""
    data = {key: _base64(text) for key, text in texts.items()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
    apply(api, f"{_CORE}/secrets/{name}", body)


def apply(api: httpx.Client, path: str, body: Mapping[str, Any]) -> None:
    """Make an object as it is given, or change it so.

    Raises:
        RehearsalError: The API server refuses.
    """
    response = api.patch(
        path,
        params={"fieldManager": "rehearsal", "force": "true"},
        json=body,
        headers={"Content-Type": "application/apply-patch+yaml"},
    )
    if response.is_error:
        msg = f"{path} was refused: {response.json().get('message', response.text)}"
        raise RehearsalError(msg)


def _service_account(api: httpx.Client, name: str) -> dict[str, str]:
    """Make a service account; return it as the subject of a binding."""
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    apply(api, f"{_CORE}/serviceaccounts/{name}", body)
    return {"kind": "ServiceAccount", "namespace": NAMESPACE, "name": name}


def _let_cert_manager_request_tokens(api: httpx.Client, name: str) -> None:
    group = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [name], "verbs": ["create"]}
    role, binding = f"{_RBAC}/namespaces/{NAMESPACE}/roles", f"{_RBAC}/namespaces/{NAMESPACE}/rolebindings"
    meta = {"apiVersion": f"{group}/v1", "metadata": {"name": f"tokens-of-{name}"}}
    apply(api, f"{role}/tokens-of-{name}", {**meta, "kind": "Role", "rules": [rule]})
    subject = {"kind": "ServiceAccount", "namespace": NAMESPACE, "name": "cert-manager"}
    reference = {"apiGroup": group, "kind": "Role", "name": f"tokens-of-{name}"}
    body = {**meta, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    apply(api, f"{binding}/tokens-of-{name}", body)


def _enable(bao: OpenBao, method: str) -> None:
    if f"{method}/" not in bao.call("GET", "sys/auth"):
        bao.write(f"sys/auth/{method}", type=method)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
