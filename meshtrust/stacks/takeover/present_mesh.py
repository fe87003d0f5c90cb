"""A mesh that is in a cluster before a stack is first deployed there, described as a last deployment of that stack.

The way to the stack's goal leads on from there by the rules of every rotation: the roots of the mesh stay beside those
of the goal, and its issuer signs, until everything trusts the goal's.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from meshtrust.cluster import trust_manager
from meshtrust.cluster.api import Api, Object, certificates_of
from meshtrust.linkerd.cli_install import converted, find_issuer_secret
from meshtrust.linkerd.evidence import Mesh
from meshtrust.names import IDENTITY_ISSUER, TRUST_ROOTS
from meshtrust.pki.pem import fingerprint, to_pem
from meshtrust.rotation.known_roots import generation_of
from meshtrust.stacks.outputs import MEMORY, StackOutputs
from meshtrust.stacks.takeover.adoption import (
    AdoptionError,
    check_issuer_secret,
    describe_issuer,
    find_certificate,
    find_signer,
)


@dataclass(frozen=True, kw_only=True)
class PresentMesh:
    """A mesh that a stack is to take over.

    Attributes:
        mesh: The mesh; its issuer is also found where a run was killed that wrote the issuer's Secret again.
        deployed: What it trusts and what signs in it, as the last deployment of the stack would have it.
        secret: The Secret of its issuer, as it is once it has Kubernetes' own type.
    """

    mesh: Mesh
    deployed: StackOutputs
    secret: Object

    @property
    def signing_root(self) -> x509.Certificate:
        """The root that the mesh's issuer chains to."""
        trust = self.deployed.trust
        if trust is None:
            msg = "a mesh that is described has a signer"
            raise ValueError(msg)
        return self.deployed.certificates[trust.signer]


async def describe_mesh(
    api: Api,
    mesh: Mesh,
    known: Mapping[str, x509.Certificate],
    *,
    has_release: bool,
    by_trust_manager: bool,
    now: datetime,
) -> PresentMesh:
    """Describe a mesh as the last deployment of a stack.

    Args:
        api: Client of its cluster.
        mesh: The mesh.
        known: Roots of the goal that exist already, by generation: the mesh may trust some of them.
        has_release: Whether Helm knows its control plane.
        by_trust_manager: Whether the stack has trust-manager publish the bundle.
        now: The time.

    Raises:
        AdoptionError: Its roots cannot stay beside those of the goal, or its issuer cannot go on to sign.
        ClusterError: The cluster cannot be read.
    """
    namespace = mesh.namespace
    if not by_trust_manager and await api.find(trust_manager.BUNDLES, TRUST_ROOTS):
        msg = (
            f"trust-manager publishes its bundle (Bundle {TRUST_ROOTS}), and the stack would too. Set "
            "meshtrust:trustBundle.mode to trust-manager"
        )
        raise AdoptionError(msg)
    certificate = await find_certificate(api, namespace)
    if certificate and not has_release:
        msg = (
            f"Certificate {namespace}/{IDENTITY_ISSUER} issues its identity issuer, and Helm knows no release of it, "
            "so that the stack would write over a Certificate that is not its own. Delete it (its Secret stays), and "
            "run again within a day"
        )
        raise AdoptionError(msg)
    roots = _name(mesh, known, now)
    held = await find_issuer_secret(api, namespace)
    mesh = _with_issuer(mesh, held)
    signer = find_signer(mesh, roots)
    secret = converted(held or {}, roots[signer])
    check_issuer_secret(secret, roots, signer, namespace)
    issuer = describe_issuer(certificate, signer)
    reference = (issuer.get("refs") or {}).get(signer)
    deployed = StackOutputs(
        {
            "anchors": list(roots),
            "signer": signer,
            "trustAnchors": "\n".join(map(to_pem, roots.values())),
            "namespace": namespace,
            "trustDomain": mesh.trust_domain,
            "issuer": {"mode": issuer["mode"], **({"reference": reference} if reference else {})},
            MEMORY: {
                "roots": {
                    name: {"fingerprint": fingerprint(root), "brought": generation_of(root) != name}
                    for name, root in roots.items()
                }
            },
        }
    )
    return PresentMesh(mesh=mesh, deployed=deployed, secret=secret)


def _name(mesh: Mesh, known: Mapping[str, x509.Certificate], now: datetime) -> dict[str, x509.Certificate]:
    """Return the roots of a mesh that have not ended, oldest first; another run names them the same."""
    names = {fingerprint(root): name for name, root in known.items()}
    valid = sorted((root for root in mesh.roots if root.not_valid_after_utc > now), key=_start)
    return {names.get(fingerprint(root)) or f"existing-{fingerprint(root)[:8]}": root for root in valid}


def _start(root: x509.Certificate) -> datetime:
    return root.not_valid_before_utc


def _with_issuer(mesh: Mesh, secret: Object | None) -> Mesh:
    """Return a mesh with the issuer that a run has kept which was killed between two Secrets."""
    if mesh.issuer or secret is None:
        return mesh
    pem = base64.b64decode((secret.get("data") or {}).get("tls.crt") or "").decode(errors="replace")
    return replace(mesh, issuer=certificates_of(pem, f"Secret {mesh.namespace}/{secret['metadata']['name']}"))
