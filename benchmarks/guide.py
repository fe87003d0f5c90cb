"""Linkerd's guide as a script of helm and kubectl, without any state: what the program is measured against."""

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.machine import is_gone, wait_until
from meshtrust.names import (
    CERT_MANAGER_API,
    IDENTITY_ISSUER,
    KUBERNETES_TLS,
    LINKERD_CONTROL_PLANE,
    LINKERD_CRDS,
    TRUST_ANCHOR,
)
from rehearsal.cluster import Cluster, ensure
from rehearsal.mesh import charts

_SECONDS = 300
_NAMESPACE = "linkerd"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CERTIFICATES = f"/apis/{CERT_MANAGER_API}/namespaces/linkerd"


class Guide:
    """Runs the steps of Linkerd's guide "Automatically Rotating Control Plane TLS Credentials" on a cluster.

    What kubectl would do goes to the API by one client, which saves the script the start of a process for each step.
    """

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._cluster, self._directory = cluster, directory

    def deploy(self) -> None:
        """Make or update everything, and wait until it is ready."""
        self._helm("cert-manager", "cert-manager", ensure().charts, {"crds": {"enabled": True}})
        root, key = self._anchor()
        with self._cluster.client() as api:
            _apply(api, "/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": _NAMESPACE}})
            secret = {"type": KUBERNETES_TLS, "stringData": {"tls.crt": root, "tls.key": key}}
            _apply(api, f"/api/v1/namespaces/{_NAMESPACE}/secrets", _named("Secret", TRUST_ANCHOR) | secret)
            issuer = {"apiVersion": CERT_MANAGER_API, "spec": {"ca": {"secretName": TRUST_ANCHOR}}}
            _apply(api, f"{_CERTIFICATES}/issuers", _named("Issuer", TRUST_ANCHOR) | issuer)
            _apply(api, f"{_CERTIFICATES}/certificates", _named("Certificate", IDENTITY_ISSUER) | _CERTIFICATE)
            _wait_ready(api, f"{_CERTIFICATES}/certificates/{IDENTITY_ISSUER}")
        values = {"identityTrustAnchorsPEM": root, "identity": {"issuer": {"scheme": KUBERNETES_TLS}}}
        self._helm(LINKERD_CRDS, _NAMESPACE, charts(), {"installGatewayAPI": True})
        self._helm(LINKERD_CONTROL_PLANE, _NAMESPACE, charts(), values)

    def remove(self) -> None:
        """Remove everything again but cert-manager's definitions, and wait until it is gone."""
        for name, namespace in (
            (LINKERD_CONTROL_PLANE, _NAMESPACE),
            (LINKERD_CRDS, _NAMESPACE),
            ("cert-manager", "cert-manager"),
        ):
            self._run("uninstall", name, "--namespace", namespace, "--wait")
        with self._cluster.client() as api:
            for namespace in (_NAMESPACE, "cert-manager"):
                api.delete(f"/api/v1/namespaces/{namespace}").raise_for_status()
            for namespace in (_NAMESPACE, "cert-manager"):
                _wait(partial(is_gone, api, f"/api/v1/namespaces/{namespace}"))

    def remove_definitions(self) -> None:
        """Remove cert-manager's definitions too, as its documentation has it, and wait until they are gone."""
        with self._cluster.client() as api:
            listed = api.get(_DEFINITIONS, params={"labelSelector": "app.kubernetes.io/instance=cert-manager"})
            paths = [f"{_DEFINITIONS}/{item['metadata']['name']}" for item in listed.raise_for_status().json()["items"]]
            for path in paths:
                api.delete(path).raise_for_status()
            for path in paths:
                _wait(partial(is_gone, api, path))

    def _anchor(self) -> tuple[str, str]:
        """Return the root and its key as PEM: made once, as the guide has it, and kept in files."""
        root, key = self._directory / "ca.crt", self._directory / "ca.key"
        if not root.exists():
            made, private = _self_signed()
            root.write_text(made)
            key.touch(mode=0o600)
            key.write_text(private)
        return root.read_text(), key.read_text()

    def _helm(self, name: str, namespace: str, directory: Path, values: Mapping[str, Any]) -> None:
        path = self._directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        place = ("--namespace", namespace, "--create-namespace", "--values", str(path))
        self._run("upgrade", "--install", name, str(directory / name), *place, "--wait", "--timeout", f"{_SECONDS}s")

    def _run(self, *arguments: str) -> None:
        context = ("--kubeconfig", str(self._cluster.kubeconfig), "--kube-context", self._cluster.context)
        done = subprocess.run([*ensure().helm, *arguments, *context], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)


_CERTIFICATE = {
    "apiVersion": CERT_MANAGER_API,
    "spec": {
        "secretName": IDENTITY_ISSUER,
        "duration": "48h",
        "renewBefore": "25h",
        "issuerRef": {"name": TRUST_ANCHOR, "kind": "Issuer"},
        "commonName": "identity.linkerd.cluster.local",
        "dnsNames": ["identity.linkerd.cluster.local"],
        "isCA": True,
        "privateKey": {"algorithm": "ECDSA"},
        "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    },
}


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": _NAMESPACE}}


def _apply(api: httpx.Client, path: str, body: Mapping[str, Any]) -> None:
    """Apply an object; cert-manager's webhook takes a while to be trusted after its pods are ready."""

    def applied() -> bool:
        response = api.patch(
            f"{path}/{body['metadata']['name']}?fieldManager=guide&force=true",
            json={"apiVersion": "v1", **body},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        if response.is_server_error:
            return False
        response.raise_for_status()
        return True

    _wait(applied)


def _wait_ready(api: httpx.Client, path: str) -> None:
    def ready() -> bool:
        conditions = api.get(path).raise_for_status().json().get("status", {}).get("conditions", [])
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    _wait(ready)


def _wait(done: Callable[[], bool]) -> None:
    wait_until(done, "the guide's script waits in vain", _SECONDS)


def _self_signed() -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root.linkerd.cluster.local")])
    now = datetime.now(UTC)
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = root.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return pem, private.decode()
