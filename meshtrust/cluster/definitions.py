"""Definitions of custom resources: whether the API server serves what they define."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from meshtrust.cluster.api import DEFINITIONS, Api, ClusterError, Request
from meshtrust.cluster.backoff import Notify, wait_until_met

# One answer has all groups, versions and kinds (Kubernetes, "The Kubernetes API", aggregated discovery, since 1.30).
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def wait_served(api: Api, names: Iterable[str], seconds: float, notify: Notify) -> None:
    """Wait until the API server serves the kinds of definitions, which it does once they are established.

    Args:
        api: Client of the cluster.
        names: The definitions, each as ``<plural>.<group>``.
        seconds: How long to wait.
        notify: Gets a sentence of what is waited for, each time that it changes.

    Raises:
        ClusterError: It does not serve them in time; the message says why. Or it does not answer.
    """
    wanted = set(names)

    async def look() -> str:
        missing = sorted(wanted - (await _read_served(api)).keys())
        return f"the API server to serve {', '.join(missing)}" if missing else ""

    if waits := await wait_until_met(look, seconds, notify):
        missing = sorted(wanted - (await _read_served(api)).keys())
        listed = "\n".join([f"  - {name}: {await _explain(api, name)}" for name in missing]) or f"  - {waits}"
        msg = (
            f"These definitions are deployed, and the API server does not serve them after {seconds:.0f} seconds "
            f"(meshtrust:helm.timeoutSeconds):\n{listed}\nPut it right and run again."
        )
        raise ClusterError(msg)


async def set_up_storage(api: Api, names: Iterable[str]) -> None:
    """Have the API server set up the storage of definitions' kinds, by a request for the objects of each.

    It does so at the first request. If that comes while the definition is deleted, the API server may never be done
    with the deletion (its finalizer meets "storage is (re)initializing"; seen with Kubernetes 1.36). The garbage
    collector looks for new kinds every 30 seconds, and so may find those of a mesh just as it is removed again. What
    this account may not read is left out.

    Args:
        api: Client of the cluster.
        names: The definitions, each as ``<plural>.<group>``; those that are not served are left out.

    Raises:
        ClusterError: The API server does not say what it serves.
    """

    async def ask(path: str) -> None:
        with suppress(ClusterError):
            await api.send(Request(method="GET", path=path, what=f"list at {path}", params={"limit": "1"}))

    served = await _read_served(api)
    await asyncio.gather(*(ask(served[name]) for name in names if name in served))


async def _read_served(api: Api) -> dict[str, str]:
    """Return the paths of all served kinds, by the names that their definitions have."""
    found = await api.send(Request(method="GET", path="/apis", what="list of all APIs", accept=_AGGREGATED))
    return {
        f"{kind['resource']}.{group['metadata']['name']}": "/".join(
            ("/apis", group["metadata"]["name"], version["version"], kind["resource"])
        )
        for group in found["items"]
        for version in group.get("versions") or []
        for kind in version.get("resources") or []
    }


async def _explain(api: Api, name: str) -> str:
    """Return why a definition is not served, in the cluster's words."""
    definition = await api.find(DEFINITIONS, name)
    if definition is None:
        return "it is not there"
    conditions: list[Mapping[str, Any]] = (definition.get("status") or {}).get("conditions") or []
    reasons = [
        f"{entry.get('reason')}: {entry.get('message')}"
        for entry in conditions
        if (entry["type"] in ("Established", "NamesAccepted") and entry["status"] != "True")
        or (entry["type"] in ("NonStructuralSchema", "Terminating") and entry["status"] == "True")
    ]
    return "; ".join(dict.fromkeys(reasons)) or "the API server has not looked at it yet"
