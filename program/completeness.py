"""The checks that a run has made all that its outputs tell of, before the engine keeps them for the next run."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import ChartSource, image_values
from program.refusal import end

_WHOLE_VERSION = re.compile(r"v?\d+\.\d+\.\d+\S*")


async def check_complete(outputs: pulumi.Inputs) -> None:
    """End an update that has left out something which its outputs tell of, so that the engine keeps those before it.

    Of a resource that ``--target`` or ``--exclude`` keeps from being made nothing is known, in an update too (pulumi
    ``pkg/resource/deploy/step_generator.go``), and outputs that follow from it would be kept as unknown: the next run
    would not know which roots exist.

    Args:
        outputs: The stack's outputs.

    Raises:
        SystemExit: One of them is not known.
    """
    if pulumi.runtime.is_dry_run():
        return
    missing = [name for name, value in outputs.items() if not await pulumi.Output.from_input(value).is_known()]
    if missing:
        _end(f"its outputs {', '.join(sorted(missing))} are not known", "what is new in the stack")


async def check_releases(
    releases: Iterable[tuple[kubernetes.helm.v3.Release, ChartSource, Mapping[str, Any]]],
) -> None:
    """End an update that has left a Helm release as it was, and whose outputs would tell of another chart or image.

    The next run, a step, would upgrade it unnoticed then.

    Args:
        releases: Each release that the run declares, where its chart is from, and the values that the stack adds.

    Raises:
        SystemExit: One of them is not as it was declared.
    """
    if pulumi.runtime.is_dry_run():
        return
    for release, source, values in releases:
        name = str(await release.name.future())
        version, wanted = await release.version.future(), source.version_of(name)
        # A range of versions is resolved by Helm.
        if version and _WHOLE_VERSION.fullmatch(wanted) and version.removeprefix("v") != wanted.removeprefix("v"):
            _end(f"Helm release {name} stays at version {version}, and {wanted} would be recorded", f"release {name}")
        deployed, asked = image_values(await release.values.future() or {}), image_values(values)
        for path in dict.fromkeys((*deployed, *asked)):
            if asked.get(path, "") != deployed.get(path, ""):
                _end(f"the value {path} of Helm release {name} stays as it was", f"release {name}")


def _end(because: str, what: str) -> NoReturn:
    end(
        f"This run has left out {what} (--target, --exclude), so that {because}. What it has made stays; the outputs "
        f"are those of the last deployment. Deploy the whole stack: pulumi up --stack {pulumi.get_stack()}"
    )
