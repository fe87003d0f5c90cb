"""A cluster's API server: connecting to the one that was named, and reading it."""

import asyncio
import os
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import httpx
    from kr8s.asyncio import Api

# Seconds to wait for an answer before a server counts as unreachable.
ANSWER_SECONDS = 15
# More than an answer takes, and little enough that a root made here has begun before anyone is shown it.
_CLOCK_TOLERANCE = timedelta(minutes=1)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Objects asked for at a time, as kubectl does it, so that neither side holds a large cluster in memory at once.
_PAGE = 500
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class ClusterError(Exception):
    """A cluster that cannot be asked, or does not hold what it must; the message says what, and what to do."""


class NotFoundError(ClusterError):
    """What was asked for is not there."""


def kubeconfig_files(kubeconfig: str) -> list[Path]:
    """Return the kubeconfig files in force: the one given, else those of KUBECONFIG, else ``~/.kube/config``.

    Source: kubectl's loading rules, which the Kubernetes provider of Pulumi shares.
    """
    paths = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return [Path(path).expanduser() for path in paths.split(os.pathsep) if path]


def check_context(context: str, kubeconfig: str, named_by: str = "meshtrust:context") -> None:
    """Make sure that a context exists.

    Args:
        context: Name of the context.
        kubeconfig: Path of the kubeconfig; empty for the ambient one.
        named_by: The key or option that names the context.

    Raises:
        ClusterError: No kubeconfig can be read, or none has the context; the message lists those there are.
    """
    files = kubeconfig_files(kubeconfig)
    listed = ", ".join(str(path) for path in files)
    contexts: list[str] = []
    for path in files:
        try:
            # A fleet's kubeconfig is read for each cluster in it, and libyaml is ten times as fast.
            config: Any = yaml.load(path.read_text(), Loader=_LOADER)  # noqa: S506 both loaders are safe
        except FileNotFoundError:
            continue
        except (OSError, yaml.YAMLError) as error:
            msg = f"The kubeconfig {path} cannot be read: {error}. Correct it, or set meshtrust:kubeconfig to another."
            raise ClusterError(msg) from error
        if isinstance(config, dict):
            contexts += [str(entry.get("name")) for entry in config.get("contexts") or [] if isinstance(entry, dict)]
    if context in contexts:
        return
    fix = "Run: pulumi config set context <name>" if named_by.startswith("meshtrust:") else "Name one that there is."
    there = f"It has {', '.join(contexts)}." if contexts else "It has no context, or there is no such file."
    msg = f'{named_by} is "{context}", and the kubeconfig ({listed}) has no context of that name. {there} {fix}'
    raise ClusterError(msg)


async def connect(context: str, kubeconfig: str, named_by: str = "meshtrust:context") -> "Api":
    """Return a client of the cluster that a context names.

    Raises:
        ClusterError: The context does not exist, or the API server does not answer or refuses the credentials.
    """
    check_context(context, kubeconfig, named_by)
    # The client is heavy to import, and an offline preview never needs it.
    import httpx  # noqa: PLC0415
    import kr8s.asyncio  # noqa: PLC0415

    # It says so of every version that is newer than itself.
    warnings.filterwarnings("ignore", message="Kubernetes version .* is not supported")
    paths = os.pathsep.join(str(path) for path in kubeconfig_files(kubeconfig))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # No service account: a run inside some cluster must not take that one for the one it was told.
            api = await kr8s.asyncio.api(kubeconfig=paths, context=context, serviceaccount="")
            await check_clock(api, context)
            return api
    except KeyError as error:
        # kr8s needs one in the first file, though the context is named here.
        msg = f"The kubeconfig ({paths}) names no {error.args[0]}. Run: kubectl config use-context {context}"
        raise ClusterError(msg) from error
    except (httpx.HTTPError, OSError, ValueError, kr8s.ServerError, kr8s.APITimeoutError) as error:
        reason = str(error) or f"no answer within {ANSWER_SECONDS} seconds"
        by_time = " Is this machine's clock right?" if "not yet valid" in reason or "expired" in reason else ""
        msg = (
            f'The API server of context "{context}" cannot be reached: {reason}.{by_time} Check that the cluster runs, '
            "that this machine may reach it, and that its credentials are valid: "
            f"kubectl --context {context} version"
        )
        raise ClusterError(msg) from error


