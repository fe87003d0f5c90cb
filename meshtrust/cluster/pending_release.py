"""Helm releases that are half done: whose they are, since when, and how Helm goes on from them."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from meshtrust.cluster.api import SECRETS, Api, ClusterError
from meshtrust.cluster.helm_release import read_releases

_PENDING = "status in (pending-install,pending-upgrade,pending-rollback)"

# Helm writes a chart's objects within seconds; it waits for pods only with --wait, which this program does not set.
AT_WORK = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class PendingRevision:
    """A revision of a Helm release that was never finished: Helm refuses to touch the release as long as it is there.

    Attributes:
        namespace: Namespace of the release.
        release: Its name.
        secret: The Secret in which Helm keeps the revision.
        age: How long ago Helm began with it.
    """

    namespace: str
    release: str
    secret: str
    age: timedelta


async def find_pending(api: Api, releases: Iterable[tuple[str, str]]) -> list[PendingRevision]:
    """Return the unfinished revisions of releases, as a run leaves them that was killed while Helm was at work.

    Args:
        api: Client of the cluster.
        releases: Namespace and name of each release.

    Raises:
        ClusterError: The releases cannot be read.

    Source: Helm keeps each revision in a Secret with the labels owner, name and status (helm
    ``pkg/storage/driver/secrets.go``). Only metadata is asked for: the Secrets hold every value of the release.
    """

    async def find(namespace: str, release: str) -> list[PendingRevision]:
        secrets = api.list(
            SECRETS,
            namespace=namespace,
            labels=f"owner=helm,name={release},{_PENDING}",
            metadata_only=True,
        )
        now = datetime.now(UTC)
        return [
            PendingRevision(
                namespace=namespace,
                release=release,
                secret=secret["metadata"]["name"],
                age=now - datetime.fromisoformat(secret["metadata"]["creationTimestamp"]),
            )
            async for secret in secrets
        ]

    found = await asyncio.gather(*(find(namespace, release) for namespace, release in releases))
    return [revision for revisions in found for revision in revisions]


async def check_owner(api: Api, revision: PendingRevision, mark: str, helm: str) -> None:
    """Make sure that an unfinished revision belongs to a release of this stack.

    Args:
        api: Client of the cluster.
        revision: The revision.
        mark: What a release of this stack says of who deployed it, in its last finished revision.
        helm: Beginning of a command of Helm about the cluster.

    Raises:
        ClusterError: Someone else has deployed the release; or it cannot be read.
    """
    for release in await read_releases(api, revision.namespace, revision.release):
        if release.description != mark:
            command = f"{helm} -n {revision.namespace}"
            msg = (
                f"Helm release {revision.namespace}/{revision.release} is half done, and was last deployed by another "
                f'tool or stack ("{release.description}"). Let that finish, or roll it back if nothing '
                f"works on it any more: {command} history {revision.release}; {command} rollback {revision.release}"
            )
            raise ClusterError(msg)


async def forget(api: Api, revision: PendingRevision) -> None:
    """Let Helm forget an unfinished revision, so that it goes on from the last finished one.

    Raises:
        ClusterError: The revision cannot be deleted.
    """
    what = f"unfinished revision {revision.namespace}/{revision.secret}"
    await api.delete(SECRETS, revision.secret, namespace=revision.namespace, what=what)
