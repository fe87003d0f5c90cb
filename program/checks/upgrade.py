"""The check for upgrades: none goes along with a step of a rotation."""

from collections.abc import Iterator

import pulumi

from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings
from program.providers import provider_versions


def refuse_upgrade(settings: Settings, last: StackOutputs, step: Step | None) -> None:
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
    changes = [
        f"  - {key}: {before or 'nothing'} is deployed, and {after or 'nothing'} would be\n"
        for key, before, after in (*_charts(settings, last), *_providers(last))
        if before != after
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


def _charts(settings: Settings, last: StackOutputs) -> Iterator[tuple[str, str, str]]:
    """Yield the key of each source of charts, and what it is in the last deployment and in this run, empty if none."""
    deployed, sources = dict(last.charts), settings.chart_sources
    if not deployed:
        # It was deployed before that was recorded.
        return
    # One source has both of Linkerd's charts, unless the one of its definitions has a version of its own.
    linkerd, crds = "linkerd.charts", "linkerd.crdsVersion"
    if crds in sources and linkerd in deployed:
        deployed.setdefault(crds, deployed[linkerd])
    if crds in deployed:
        sources.setdefault(crds, sources[linkerd])
    for key in dict.fromkeys((*deployed, *sources)):
        before = deployed.get(key, "")
        after = sources[key].installed if key in sources else ""
        # The versions in a directory were not always recorded.
        is_unrecorded = key in sources and before == str(sources[key])
        yield key, before, before if is_unrecorded else after


def _providers(last: StackOutputs) -> Iterator[tuple[str, str, str]]:
    now = provider_versions()
    for name, before in last.providers.items():
        yield name, before, now.get(name, before)