async def check_clock(api: "Api", context: str) -> None:
    """Make sure that this machine and the API server agree on the time.

    Roots begin and end by this machine's clock, and what has ended may be replaced without a look at who trusts it.

    Raises:
        ClusterError: They do not.
    """
    async with api.call_api("GET", base="/version", version="", url="", raise_for_status=False) as response:
        told = response.headers.get("date")
    if not told:
        return
    apart = datetime.now(UTC) - parsedate_to_datetime(told)
    if abs(apart) > _CLOCK_TOLERANCE:
        minutes = round(abs(apart).total_seconds() / 60)
        direction = "ahead of" if apart > timedelta(0) else "behind"
        msg = (
            f'This machine\'s clock is {minutes} minutes {direction} that of the API server of context "{context}". '
            "Certificates would begin and end at the wrong time, and be judged by it. Set the clock, and run again."
        )
        raise ClusterError(msg)


async def read(api: "Api", what: str, **request: Any) -> Any:
    """Return what the API server answers.

    Args:
        api: Client of the cluster.
        what: What is asked for, as a sentence names it.
        request: The request: namespace, url, params, headers, and the version of the API where it is not v1.

    Raises:
        NotFoundError: There is no such object.
        ClusterError: The server refuses, or stopped answering.
    """
    return await call(api, "GET", what, **request)


async def call(api: "Api", method: str, what: str, **request: Any) -> Any:
    """Return what the API server answers to a request of any method; otherwise as `read`."""
    import httpx  # noqa: PLC0415
    import kr8s  # noqa: PLC0415

    async def answer(*, read_credentials_anew: bool) -> "httpx.Response":
        # What raises in it is what makes kr8s read the credentials anew.
        parameters = {"version": "v1", **request, "raise_for_status": read_credentials_anew}
        async with api.call_api(method, **parameters) as response:
            return response

    done = "read" if method == "GET" else "changed"
    try:
        response = await answer(read_credentials_anew=False)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            # They may have expired. Not so where a right is missing: requests at the same time would meet a client that
            # has no address meanwhile, and tell of that.
            response = await answer(read_credentials_anew=True)
        if response.is_error:
            raise kr8s.ServerError(_reason(response), response=response)
        return response.json()
    except kr8s.ServerError as error:
        status = error.response.status_code if error.response is not None else 500
        if status == httpx.codes.NOT_FOUND:
            msg = f"The {what} does not exist: {error}."
            raise NotFoundError(msg) from error
        fix = "Try again once the API server is well" if status >= 500 else "Give these credentials the right to do so"
        msg = f"The {what} cannot be {done}: {error}. {fix}."
        raise ClusterError(msg) from error
    except (httpx.HTTPError, kr8s.APITimeoutError, OSError) as error:
        reason = str(error) or type(error).__name__
        msg = f"The {what} cannot be {done}: the API server does not answer ({reason}). Run again once it does."
        raise ClusterError(msg) from error


def _reason(response: "httpx.Response") -> str:
    """Return what the API server says of its refusal (Kubernetes' kind Status)."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"


async def read_items(api: "Api", what: str, **request: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the items of a list, page by page.

    Args:
        api: Client of the cluster.
        what: What is asked for, as a sentence names it.
        request: The request, as `read` takes it.

    Raises:
        ClusterError: As `read` raises it.
    """
    params = {**request.pop("params", {}), "limit": str(_PAGE)}
    while True:
        page = await read(api, what, params=params, **request)
        for item in page["items"] or []:
            yield item
        following = page["metadata"].get("continue")
        if not following:
            return
        params["continue"] = following


async def read_optional(api: "Api", what: str, **request: Any) -> dict[str, Any] | None:
    """Return an object, or nothing where there is none.

    Raises:
        ClusterError: As `read` raises it.
    """
    try:
        found: dict[str, Any] = await read(api, what, **request)
    except NotFoundError:
        return None
    return found
