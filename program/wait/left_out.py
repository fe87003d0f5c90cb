"""The check that no Helm release was left out of an update, before its outputs record what is deployed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import ChartSource, image_values
from program.refusal import end

_WHOLE_VERSION = re.compile(r"v?\d+\.\d+\.\d+\S*")


@dataclass(frozen=True, kw_only=True)
class DeclaredRelease:
    """A Helm release that a run declares.

    Attributes:
        release: The release.
        chart: Name of its chart.
        source: Where the chart is from.
        values: The values that the stack adds.
    """

    release: kubernetes.helm.v3.Release
    chart: str
    source: ChartSource
    values: Mapping[str, Any]


async def check_releases(
    releases: Iterable[DeclaredRelease],
) -> None:
    """End an update that has left a Helm release as it was, and whose outputs would record another chart or image.

    The next run, a step, would upgrade it unnoticed then.

    Args:
        releases: Each release that the run declares.

    Raises:
        SystemExit: One of them is not as it was declared.
    """
    if pulumi.runtime.is_dry_run():
        return
    for declared in releases:
        release, values = declared.release, declared.values
        name = str(await release.name.future())
        version, wanted = await release.version.future(), declared.source.version_of(declared.chart)
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
