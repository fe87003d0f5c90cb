"""What a run takes of trust-manager for granted, and what it has published."""

import asyncio
import time
from typing import TYPE_CHECKING

from meshtrust.cluster import Api, ClusterError, read_optional
from meshtrust.pem import PemError, fingerprint, read_bundle
from meshtrust.polling import pauses

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


VERSION = "trust.cert-manager.io/v1alpha1"
DEFINITION = "bundles.trust.cert-manager.io"
# linkerd2 charts/linkerd-control-plane: the ConfigMap that its pods mount, and the key that they read.
TRUST_ROOTS, TRUST_ROOTS_KEY = "linkerd-identity-trust-roots", "ca-bundle.crt"
# It answers a changed Bundle within a second or two.
_PUBLISH_SECONDS = 60.0


class TrustManagerError(ClusterError):
    """trust-manager is not there, or has not published what it was given; the message says what to do."""


async def check_api(api: Api) -> None:
    """Make sure that a trust-manager is there that others have installed.

    Raises:
        TrustManagerError: Its API is not served.
    """
    if await read_optional(api, f"API {VERSION}", base="/apis", version="", url=VERSION) is None:
        msg = (
            f"meshtrust:trustBundle.install is false, and the cluster has no trust-manager: its API {VERSION} is not "
            "there. Install it, or let this stack do so: pulumi config set --path trustBundle.install true"
        )
        raise TrustManagerError(msg)


async def wait_published(api: Api, namespace: str, roots: "AbstractSet[str]") -> None:
    """Wait until Linkerd's ConfigMap holds exactly these roots.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.
        roots: Fingerprints of the roots.

    Raises:
        TrustManagerError: It does not within a minute.
        ClusterError: It cannot be read.
    """
    what, url = f"ConfigMap {namespace}/{TRUST_ROOTS}", f"configmaps/{TRUST_ROOTS}"
    deadline = time.monotonic() + _PUBLISH_SECONDS
    for pause in pauses():
        found = await read_optional(api, what, namespace=namespace, url=url)
        if found is not None and _roots(str((found.get("data") or {}).get(TRUST_ROOTS_KEY) or "")) == roots:
            return
        if time.monotonic() > deadline:
            held = "is not there" if found is None else "holds other roots"
            msg = f"trust-manager has not published the trusted roots within a minute: {what} {held}. See: kubectl "
            raise TrustManagerError(f"{msg}describe bundle {TRUST_ROOTS}")
        await asyncio.sleep(pause)


def _roots(bundle: str) -> set[str]:
    try:
        return {fingerprint(root) for root in read_bundle(bundle)}
    except PemError:
        return set()
