"""What the guard costs in a run that changes nothing: the program as it is against the same without its guard."""

import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks.machine import deployed, timed

PAIRS = 7
_UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--expect-no-changes")
# What the guard would have returned, without asking anybody.
_WITHOUT = """

async def admit(settings, last, fleet):
    return Admission(
        settings=settings, pledge=None, cluster_uid=last.cluster_uid, transitions=last.transitions, issuance=None
    )
"""


def measure() -> dict[str, Any]:
    """Deploy a stack, then run it again and again with and without the guard, in turn."""
    with deployed("dev") as (_, project):
        program = project.directory / "program"
        original = program.resolve()
        without_guard = project.directory / "without-guard"
        shutil.copytree(original, without_guard)
        with (without_guard / "guard" / "__init__.py").open("a") as module:
            module.write(_WITHOUT)
        ratios, seconds = [], []
        for _ in range(PAIRS):
            _point(program, original)
            with_guard = timed(project, *_UP)
            _point(program, without_guard)
            without = timed(project, *_UP)
            ratios.append(with_guard / without)
            seconds.append(with_guard)
        return {
            "engine": "pulumi" if project.is_real else "embedded",
            "pairs": PAIRS,
            "secondsMedian": round(statistics.median(seconds), 2),
            "ratioMedian": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
        }


def _point(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)
