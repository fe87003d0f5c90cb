"""The versions of the providers that a run uses."""

from importlib import metadata

_PROVIDERS = ("kubernetes", "random", "tls")


def provider_versions() -> dict[str, str]:
    """Return the version of each provider, by name: that of its SDK, which has the engine take the same plugin."""
    return {name: metadata.version(f"pulumi-{name}") for name in _PROVIDERS}
