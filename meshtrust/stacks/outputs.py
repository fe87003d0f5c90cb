"""The last deployment of a stack, by its outputs: the program reads its own, the commands those of any stack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from cryptography import x509

from meshtrust.names import LINKERD_CONTROL_PLANE, LINKERD_CRDS
from meshtrust.pki.identity_suffix import IdentitySuffix
from meshtrust.pki.pem import fingerprint, read_bundle
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.report import RotationReport
from meshtrust.rotation.steps import Root, Trust


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    """The origin of the certificates of Linkerd's webhooks.

    Attributes:
        by_cert_manager: Whether cert-manager issues them; else Linkerd's chart makes them.
        authorities: The trusted authorities.
        signer: The one that signs.
        certificates: The authorities' certificates, by name.
    """

    by_cert_manager: bool
    authorities: tuple[str, ...]
    signer: str
    certificates: Mapping[str, x509.Certificate]


# The output that holds the others which only the program and the commands read.
MEMORY = "memory"


def flatten(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stack's outputs with those of its memory beside the others, as earlier versions wrote all of them."""
    others = {name: value for name, value in outputs.items() if name != MEMORY}
    return {**others, **(outputs.get(MEMORY) or {})}


@dataclass(frozen=True)
class StackOutputs:
    """The last successful deployment of a stack.

    Attributes:
        outputs: The stack's outputs, those of its memory beside the others; empty before the first deployment. They may
            be given as `__main__.py` returns them, or as earlier versions did.
    """

    outputs: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Flatten the outputs."""
        object.__setattr__(self, "outputs", flatten(self.outputs))

    @property
    def cluster_uid(self) -> str:
        """UID of the cluster it went to, or empty."""
        return str(self.outputs.get("clusterUid") or "")

    @property
    def identity_suffix(self) -> IdentitySuffix:
        """The end of the identities of its mesh; early deployments recorded no trust domain."""
        return IdentitySuffix(
            namespace=str(self.outputs.get("namespace") or ""), trust_domain=str(self.outputs.get("trustDomain") or "")
        )

    @property
    def default_named_generation(self) -> str:
        """The generation that bears the names of Linkerd's guide, or empty."""
        return str(self.outputs.get("guideGeneration") or "")

    @property
    def issuer(self) -> Mapping[str, Any]:
        """Settings that decide who signs the identity issuer (`IssuerPolicy.as_outputs`); empty if unknown."""
        return self.outputs.get("issuer") or {}

    @property
    def webhooks(self) -> Webhooks:
        """The origin of the webhooks' certificates."""
        described = self.outputs.get("webhooks") or {}
        bundle = read_bundle(described["caBundle"]) if described.get("caBundle") else []
        return Webhooks(
            by_cert_manager=described.get("mode") == "cert-manager",
            authorities=tuple(described.get("authorities") or ()),
            signer=str(described.get("signer") or ""),
            # The bundle is in their order.
            certificates=dict(zip(described.get("authorities") or (), bundle, strict=True)),
        )

    @property
    def bundle_by_trust_manager(self) -> bool:
        """Whether trust-manager publishes the bundle."""
        return (self.outputs.get("trustBundle") or {}).get("mode") == "trust-manager"

    @property
    def bundle_restorations(self) -> int:
        """Number of runs that have restored the bundle of Linkerd's release after a change by hand."""
        return int(self.outputs.get("bundleRestorations") or 0)

    @property
    def charts(self) -> Mapping[str, str]:
        """The source of each release's chart, by release."""
        return self.outputs.get("charts") or {}

    @property
    def linkerd_releases(self) -> tuple[str, str]:
        """Names of Linkerd's releases, of the definitions and of the control plane; early deployments recorded none."""
        crds, control_plane = self.outputs.get("linkerdReleases") or (LINKERD_CRDS, LINKERD_CONTROL_PLANE)
        return str(crds), str(control_plane)

    @property
    def image_values(self) -> Mapping[str, Mapping[str, str]] | None:
        """The Helm values that say which images and versions run, by the key that gives them, and by their path.

        None if it was deployed before that was recorded.
        """
        return self.outputs.get("imageValues")

    @property
    def providers(self) -> Mapping[str, str]:
        """The version of each provider of the engine, by name; empty if it was deployed before that was recorded."""
        return self.outputs.get("providers") or {}

    def has_installed(self, section: str) -> bool:
        """Whether it installed what a section of the configuration is about, such as ``certManager``."""
        return f"{section}.charts" in self.charts

    @property
    def anchors(self) -> tuple[str, ...]:
        """The trusted generations, oldest first; of an anchor stack, those that it owns."""
        return tuple(map(str, self.outputs.get("anchors") or ()))

    @property
    def trust(self) -> Trust | None:
        """The trusted and the signing generations of the mesh; None before the first deployment."""
        if not self.outputs.get("signer"):
            return None
        return Trust(anchors=self.anchors, signer=str(self.outputs["signer"]))

    @property
    def bundle(self) -> str:
        """The trusted roots as normalised PEM, or empty."""
        return str(self.outputs.get("trustAnchors") or "")

    @property
    def roots(self) -> Mapping[str, Root]:
        """The trusted roots, by generation."""
        return _roots(self.outputs.get("roots"))

    @property
    def retired(self) -> Mapping[str, Root]:
        """Roots that this stack once trusted, by generation."""
        return _roots(self.outputs.get("retired"))

    @cached_property
    def certificates(self) -> dict[str, x509.Certificate]:
        """The trusted roots' certificates, by generation."""
        known = {fingerprint(root): root for root in read_bundle(self.bundle)} if self.bundle else {}
        return {name: known[root.fingerprint] for name, root in self.roots.items()}

    def ended(self, now: datetime) -> list[str]:
        """Return the trusted generations whose roots have ended by a time."""
        return [name for name, root in self.certificates.items() if root.not_valid_after_utc <= now]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The stacks whose intermediates an anchor stack signs."""
        return tuple(map(str, self.outputs.get("clusters") or ()))

    @property
    def protected(self) -> frozenset[str]:
        """The generations that an anchor stack has had the engine protect from deletion."""
        return frozenset(map(str, self.outputs.get("protected") or ()))

    @property
    def is_in_fleet(self) -> bool:
        """Whether the stack of a cluster is under the trust anchor of an anchor stack."""
        return bool(self.outputs.get("anchorStack"))

    @property
    def requests(self) -> Mapping[str, str]:
        """Requests of a cluster of a fleet that the anchor stack signs: certificate requests as PEM, by generation."""
        return self.outputs.get("requests") or {}

    @property
    def intermediates(self) -> Mapping[str, str]:
        """Intermediates of a cluster of a fleet: signed certificates as PEM, by generation."""
        return self.outputs.get("intermediates") or {}

    @property
    def signed_for(self) -> tuple[str, ...]:
        """The stacks that an anchor stack has signed intermediates for."""
        return tuple(self.outputs.get("intermediates") or ())

    def intermediates_of(self, stack: str) -> Mapping[str, str]:
        """Return what an anchor stack has signed for a cluster: certificates as PEM, by generation."""
        return (self.outputs.get("intermediates") or {}).get(stack) or {}

    @property
    def pledge(self) -> Pledge:
        """The pledge of a cluster of a fleet to the others."""
        return Pledge.of(self.outputs.get("pledge"), self.trust)

    @property
    def pledges(self) -> Mapping[str, Pledge]:
        """Pledges of the clusters that an anchor stack passes on, by cluster."""
        return {stack: Pledge.of(found, None) for stack, found in (self.outputs.get("pledges") or {}).items()}

    @property
    def link_name(self) -> str:
        """Name of a cluster of a fleet in the Links of others; empty if that is its stack's name."""
        return str(self.outputs.get("linkName") or "")

    @property
    def link_names(self) -> Mapping[str, str]:
        """Names in Links of the clusters that an anchor stack signs for, by stack; of those alone that have pledged.

        No step waits for a cluster that is listed and has pledged nothing yet.
        """
        named = self.outputs.get("linkNames") or {}
        members = [stack for stack in self.clusters if stack in self.pledges]
        return {stack: str(named.get(stack) or stack.rpartition("/")[2]) for stack in members}

    @property
    def rotation(self) -> RotationReport | None:
        """The report of the rotation that the last run has left; None if an earlier version left none."""
        return RotationReport.of(self.outputs.get("rotation"))

    @property
    def transitions(self) -> list[dict[str, Any]]:
        """Steps of the past, oldest first: the audit trail."""
        return list(self.outputs.get("transitions") or [])

    def retired_by(self, anchors: Sequence[str]) -> dict[str, Any]:
        """Return, as an output, every root that this stack trusted once and no longer trusts with other anchors."""
        known = {**(self.outputs.get("retired") or {}), **(self.outputs.get("roots") or {})}
        return {generation: root for generation, root in known.items() if generation not in anchors}


def _roots(described: Any) -> dict[str, Root]:
    return {
        generation: Root(fingerprint=root["fingerprint"], external=bool(root.get("brought")))
        for generation, root in (described or {}).items()
    }
