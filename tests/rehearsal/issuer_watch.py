"""Sees every state that the identity issuer's Secret goes through, and whether a mesh could sign with each of them."""

import base64
import json
import threading
from datetime import UTC, datetime

import httpx

from meshtrust.pki.chain import verify_chain
from meshtrust.pki.pem import fingerprint, read_bundle
from meshtrust.pki.private_key import read_private_key

PATH = "/api/v1/namespaces/linkerd/secrets"
NAMED = {"fieldSelector": "metadata.name=linkerd-identity-issuer"}


def content(secret):
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


class IssuerWatch:
    """Watches the Secret from now on; `issuers` are the issuers it has held, `wrong` what no mesh could have used."""

    def __init__(self, cluster, roots):
        self.issuers, self.wrong = [], []
        self._roots = roots
        self._client = cluster.client()
        listed = self._client.get(PATH, params=NAMED).json()
        for secret in listed["items"]:
            self._see("ADDED", secret)
        self._version = listed["metadata"]["resourceVersion"]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.close()
        self._thread.join(10)

    def _watch(self):
        params = {**NAMED, "watch": "true", "resourceVersion": self._version}
        try:
            with self._client.stream("GET", PATH, params=params, timeout=None) as response:
                for line in response.iter_lines():
                    event = json.loads(line)
                    self._see(event["type"], event["object"])
        except (httpx.HTTPError, httpx.StreamError, RuntimeError, OSError):
            # The client was closed at the end of the watch.
            return

    def _see(self, kind, secret):
        if kind == "DELETED":
            self.wrong.append("it was deleted")
            return
        try:
            data = content(secret)
            issuer = read_bundle(data["tls.crt"])
            verify_chain(issuer, self._roots, datetime.now(UTC))
            assert read_private_key(data["tls.key"]).public_key() == issuer[0].public_key()
        except Exception as error:  # noqa: BLE001 whatever it is, a mesh could not have used it
            self.wrong.append(f"{kind}: {error}")
            return
        mark = fingerprint(issuer[0])
        if mark not in self.issuers:
            self.issuers.append(mark)
