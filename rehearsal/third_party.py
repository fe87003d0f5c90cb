"""A third party that writes the identity issuer's Secret, with the habits of the operators that people use.

The External Secrets Operator makes Opaque Secrets with the keys that its template has, and deletes what it owns to
change what cannot be changed; Vault's own operator and agents write a bundle into tls.crt, or each file by itself
(External Secrets Operator, ExternalSecret, target.template; Vault Secrets Operator, VaultPKISecret).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rehearsal.cluster import Cluster
from rehearsal.errors import RehearsalError


@dataclass(frozen=True)
class SecretWriter:
    """A writer of one Secret.

    Attributes:
        cluster: The cluster.
        namespace: Namespace of the Secret.
        name: Its name.
        type: The type that it is made with, which never changes.
    """

    cluster: Cluster
    namespace: str
    name: str
    type: str = field(default="Opaque", kw_only=True)

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    def create(self, texts: Mapping[str, str]) -> None:
        """Make the Secret.

        Raises:
            RehearsalError: The API server refuses.
        """
        body = {"metadata": {"name": self.name}, "type": self.type, "data": _encoded(texts)}
        self._call("POST", self._path, json=body)

    def delete(self) -> None:
        """Delete the Secret.

        Raises:
            RehearsalError: It is not there.
        """
        self._call("DELETE", f"{self._path}/{self.name}")

    def update(self, texts: Mapping[str, str | None]) -> None:
        """Write some of its keys and leave the others; a key of None goes.

        Raises:
            RehearsalError: The API server refuses.
        """
        data: dict[str, str | None] = dict(_encoded({key: text for key, text in texts.items() if text is not None}))
        data |= {key: None for key, text in texts.items() if text is None}
        headers = {"Content-Type": "application/merge-patch+json"}
        self._call("PATCH", f"{self._path}/{self.name}", json={"data": data}, headers=headers)

    def _call(self, method: str, path: str, **request: Any) -> None:
        with self.cluster.client() as api:
            response = api.request(method, path, **request)
        if response.is_error:
            msg = f"{method} {path} was refused: {response.json().get('message', response.text)}"
            raise RehearsalError(msg)


def _encoded(texts: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
