"""A Helm release as the cluster holds it."""

import base64
import binascii
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtrust.cluster.api import DEFINITIONS, SECRETS, Api, ClusterError, Resource


@dataclass(frozen=True, kw_only=True)
class HelmRelease:
    """A deployed release.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        chart: Name of its chart.
        version: Version of its chart.
        values: The values that its user gave; they may hold keys.
        defaults: The chart's own values.
        description: What whoever deployed it last says of it.
    """

    namespace: str
    name: str
    chart: str
    version: str
    values: Mapping[str, Any] = field(repr=False)
    defaults: Mapping[str, Any] = field(repr=False)
    description: str = ""

    def value(self, path: str) -> Any:
        """Return what a value is in force: the user's, or else the chart's."""
        for values in (self.values, self.defaults):
            node: Any = values
            for part in path.split("."):
                node = node.get(part) if isinstance(node, Mapping) else None
            if node is not None:
                return node
        return None


def owner_of(held: Mapping[str, Any]) -> tuple[str, str]:
    """Return namespace and name of the release that an object is part of, each empty where it is part of none.

    Source: Helm marks what it owns by annotations, and refuses to take over what has others (helm
    ``pkg/action/validate.go``).
    """
    annotations = held["metadata"].get("annotations") or {}
    return annotations.get("meta.helm.sh/release-namespace", ""), annotations.get("meta.helm.sh/release-name", "")


async def mark_as_own(api: Api, kind: Resource, item: Mapping[str, Any], release: tuple[str, str]) -> bool:
    """Mark an object as part of a release, unless it is part of one; return whether it had to be marked.

    Args:
        api: Client of the cluster.
        kind: The object's kind.
        item: The object.
        release: Namespace and name of the release.

    Raises:
        ClusterError: It cannot be changed.
    """
    if any(owner_of(item)):
        return False
    metadata, (namespace, name) = item["metadata"], release
    marks = {
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-namespace": namespace, "meta.helm.sh/release-name": name},
    }
    await api.patch(kind, metadata["name"], {"metadata": marks}, namespace=metadata.get("namespace") or "")
    return True


async def check_definition(api: Api, definition: str, release: tuple[str, str], section: str, *, is_own: bool) -> None:
    """Make sure that a release may install a definition: there is none yet, or it is the release's own.

    Helm itself says it too late, in the middle of a run.

    Args:
        api: Client of the cluster.
        definition: Name of the CustomResourceDefinition.
        release: Namespace and name of the release.
        section: What configures it, such as ``certManager``.
        is_own: Whether this stack has installed that release before.

    Raises:
        ClusterError: It belongs to another release, or to none.
    """
    found = await api.find(DEFINITIONS, definition)
    owner = owner_of(found) if found else release
    if owner == release:
        return
    namespace, name = release
    if is_own and owner[1] == name:
        msg = (
            f'meshtrust:{section}.namespace is "{namespace}", and this stack has installed {name} in namespace '
            f"{owner[0]}. It does not move: what it has defined would go with the old one, and all that was made by "
            f"that. Set it back: pulumi config set --path {section}.namespace {owner[0]}"
        )
        raise ClusterError(msg)
    whose = f"Helm release {'/'.join(owner)}" if all(owner) else "no Helm release"
    msg = (
        f"The cluster has a {name} already: {definition} belongs to {whose}. Let this stack use it: pulumi config set "
        f"--path {section}.install false"
    )
    raise ClusterError(msg)


async def read_releases(api: Api, namespace: str, name: str = "") -> list[HelmRelease]:
    """Return the releases that are deployed in a namespace.

    Args:
        api: Client of the cluster.
        namespace: The namespace.
        name: Name of the one that is asked for; all where it is empty.

    Raises:
        ClusterError: They cannot be read or understood.

    Source: Helm keeps each revision in a Secret, as JSON in gzip in base64 (helm ``pkg/storage/driver/util.go``).
    """
    labels = f"owner=helm,status=deployed{f',name={name}' if name else ''}"
    return [_read_release(secret) async for secret in api.list(SECRETS, namespace=namespace, labels=labels)]


async def was_never_installed(api: Api, namespace: str, name: str) -> bool:
    """Whether Helm has begun to install a release and never came to the end, because it failed or was killed.

    Helm then keeps nothing of who did it: its own words take the place of the description (helm
    ``pkg/action/install.go``, failRelease).

    Raises:
        ClusterError: The releases cannot be read.
    """
    labels = f"owner=helm,name={name}"
    found = [secret async for secret in api.list(SECRETS, namespace=namespace, labels=labels, metadata_only=True)]
    states = {(secret["metadata"].get("labels") or {}).get("status") for secret in found}
    return bool(states) and states <= {"failed", "pending-install"}


async def forget_release(api: Api, release: HelmRelease) -> None:
    """Let Helm forget a release, and leave all that it installed.

    The next installation of that name takes the objects over, since they are marked as its own (helm
    ``pkg/action/validate.go``).

    Raises:
        ClusterError: Its revisions cannot be deleted.
    """
    what = f"revisions of Helm release {release.namespace}/{release.name}"
    labels = f"owner=helm,name={release.name}"
    await api.delete_all(SECRETS, namespace=release.namespace, labels=labels, what=what)


def _read_release(secret: Mapping[str, Any]) -> HelmRelease:
    metadata = secret["metadata"]
    try:
        content = gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"])))
        release = json.loads(content)
        chart = release["chart"]
        return HelmRelease(
            namespace=str(metadata["namespace"]),
            name=str(release["name"]),
            chart=str(chart["metadata"]["name"]),
            version=str(chart["metadata"]["version"]),
            values=release.get("config") or {},
            defaults=chart.get("values") or {},
            description=str((release.get("info") or {}).get("description") or ""),
        )
    except (KeyError, TypeError, ValueError, OSError, binascii.Error) as error:
        msg = (
            f"Secret {metadata['namespace']}/{metadata['name']} holds no release of Helm that can be read "
            f"({type(error).__name__}). See: helm -n {metadata['namespace']} list"
        )
        raise ClusterError(msg) from error
