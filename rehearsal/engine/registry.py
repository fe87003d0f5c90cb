"""The configured providers of a deployment, by reference `<urn>::<id>`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rehearsal.engine import urns
from rehearsal.engine.errors import ProviderError
from rehearsal.engine.providers import Provider, random, tls
from rehearsal.engine.state import ResourceState, provider_urn
from rehearsal.engine.values import Properties


class Registry:
    """Makes and keeps providers. With `offline` the kubernetes provider plans without a cluster."""

    def __init__(self, *, offline: bool = False) -> None:
        self._factories: dict[str, Callable[[], Provider]] = {
            "random": random.provider,
            "tls": tls.provider,
        }
        self._providers: dict[str, Provider] = {}
        self._lock = threading.Lock()
        self._offline = offline

    def make(self, package: str) -> Provider:
        """A provider without configuration.

        Raises:
            ProviderError: the engine does not serve the package.
        """
        if package == "kubernetes":
            from rehearsal.engine.providers.kubernetes import KubernetesProvider  # noqa: PLC0415 - loads slowly

            return KubernetesProvider(offline=self._offline)
        if package not in self._factories:
            raise ProviderError(
                f"the embedded engine serves the providers kubernetes, random and tls, not '{package}': "
                "put the real pulumi on PATH for it"
            )
        return self._factories[package]()

    def load(self, reference: str, config: Properties) -> Provider:
        """Configure the provider of a provider resource and keep it."""
        provider = self.make(urns.package_of(urns.type_of(provider_urn(reference))))
        provider.configure(config)
        with self._lock:
            self._providers[reference] = provider
        return provider

    def get(self, reference: str, find: Callable[[str], ResourceState | None]) -> Provider:
        """The provider of a reference; `find` gives its resource by URN where it is not loaded yet.

        Raises:
            ProviderError: nothing is known of it, or its configuration cannot be used.
        """
        with self._lock:
            loaded = self._providers.get(reference)
        if loaded is not None:
            return loaded
        resource = find(provider_urn(reference))
        if resource is None:
            raise ProviderError(f"unknown provider reference {reference}")
        return self.load(reference, resource.inputs)
