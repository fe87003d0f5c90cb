"""What must hold before a run may change anything: the cluster answers, is the right one, and nothing is half done."""

import asyncio
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from kr8s.asyncio import Api

# Seconds to wait for an answer before a server counts as unreachable.
ANSWER_SECONDS = 15
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PENDING = "status in (pending-install,pending-upgrade,pending-rollback)"


class PreflightError(Exception):
    """A run that must not begin; the message names the thing, what is wrong with it and what to do."""


def kubeconfig_files(kubeconfig: str) -> list[Path]:
    """Return the kubeconfig files in force: the one given, else those of KUBECONFIG, else ``~/.kube/config``.

    Source: kubectl's loading rules, which the Kubernetes provider of Pulumi shares.
    """
    paths = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return [Path(path).expanduser() for path in paths.split(os.pathsep) if path]


def check_context(context: str, kubeconfig: str) -> None:
    """Make sure that a context exists.

    Args:
        context: Name of the context.
        kubeconfig: Path of the kubeconfig; empty for the ambient one.

    Raises:
        PreflightError: No kubeconfig can be read, or none has the context; the message lists those there are.
    """
    files = kubeconfig_files(kubeconfig)
    listed = ", ".join(str(path) for path in files)
    contexts: list[str] = []
    for path in files:
        try:
            config: Any = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, yaml.YAMLError) as error:
            msg = f"The kubeconfig {path} cannot be read: {error}. Correct it, or set meshtrust:kubeconfig to another."
            raise PreflightError(msg) from error
        if isinstance(config, dict):
            contexts += [str(entry.get("name")) for entry in config.get("contexts") or [] if isinstance(entry, dict)]
    if context in contexts:
        return
    there = f"It has {', '.join(contexts)}." if contexts else "It has no context, or there is no such file."
    msg = (
        f'meshtrust:context is "{context}", and the kubeconfig ({listed}) has no context of that name. {there} '
        "Run: pulumi config set context <name>"
    )
    raise PreflightError(msg)


async def connect(context: str, kubeconfig: str) -> "Api":
    """Return a client of the cluster that a context names.

    Raises:
        PreflightError: The context does not exist, or the API server does not answer or refuses the credentials.
    """
    check_context(context, kubeconfig)
    # The client is heavy to import, and an offline preview never needs it.
    import httpx  # noqa: PLC0415
    import kr8s.asyncio  # noqa: PLC0415

    # It says so of every version that is newer than itself.
    warnings.filterwarnings("ignore", message="Kubernetes version .* is not supported")
    paths = os.pathsep.join(str(path) for path in kubeconfig_files(kubeconfig))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # No service account: a run inside some cluster must not take that one for the one it was told.
            return await kr8s.asyncio.api(kubeconfig=paths, context=context, serviceaccount="")
    except KeyError as error:
        # kr8s needs one in the first file, though the context is named here.
        msg = f"The kubeconfig ({paths}) names no {error.args[0]}. Run: kubectl config use-context {context}"
        raise PreflightError(msg) from error
    except (httpx.HTTPError, OSError, ValueError, kr8s.ServerError, kr8s.APITimeoutError) as error:
        reason = str(error) or f"no answer within {ANSWER_SECONDS} seconds"
        msg = (
            f'The API server of context "{context}" cannot be reached: {reason}. Check that the cluster runs, that '
            f"this machine may reach it, and that its credentials are valid: kubectl --context {context} version"
        )
        raise PreflightError(msg) from error


async def cluster_uid(api: "Api") -> str:
    """Return what tells a cluster from every other: the UID of its kube-system namespace.

    Raises:
        PreflightError: The namespace cannot be read.
    """
    namespace = await _read(
        api, "namespace kube-system, whose UID identifies the cluster,", url="namespaces/kube-system"
    )
    return str(namespace["metadata"]["uid"])


