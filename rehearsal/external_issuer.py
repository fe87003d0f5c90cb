"""Cluster of a stack in mode `external-issuer`: cert-manager, and the Vault issuers that the stack names."""

from collections.abc import Mapping
from typing import Any

from meshtrust.names import CERT_MANAGER_GROUP
from rehearsal import cert_manager, vault
from rehearsal.cluster import Cluster
from rehearsal.errors import RehearsalError
from rehearsal.vault.issuers import by_app_role, by_kubernetes, wait_ready

# Each generation's issuer logs in by the next of these.
_WAYS = (by_kubernetes, by_app_role)


def check_references(stack: str, references: Mapping[str, Mapping[str, str]]) -> None:
    """Make sure that a rehearsal can make the issuers that a stack names.

    Raises:
        RehearsalError: One is not a ClusterIssuer of cert-manager.
    """
    for generation, reference in references.items():
        kind, group = reference.get("kind", "Issuer"), reference.get("group", CERT_MANAGER_GROUP)
        if (kind, group) != ("ClusterIssuer", CERT_MANAGER_GROUP):
            msg = (
                f'Stack "{stack}" names {kind}.{group} {reference["name"]} for generation "{generation}", and a '
                "rehearsal makes ClusterIssuers of cert-manager alone. Name one of these in issuer.refs, or look at "
                f"the stack's plan: python -m rehearsal preview {stack}"
            )
            raise RehearsalError(msg)


def prepare(cluster: Cluster, references: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Make the issuers that a stack names: for each generation a mount with a root of its own, and who signs by it.

    Args:
        cluster: The cluster, started with `vault.declare`.
        references: The reference of each generation's issuer (`issuer.refs`).

    Returns:
        The root of each generation as PEM.

    Raises:
        RehearsalError: The server does not come up, or cert-manager cannot log in.
    """
    bao = vault.OpenBao.start(cluster)
    cert_manager.install(cluster)
    roots = {}
    for position, (generation, reference) in enumerate(references.items()):
        mount, name = f"pki-{generation}", reference["name"]
        roots[generation] = vault.make_root(bao, mount)
        vault.make_vault_issuer(bao, name, f"{mount}/root/sign-intermediate", _WAYS[position % len(_WAYS)])
        wait_ready(cluster, name)
    return roots


def describe(cluster: Cluster) -> dict[str, Any]:
    """Return the environment in which `bao` works on the server of a cluster that is kept."""
    place = cluster.directory / vault.NAME
    return {"BAO_ADDR": vault.OpenBao(cluster).address, "BAO_CACERT": place / "ca.crt"}
