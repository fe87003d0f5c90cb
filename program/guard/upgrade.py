"""The guard's part for upgrades: none rides along with a step of a rotation."""

import pulumi

from meshtrust.deployment import Deployment
from meshtrust.rotation import Step
from program.providers import provider_versions
from settings import Settings


def refuse_upgrade(settings: Settings, last: Deployment, step: Step | None) -> None:
    """Refuse a switch or a retirement in whose run a chart or a provider is upgraded: nobody would know what failed.

    A replacement is not refused: under anchors that have ended no upgrade gets ready, so that it cannot come first.

    Args:
        settings: What the stack says.
        last: What it last deployed.
        step: The step; None if none is configured.

    Raises:
        pulumi.RunError: The run would do both; the message says which run comes first.
    """
    if step is None or step.kind not in ("switch", "retire") or step.before is None:
        return
    now = {key: source.installed for key, source in settings.chart_sources.items()}
    changes = [
        f"  - {key}: {before} is deployed, and {after} would be\n"
        for deployed, wanted in ((last.charts, now), (last.providers, provider_versions()))
        for key, before in deployed.items()
        if (after := wanted.get(key, before)) != before
    ]
    if changes:
        anchors = ", ".join(f'"{name}"' for name in step.before.anchors)
        msg = (
            f"This run would {step}, and upgrade in the same run:\n{''.join(changes)}One run takes one step. First "
            f'deploy the upgrade alone, with meshtrust:anchors [{anchors}] and meshtrust:signer "{step.before.signer}" '
            "as they are deployed; then the step. Or stay with what is deployed until the rotation is done (the keys "
            "above; for a provider, its version in requirements.txt).\nNothing was changed."
        )
        raise pulumi.RunError(msg)
