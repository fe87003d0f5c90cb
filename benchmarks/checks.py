"""Cost of the checks and the waits of a run that changes nothing: the program against itself without them."""

import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks.machine import deployed, timed

PAIRS = 15
_UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--expect-no-changes")
# The plan that the checks come to, made without them; without a client nothing is waited for.
_WITHOUT = """

async def check_run(settings, last, fleet):
    from meshtrust.rotation.goal import Way
    from meshtrust.rotation.known_roots import Held

    return RunPlan(
        settings=settings,
        way=Way(goal=settings.trust),
        rotation=last.rotation,
        last=last,
        fleet=fleet,
        requested_generations=settings.anchor.generations,
        api=None,
        cluster_uid=last.cluster_uid,
        held=Held(),
        pledge=None,
        transitions=last.transitions,
        checked_step=None,
        awaits_issuer=False,
        restorations=last.bundle_restorations,
    )
"""


def measure() -> dict[str, Any]:
    """Deploy a stack, then run it again and again with and without the checks, in turn."""
    with deployed("dev") as (_, project):
        program = project.directory / "program"
        as_it_is, without_checks = program.resolve(), project.directory / "without-checks"
        shutil.copytree(as_it_is, without_checks)
        with (without_checks / "checks" / "__init__.py").open("a", encoding="utf-8") as module:
            module.write(_WITHOUT)
        ratios, seconds = [], []
        for _ in range(PAIRS):
            _point(program, as_it_is)
            with_checks = timed(project, *_UP)
            _point(program, without_checks)
            without = timed(project, *_UP)
            ratios.append(with_checks / without)
            seconds.append(with_checks)
        return {
            "engine": project.describe_engine(),
            "pairs": PAIRS,
            "secondsMedian": round(statistics.median(seconds), 2),
            "ratioMedian": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
        }


def _point(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)
