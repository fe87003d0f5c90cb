"""The ConfigMap that holds a mesh's trust anchors, which every new proxy takes its own from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from meshtrust.cluster.api import CONFIGMAPS, Api, MalformedError, certificates_of
from meshtrust.names import TRUST_ROOTS, TRUST_ROOTS_KEY


@dataclass(frozen=True, kw_only=True)
class TrustRoots:
    """The trust anchors that a namespace's control plane gives to new proxies.

    Attributes:
        name: The object that holds them, as a sentence names it.
        text: They as PEM, as the object has them; empty if there is none.
        roots: The same, read.
        changed: When they were last written, by the API server's clock; None where that is not known.
    """

    name: str
    text: str = ""
    roots: tuple[x509.Certificate, ...] = ()
    changed: datetime | None = None


def name_trust_roots(namespace: str) -> str:
    """Return what holds the trust anchors of a namespace's control plane, as a sentence names it."""
    return f"ConfigMap {namespace}/{TRUST_ROOTS}"


async def read_trust_roots(api: Api, namespace: str, *, is_own: bool = True) -> TrustRoots:
    """Read the trust anchors of a namespace's control plane, by one request.

    Args:
        api: Client of the cluster.
        namespace: The namespace.
        is_own: Whether it is the control plane that is asked about, and not another one of its cluster.

    Raises:
        ClusterError: They cannot be read, or cannot be understood. No deployment writes them back then, since none is
            judged without them; the message has the command that does.
    """
    name = name_trust_roots(namespace)
    configmap = await api.find(CONFIGMAPS, TRUST_ROOTS, namespace=namespace)
    text = str(((configmap or {}).get("data") or {}).get(TRUST_ROOTS_KEY) or "")
    try:
        roots = certificates_of(text, name)
    except MalformedError as error:
        cure = "Have whoever runs that Linkerd write its trust anchors back"
        if is_own:
            cure = (
                "Write back what the stack has deployed last: pulumi stack output trustAnchors | kubectl -n "
                f"{namespace} create configmap {TRUST_ROOTS} --from-file={TRUST_ROOTS_KEY}=/dev/stdin --dry-run=client "
                "-o yaml | kubectl apply --server-side --force-conflicts -f -"
            )
        msg = (
            f"{name}, which each new proxy takes its trust anchors from, cannot be understood ({error.__cause__}), and "
            f"no deployment is judged without it. {cure}"
        )
        raise MalformedError(msg) from None
    return TrustRoots(name=name, text=text, roots=roots, changed=_changed_at(configmap))


def _changed_at(configmap: Mapping[str, Any] | None) -> datetime | None:
    """Return when the data of a ConfigMap was last written; None where nothing says so.

    Source: Kubernetes, Server-Side Apply, on ``metadata.managedFields``: an entry's time is that of the last request
    that changed a field of its manager.
    """
    metadata = (configmap or {}).get("metadata") or {}
    written = [
        datetime.fromisoformat(entry["time"]).astimezone(UTC)
        for entry in metadata.get("managedFields") or ()
        if entry.get("time") and "f:data" in (entry.get("fieldsV1") or {})
    ]
    return max(written, default=None)
