"""What the guard costs in a run that changes nothing: the program as it is against the same without its guard."""

import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import deployed, timed

PAIRS = 15
_UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--expect-no-changes")
# What the guard would have returned without asking anybody, and nobody to ask.
_WITHOUT = {
    "program/guard/__init__.py": """

async def admit(settings, last, fleet, asker):
    return Admission(
        settings=settings, pledge=None, cluster_uid=last.cluster_uid, transitions=last.transitions, issuance=None
    )
""",
    "meshtrust/cluster/connection/process.py": """

ClusterProcess.start = lambda self: None
""",
}


def measure() -> dict[str, Any]:
    """Deploy a stack, then run it again and again with and without the guard, in turn."""
    with deployed("dev") as (_, project):
        as_it_is = {name: (project.directory / name).resolve() for name in ("program", "meshtrust")}
        without_guard = {}
        for name, original in as_it_is.items():
            without_guard[name] = project.directory / "without-guard" / name
            shutil.copytree(original, without_guard[name])
        for path, replacement in _WITHOUT.items():
            with (project.directory / "without-guard" / path).open("a") as module:
                module.write(replacement)
        ratios, seconds = [], []
        for _ in range(PAIRS):
            _point(project.directory, as_it_is)
            with_guard = timed(project, *_UP)
            _point(project.directory, without_guard)
            without = timed(project, *_UP)
            ratios.append(with_guard / without)
            seconds.append(with_guard)
        return {
            "engine": project.describe_engine(),
            "pairs": PAIRS,
            "secondsMedian": round(statistics.median(seconds), 2),
            "ratioMedian": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
        }


def _point(directory: Path, targets: Mapping[str, Path]) -> None:
    for name, target in targets.items():
        link = directory / name
        link.unlink()
        link.symlink_to(target)
