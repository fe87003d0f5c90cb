"""The stack's last deployment, as the program of the next one sees it: through its own outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from meshtrust.rotation import Root, Trust


@dataclass(frozen=True)
class LastDeployment:
    """Outputs of the last successful deployment; empty before the first.

    A reference to the own stack reads them without a file and without the cluster, in previews as well.
    """

    outputs: Mapping[str, Any]

    @classmethod
    async def read(cls) -> "LastDeployment":
        """Read the outputs of the stack that runs."""
        own = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        outputs = await pulumi.StackReference("last-deployment", stack_name=own).outputs.future()
        return cls(outputs or {})

    @property
    def cluster_uid(self) -> str:
        """UID of the cluster it went to, or empty."""
        return str(self.outputs.get("clusterUid") or "")

    @property
    def guide_generation(self) -> str:
        """The generation that bears the names of Linkerd's guide, or empty."""
        return str(self.outputs.get("guideGeneration") or "")

    @property
    def charts(self) -> Mapping[str, str]:
        """Where each release's chart came from, by release."""
        return self.outputs.get("charts") or {}

    @property
    def trust(self) -> Trust | None:
        """What the mesh trusts and what signs in it; nothing before the first deployment."""
        if not self.outputs.get("signer"):
            return None
        return Trust(anchors=tuple(self.outputs["anchors"]), signer=self.outputs["signer"])

    @property
    def bundle(self) -> str:
        """The trusted roots as PEM, or empty."""
        return str(self.outputs.get("trustAnchors") or "")

    @property
    def roots(self) -> Mapping[str, Root]:
        """The trusted roots, by generation."""
        return _roots(self.outputs.get("roots"))

    @property
    def retired(self) -> Mapping[str, Root]:
        """Roots that this stack once trusted, by generation."""
        return _roots(self.outputs.get("retired"))

    @property
    def transitions(self) -> list[dict[str, Any]]:
        """What was moved in the past, oldest first: the audit trail."""
        return list(self.outputs.get("transitions") or [])

    def retired_by(self, trust: Trust) -> dict[str, Any]:
        """Return, as an output, every root that this stack trusted once and no longer trusts then."""
        known = {**(self.outputs.get("retired") or {}), **(self.outputs.get("roots") or {})}
        return {generation: root for generation, root in known.items() if generation not in trust.anchors}


def _roots(described: Any) -> dict[str, Root]:
    return {
        generation: Root(fingerprint=root["fingerprint"], brought=bool(root.get("brought")))
        for generation, root in (described or {}).items()
    }
