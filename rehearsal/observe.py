"""Observer of a rehearsal cluster: Certificates, Secrets and inventory; it can order a renewal."""

import base64
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from meshtrust.names import CERT_MANAGER_API
from meshtrust.pki.pem import read_bundle
from rehearsal.cluster import Cluster
from rehearsal.errors import RehearsalError

# Kinds of which a destroyed stack must leave nothing behind.
_INVENTORY = (
    ("", "v1", "namespaces"),
    ("", "v1", "configmaps"),
    ("", "v1", "secrets"),
    ("", "v1", "services"),
    ("", "v1", "serviceaccounts"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "cronjobs"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("rbac.authorization.k8s.io", "v1", "clusterroles"),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "v1", "roles"),
    ("rbac.authorization.k8s.io", "v1", "rolebindings"),
    ("coordination.k8s.io", "v1", "leases"),
)

# What Kubernetes puts into every namespace, sooner or later; a namespace that is left stands for itself.
_SETTLING_SECONDS = 30
_IN_EVERY_NAMESPACE = {"configmaps": "kube-root-ca.crt", "serviceaccounts": "default"}


class Observer:
    """Reads a rehearsal cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._api = cluster.client()

    def secret_certificate(self, namespace: str, name: str) -> x509.Certificate:
        """Return the first certificate of a TLS Secret."""
        data = self._get(f"/api/v1/namespaces/{namespace}/secrets/{name}")["data"]
        return read_bundle(base64.b64decode(data["tls.crt"]).decode())[0]

    def renew_certificate(self, namespace: str, name: str) -> None:
        """Make cert-manager renew a Certificate.

        Source: cmctl ``pkg/renew/renew.go``, which sets the condition Issuing with the reason ManuallyTriggered.
        """
        path = f"/apis/{CERT_MANAGER_API}/namespaces/{namespace}/certificates/{name}"
        certificate = self._settled(path)
        others = [entry for entry in certificate["status"]["conditions"] if entry["type"] != "Issuing"]
        condition = {
            "type": "Issuing",
            "status": "True",
            "reason": "ManuallyTriggered",
            "message": "Certificate re-issuance manually triggered by a rehearsal",
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "observedGeneration": certificate["metadata"]["generation"],
        }
        self._call(
            "PATCH",
            f"{path}/status",
            json={"status": {"conditions": [*others, condition]}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def _settled(self, path: str) -> dict[str, Any]:
        """Return a Certificate once cert-manager has ended what it issues: its last word would take an order back."""
        deadline = time.monotonic() + _SETTLING_SECONDS
        while True:
            certificate: dict[str, Any] = self._get(path)
            if not _is_issuing(certificate):
                return certificate
            if time.monotonic() > deadline:
                msg = f"cert-manager has issued {path} for {_SETTLING_SECONDS} seconds and has not ended."
                raise RehearsalError(msg)
            time.sleep(0.1)

    def wait_for_another(
        self, namespace: str, name: str, old: x509.Certificate, timeout_seconds: float
    ) -> x509.Certificate:
        """Return a TLS Secret's certificate once it is another one."""
        deadline = time.monotonic() + timeout_seconds
        while (new := self.secret_certificate(namespace, name)) == old:
            if time.monotonic() > deadline:
                msg = f"Secret {namespace}/{name} holds the same certificate after {timeout_seconds:.0f} seconds."
                raise RehearsalError(msg)
            time.sleep(0.1)
        return new

    def inventory(self) -> set[str]:
        """Return all objects of the kinds that a stack makes, by path, except those that its chart keeps."""
        found = set()
        for group, version, plural in _INVENTORY:
            prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
            for item in self._get(f"{prefix}/{plural}")["items"] or []:
                metadata = item["metadata"]
                # Helm keeps these when it uninstalls, because their chart asks for it.
                kept = metadata.get("annotations", {}).get("helm.sh/resource-policy") == "keep"
                if not kept and metadata["name"] != _IN_EVERY_NAMESPACE.get(plural):
                    found.add(f"{plural}/{metadata.get('namespace', '')}/{metadata['name']}")
        return found

    def wait_for_inventory(self, before: set[str], timeout_seconds: float) -> None:
        """Wait until there is nothing that was not there before.

        Raises:
            RehearsalError: Something is left; the message lists it.
        """
        deadline = time.monotonic() + timeout_seconds
        while left := self.inventory() - before:
            if time.monotonic() > deadline:
                msg = f"The destroyed stack has left behind: {', '.join(sorted(left))}."
                raise RehearsalError(msg)
            time.sleep(0.2)

    def _get(self, path: str) -> Any:
        return self._call("GET", path)

    def _call(self, method: str, path: str, **request: Any) -> Any:
        response = self._api.request(method, path, **request)
        if response.is_error:
            msg = f"{method} {path} was refused: {response.json().get('message', response.text)}"
            raise RehearsalError(msg)
        return response.json()


def _is_issuing(certificate: Mapping[str, Any]) -> bool:
    conditions = (certificate.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Issuing" and entry["status"] == "True" for entry in conditions)
