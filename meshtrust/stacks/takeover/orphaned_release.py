"""Adopt or refuse a Helm release that is missing from the state of the stack."""

from collections.abc import Mapping
from typing import Any

from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.helm_release import HelmRelease
from meshtrust.linkerd.evidence import ANCHORS_ANNOTATION
from meshtrust.pki.pem import fingerprint, read_bundle


class TakeoverError(ClusterError):
    """A release that is not taken over; the message names it and says what to do."""


def check_takeover(found: HelmRelease, mark: str, wanted: Mapping[str, Any], helm: str) -> None:
    """Make sure that a release may be taken over: a run of this stack made it, and was killed before it noted that.

    The mark is not enough for Linkerd's control plane: a stack that lost its state, and was made again under the same
    name, has other roots. Every existing proxy would lose its mesh connectivity.

    Args:
        found: The release.
        mark: What a release of this stack says of who deployed it.
        wanted: The values that it is to be installed with.
        helm: Beginning of a command of Helm about the cluster.

    Raises:
        TakeoverError: It is another's, or trusts none of the roots that it is to trust.
    """
    name = f"{found.namespace}/{found.name}"
    uninstall = f"{helm} -n {found.namespace} uninstall {found.name}"
    if found.description != mark:
        msg = (
            f"Helm release {name} is on the cluster, and this stack has not deployed it. Have a stack take it over "
            f"(`meshtrust adopt`, docs/issuing.md), or remove it: {uninstall}"
        )
        raise TakeoverError(msg)
    trusted, to_trust = _roots(found.values), _roots(wanted)
    if trusted and to_trust and not trusted & to_trust:
        msg = (
            f"Helm release {name} was deployed by a stack of this name, and trusts none of the roots of this run. The "
            "stack's state was lost, or is another's: bring it back (docs/runbook.md, A lost key). To start "
            f"again, with which every existing proxy loses its mesh connectivity: {uninstall}"
        )
        raise TakeoverError(msg)


def _roots(values: Mapping[str, Any]) -> set[str]:
    """Return the fingerprints of the roots that values of linkerd-control-plane have its pods trust."""
    bundle = values.get("identityTrustAnchorsPEM")
    if bundle:
        return {fingerprint(root) for root in read_bundle(str(bundle))}
    annotated = str((values.get("podAnnotations") or {}).get(ANCHORS_ANNOTATION) or "")
    return set(filter(None, annotated.split(",")))
