"""Helm releases as this program makes them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

REMOTE_SCHEMES = ("https://", "http://", "oci://")
# The charts of Linkerd, cert-manager and trust-manager name what runs by such keys: `linkerdVersion`,
# `proxy.image.version`, `webhook.image.tag`, `imageRegistry`.
_NAMES_IMAGE = re.compile(r"image|version", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ChartSource:
    """Source of charts.

    Attributes:
        location: A Helm repository (``https://``), an OCI registry (``oci://``), or a directory that holds the charts.
        version: Version of the charts. A directory holds just one, so that it needs none.
        names: Names of the charts that are taken from there.
    """

    location: str
    version: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return location and version in one text, which changes exactly when another chart may be installed."""
        return self.location if self.is_directory else f"{self.location} {self.version}"

    @property
    def installed(self) -> str:
        """Location and versions in one text, those of a directory's charts as the directory holds them now."""
        if not self.is_directory:
            return str(self)
        return " ".join((self.location, *map(self.version_of, self.names)))

    def version_of(self, chart: str) -> str:
        """Return the version of a chart that is taken from here; a question mark if a directory does not have it."""
        return _chart_version(Path(self.location) / chart) if self.is_directory else self.version

    @property
    def is_directory(self) -> bool:
        """Whether the charts lie in a directory of this machine."""
        return not self.location.startswith(REMOTE_SCHEMES)

    def missing(self, charts: Sequence[str]) -> list[str]:
        """Return which of the charts a local directory does not hold; a remote source is not asked."""
        if not self.is_directory:
            return []
        return [chart for chart in charts if not _is_file(Path(self.location) / chart / "Chart.yaml")]

    def arguments(self, chart: str) -> dict[str, Any]:
        """Return the arguments of a Release that say where one chart is."""
        if self.is_directory:
            return {"chart": str(Path(self.location) / chart)}
        if self.location.startswith("oci://"):
            return {"chart": f"{self.location.rstrip('/')}/{chart}", "version": self.version}
        return {
            "chart": chart,
            "version": self.version,
            "repository_opts": kubernetes.helm.v3.RepositoryOptsArgs(repo=self.location),
        }


# Resources to depend on, which may be an output that is known once something besides them was waited for.
Resources = pulumi.Input[list[pulumi.Resource]]


@dataclass(frozen=True, kw_only=True)
class ReleaseOwner:
    """The owner of Helm releases.

    Attributes:
        owner_id: Name of the stack that deploys a release; Helm keeps it as the release's description.
        before_create: The hook that the engine calls before a release is installed; None offline.
    """

    owner_id: str
    before_create: pulumi.ResourceHook | None = None


NO_OWNER = ReleaseOwner(owner_id="")


def _chart_version(chart: Path) -> str:
    """Return the version of a chart in a directory; a question mark if it has none that can be read."""
    try:
        described = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return "?"
    return str(described.get("version") or "?") if isinstance(described, Mapping) else "?"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # No name of a file: too long, or one that this user may not look at.
        return False


def merge_values(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return Helm values with an override laid over them, map by map as Helm does it; lists are replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_values(below, value)
        else:
            merged[key] = value
    return merged


def image_values(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return those of Helm values that say which images and versions run, as text by their path.

    Args:
        values: The values; a list is one value.
        above: Path of what they are in, where they are a part.
    """
    found: dict[str, str] = {}
    for key, value in values.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            found |= image_values(value, path)
        elif _NAMES_IMAGE.search(path):
            # The engine knows whole numbers as floating ones; null has Helm take a default away.
            is_whole = isinstance(value, float) and value.is_integer()
            found[path] = "" if value is None else str(int(value) if is_whole else value)
    return found


def merge_user_values(base: Mapping[str, Any], values: Mapping[str, Any], *, encrypted: bool) -> dict[str, Any]:
    """Return this program's Helm values with a user's laid over them, as `merge_values` does it.

    Args:
        base: This program's, which stay readable.
        values: The user's.
        encrypted: Whether the stack encrypts those, so that each becomes a secret by itself.
    """
    return merge_values(base, _as_secrets(values) if encrypted else values)


def _as_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _as_secret(value) for name, value in values.items()}


def _as_secret(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _as_secrets(value)
    # Null has Helm take a default away.
    return None if value is None else pulumi.Output.secret(value)


def release(
    name: str,
    chart: str,
    *,
    source: ChartSource,
    namespace: pulumi.Input[str],
    values: Mapping[str, Any],
    timeout_seconds: int,
    owner: ReleaseOwner,
    opts: pulumi.ResourceOptions,
    release_name: str = "",
) -> kubernetes.helm.v3.Release:
    """Make a Helm release.

    A Release, not a Chart: Linkerd's templates make new webhook certificates at every rendering, which a Release does
    only when something changed. Helm does not wait for pods: the program does (`program/wait`). So Helm is at work for
    seconds, and a run that is killed hardly ever leaves a release half done; the program names each pod that does not
    get ready; and the old pods serve until the new ones are ready.

    Args:
        name: Name of the resource.
        chart: Name of the chart.
        source: Where the chart is.
        namespace: Namespace of the release, which must exist.
        values: Helm values.
        timeout_seconds: Seconds that it may take to become ready.
        owner: The owner of the release.
        opts: Parent and dependencies.
        release_name: Name of the release; empty if it is that of the chart.
    """
    if owner.before_create:
        hooks = pulumi.ResourceHookBinding(before_create=[owner.before_create])
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(hooks=hooks))
    return kubernetes.helm.v3.Release(
        name,
        name=release_name or chart,
        namespace=namespace,
        values=values,
        skip_await=True,
        timeout=timeout_seconds,
        description=owner.owner_id or None,
        opts=opts,
        **source.arguments(chart),
    )
