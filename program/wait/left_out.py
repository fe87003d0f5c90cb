"""The check that no Helm release was left out of an update, before its outputs record what is deployed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import ChartSource, image_values
from program.refusal import end

_WHOLE_VERSION = re.compile(r"v?\d+\.\d+\.\d+\S*")


async def check_releases(
    releases: Iterable[tuple[kubernetes.helm.v3.Release, ChartSource, Mapping[str, Any]]],
) -> None:
    """End an update that has left a Helm release as it was, and whose outputs would record another chart or image.

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
            _end(name, f"it stays at version {version}, and {wanted} would be recorded")
        deployed, asked = image_values(await release.values.future() or {}), image_values(values)
        for path in dict.fromkeys((*deployed, *asked)):
            if asked.get(path, "") != deployed.get(path, ""):
                _end(name, f"its value {path} stays as it was, and another one would be recorded")


def _end(release: str, because: str) -> None:
    end(
        f"This run has left out Helm release {release} (--target, --exclude), so that {because}. What it has made "
        f"stays; the outputs are those of the last deployment. Deploy the whole stack: pulumi up --stack "
        f"{pulumi.get_stack()}"
    )
