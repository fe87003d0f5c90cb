"""A client of a cluster that leaves no copy of its credentials on the disk.

kr8s copies a key or certificate that a kubeconfig holds itself into a file, because Python reads them from one only. It
leaves that behind each time that it reads credentials (its ``_auth.py``, ``NamedTemporaryFile(delete=False)``).
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import kr8s.asyncio
from kr8s._auth import KubeAuth


async def open_api(kubeconfig: Any, context: str | None, service_account: str | None = None) -> kr8s.asyncio.Api:
    """Return a client that has reached its API server; otherwise as ``kr8s.asyncio.api``, whose errors it raises.

    Args:
        kubeconfig: A kubeconfig's path, or its content; None is the ambient one.
        context: Name of the context; None is the current one.
        service_account: Directory of a service account to use where there is no kubeconfig; empty for none.
    """
    # Not by `kr8s.asyncio.api`: nobody else may get this client, and it has the credentials from the first request on.
    api = kr8s.asyncio.Api(kubeconfig=kubeconfig, context=context, serviceaccount=service_account, bypass_factory=True)
    api.auth = _Credentials(kubeconfig=kubeconfig, context=context, serviceaccount=service_account)
    await api
    return api


class _Credentials(KubeAuth):
    """Credentials whose copies are gone once they have been read, or could not be."""

    _read: ssl.SSLContext | bool = True

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._one_at_a_time = asyncio.Lock()

    async def reauthenticate(self) -> None:
        """Read them, in an event loop of their own.

        kr8s reads files by anyio, whose threads wait for more until the first task of their loop has ended. A refused
        run ends its process from within that task, by `SystemExit`, and such a thread would keep the process for ever.
        """
        async with self._one_at_a_time:
            await asyncio.to_thread(lambda: asyncio.run(self._read_and_clear()))

    async def _read_and_clear(self) -> None:
        try:
            await super().reauthenticate()
            self._read = await super().ssl_context()  # type: ignore[no-untyped-call]
        finally:
            self._remove_copies()

    async def ssl_context(self) -> ssl.SSLContext | bool:
        """Return what was read, for a session."""
        return self._read

    def _remove_copies(self) -> None:
        # What is in the kubeconfig itself goes before a file that it names: these are never the user's own.
        copies = [
            (self._user, "client-key-data", self.client_key_file),
            (self._user, "client-certificate-data", self.client_cert_file),
            (self._cluster, "certificate-authority-data", self.server_ca_file),
        ]
        for holder, key, path in copies:
            if key in holder and path:
                Path(path).unlink(missing_ok=True)
