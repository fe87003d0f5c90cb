"""The check for upgrades: none goes along with a step of a rotation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import pulumi

from components.charts import image_values
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings
from program.providers import provider_versions


def find_upgrades(
    settings: Settings, last: StackOutputs, step: Step | None, *, only_pledges: bool = False
) -> list[str]:
    """Return the upgrades of charts, images and providers that would go along with a switch or a retirement.

    Nobody would know which of the two failed. A replacement is not such a step: under anchors that have ended no
    upgrade gets ready, so that it cannot come first.

    Args:
        settings: What the stack says.
        last: What it last deployed.
        step: The step; None if none is taken.
        only_pledges: Whether the run is to do nothing but pledge, and so has no upgrade beside an introduction either.
    """
    kinds = ("introduce", "switch", "retire") if only_pledges else ("switch", "retire")
    if step is None or step.kind not in kinds or step.before is None:
        return []
    return [
        f"{key}: {before or 'nothing'} is deployed, and {after or 'nothing'} would be"
        for key, before, after in (*_charts(settings, last), *_images(settings, last), *_providers(last))
        if before != after
    ]


def refuse_upgrade(upgrades: Sequence[str], step: Step) -> NoReturn:
    """Refuse a run that would take a step and upgrade.

    Raises:
        pulumi.RunError: Always; the message says which run comes first.
    """
    before = step.before or step.after
    anchors = ", ".join(f'"{name}"' for name in before.anchors)
    listed = "".join(f"  - {upgrade}\n" for upgrade in upgrades)
    msg = (
        f"This run would {step}, and upgrade in the same run:\n{listed}One run takes one step. First "
        f'deploy the upgrade alone, with meshtrust:anchors [{anchors}] and meshtrust:signer "{before.signer}" '
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


def images_as_outputs(settings: Settings) -> dict[str, pulumi.Input[Mapping[str, str]]]:
    """Return the Helm values that say which images and versions run, as `StackOutputs.image_values` reads them.

    They are secrets where the stack's file has the values encrypted.
    """
    return {
        key: pulumi.Output.secret(image_values(values)) if is_encrypted else image_values(values)
        for key, (values, is_encrypted) in _values(settings).items()
    }


def _values(settings: Settings) -> dict[str, tuple[Mapping[str, Any], bool]]:
    """Return the Helm values that the stack adds, and whether they are encrypted, by the key that gives them."""
    found = {"linkerd.values": (settings.linkerd.values, settings.linkerd.encrypted)}
    if settings.cert_manager:
        found["certManager.values"] = (settings.cert_manager.values, settings.cert_manager.encrypted)
    if settings.trust_bundle.trust_manager:
        manager = settings.trust_bundle.trust_manager
        found["trustBundle.values"] = (manager.values, manager.encrypted)
    return found


def _images(settings: Settings, last: StackOutputs) -> Iterator[tuple[str, str, str]]:
    """Yield each Helm value that says what runs, and what it is in the last deployment and in this run."""
    deployed = last.image_values or {}
    for key, (values, is_encrypted) in _values(settings).items():
        # What is not recorded was deployed before that was done, or is installed by this run.
        if key not in deployed:
            continue
        before, after = deployed[key], image_values(values)
        for path in dict.fromkeys((*before, *after)):
            if before.get(path) != after.get(path):
                shown = ("one that is encrypted", "another") if is_encrypted else (before.get(path), after.get(path))
                yield f"{key} {path}", shown[0] or "", shown[1] or ""


def _providers(last: StackOutputs) -> Iterator[tuple[str, str, str]]:
    now = provider_versions()
    for name, before in last.providers.items():
        yield name, before, now.get(name, before)
