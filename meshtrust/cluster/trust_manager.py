"""Checks of trust-manager before a run, and waits for what it publishes."""

from typing import TYPE_CHECKING

from meshtrust.cluster.api import CONFIGMAPS, Api, ClusterError, Resource
from meshtrust.cluster.backoff import Notify, silent, wait_until_met
from meshtrust.cluster.cert_manager import condition_of
from meshtrust.names import TRUST_MANAGER_API, TRUST_ROOTS, TRUST_ROOTS_KEY
from meshtrust.pki.pem import PemError, fingerprint, read_bundle

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


BUNDLES = Resource(TRUST_MANAGER_API, "bundles", "Bundle")


class TrustManagerError(ClusterError):
    """trust-manager is not there, or has not published what it was given; the message says what to do."""


async def check_api(api: Api) -> None:
    """Make sure that a trust-manager is there that others have installed.

    Raises:
        TrustManagerError: Its API is not served.
    """
    if await api.discover(TRUST_MANAGER_API) is None:
        msg = (
            "meshtrust:trustBundle.install is false, and the cluster has no trust-manager: its API "
            f"{TRUST_MANAGER_API} is not there. Install it, or let this stack do so: "
            "pulumi config set --path trustBundle.install true"
        )
        raise TrustManagerError(msg)


async def wait_published(
    api: Api, namespace: str, roots: "AbstractSet[str]", seconds: float, notify: Notify = silent
) -> None:
    """Wait until trust-manager has published the Bundle as it is declared now: Linkerd's ConfigMap holds these roots.

    The roots alone do not show it: those of a ConfigMap that Helm has made are the same, and go with it.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        roots: Fingerprints of the roots.
        seconds: How long to wait.
        notify: Gets a sentence of what is waited for.

    Raises:
        TrustManagerError: It does not in time; the message has what it says of it.
        ClusterError: It cannot be read.
    """
    what = CONFIGMAPS.label(namespace, TRUST_ROOTS)

    async def look() -> str:
        bundle = await api.get(BUNDLES, TRUST_ROOTS)
        synced = condition_of(bundle, "Synced")
        if synced.get("status") != "True" or synced.get("observedGeneration") != bundle["metadata"]["generation"]:
            said = synced.get("message") or "it says nothing of them yet"
            return f"trust-manager to publish the trusted roots: {said}"
        found = await api.find(CONFIGMAPS, TRUST_ROOTS, namespace=namespace)
        if found is None:
            return f"trust-manager to publish the trusted roots: {what} is not there"
        held = _roots(str((found.get("data") or {}).get(TRUST_ROOTS_KEY) or ""))
        return "" if held == roots else f"trust-manager to publish the trusted roots: {what} holds other roots"

    if waits := await wait_until_met(look, seconds, notify):
        msg = (
            f"After {seconds:.0f} seconds (meshtrust:helm.timeoutSeconds) this run still waits for {waits}. See: "
            f"kubectl describe bundle {TRUST_ROOTS}"
        )
        raise TrustManagerError(msg)


def _roots(bundle: str) -> set[str]:
    try:
        return {fingerprint(root) for root in read_bundle(bundle)}
    except PemError:
        return set()
