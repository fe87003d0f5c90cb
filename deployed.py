"""The stack's last deployment, as the program of the next one sees it: through its own outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi


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