async def _read(api: "Api", what: str, **request: Any) -> Any:
    """Return what the API server answers.

    Args:
        api: Client of the cluster.
        what: What is asked for, as a sentence names it.
        request: The request: namespace, url, params, headers.

    Raises:
        PreflightError: The server refuses, or stopped answering.
    """
    import httpx  # noqa: PLC0415
    import kr8s  # noqa: PLC0415

    try:
        async with api.call_api("GET", version="v1", **request) as response:
            return response.json()
    except (httpx.HTTPError, kr8s.ServerError, kr8s.APITimeoutError) as error:
        msg = f"The {what} cannot be read: {error}. Give these credentials the right to read it."
        raise PreflightError(msg) from error


def check_cluster_uid(uid: str, *, context: str, pinned: str, last: str) -> None:
    """Make sure that a stack meets the cluster it belongs to, however contexts were renamed or clusters rebuilt.

    Args:
        uid: UID of the cluster's kube-system namespace.
        context: Name of the context that led there.
        pinned: The UID that the configuration names, or empty.
        last: The UID of the last deployment, or empty where there was none.

    Raises:
        PreflightError: The cluster is another one.
    """
    if pinned and uid != pinned:
        msg = (
            f'meshtrust:clusterUid is "{pinned}", and context "{context}" leads to cluster {uid}. Set '
            "meshtrust:context to the context of that cluster, or correct meshtrust:clusterUid."
        )
        raise PreflightError(msg)
    if last and not pinned and uid != last:
        msg = (
            f'This stack was last deployed to cluster {last}, and context "{context}" leads to cluster {uid}. Set '
            "meshtrust:context to the right cluster. If the cluster was rebuilt, let the stack forget what is gone and "
            f"move it: pulumi refresh --yes && pulumi config set clusterUid {uid}"
        )
        raise PreflightError(msg)


async def check_releases(api: "Api", releases: Iterable[tuple[str, str]], context: str) -> None:
    """Make sure that no Helm release is half done, which Helm refuses to touch until someone clears it.

    Args:
        api: Client of the cluster.
        releases: Namespace and name of each release.
        context: Name of the cluster's context, for the command that is shown.

    Raises:
        PreflightError: An interrupted run left a release pending; the message has the command that clears it.

    Source: Helm keeps each revision in a Secret with the labels owner, name and status (helm
    ``pkg/storage/driver/secrets.go``). Only metadata is asked for: the Secrets hold every value of the release.
    """
    commands = []
    for namespace, name in releases:
        secrets = await _read(
            api,
            f"Secrets of Helm in namespace {namespace}",
            namespace=namespace,
            url="secrets",
            params={"labelSelector": f"owner=helm,name={name},{_PENDING}"},
            headers={"Accept": _METADATA_ONLY},
        )
        commands += [
            f"kubectl --context {context} -n {namespace} delete secret {secret['metadata']['name']}"
            for secret in secrets["items"] or []
        ]
    if commands:
        listed = "\n".join(f"  {command}" for command in commands)
        msg = (
            "A Helm release is pending: another run is at work, or one was interrupted. Wait for it; if there is none, "
            f"forget the unfinished revision and run again:\n{listed}"
        )
        raise PreflightError(msg)


async def check_chart_source(location: str, key: str) -> None:
    """Make sure that a remote source of charts answers; a local directory needs no check here.

    Args:
        location: A Helm repository (``https://``) or an OCI registry (``oci://``).
        key: The configuration key that names it.

    Raises:
        PreflightError: It does not answer, or a repository has no index.
    """
    is_registry = location.startswith("oci://")
    if is_registry:
        url = f"https://{location.removeprefix('oci://').split('/')[0]}/v2/"
    else:
        url = f"{location.rstrip('/')}/index.yaml"

    def answer() -> None:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):  # noqa: S310 settings admit these schemes only
                return
        except urllib.error.HTTPError:
            # A registry that asks for credentials is there.
            if not is_registry:
                raise

    try:
        await asyncio.to_thread(answer)
    except OSError as error:
        msg = (
            f'{key} is "{location}", which does not answer at {url}: {error}. Check the address and the network, or '
            "name a mirror or a local directory of charts."
        )
        raise PreflightError(msg) from error
