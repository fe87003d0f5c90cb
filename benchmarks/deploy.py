"""A stack's life against the guide's script of helm and kubectl: first deployment, one that changes nothing, removal.

Both install the same charts on clusters of the same kind, each on one of its own, in turn.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.guide import Guide
from benchmarks.machine import stack_settings, timed
from rehearsal.cluster import Cluster
from rehearsal.workspace import Workspace, workspace

PAIRS = 3
_UP = ("up", "--yes", "--skip-preview", "--non-interactive")
_STEPS = ("first", "unchanged", "remove")


def measure() -> dict[str, Any]:
    """Let each of the two live a life, one after the other, several times."""
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    engine = ""
    for turn in range(PAIRS):
        with Cluster.start(f"benchmark-{os.getpid()}-guide-{turn}") as cluster:
            theirs.append(_guide(cluster))
        with Cluster.start(f"benchmark-{os.getpid()}-stack-{turn}") as cluster:
            # The webhooks' certificates are made by the chart, as in the guide.
            settings = {**stack_settings(cluster), "webhooks": {"mode": "chart"}}
            with workspace("guide", settings=settings) as project:
                engine = "pulumi" if project.is_real else "embedded"
                ours.append(_stack(project))
    return {
        "engine": engine,
        "pairs": PAIRS,
        "secondsMedian": {
            step: {"stack": round(_median(ours, step), 2), "script": round(_median(theirs, step), 2)} for step in _STEPS
        },
        "ratioMedian": {
            step: round(statistics.median(a[step] / b[step] for a, b in zip(ours, theirs, strict=True)), 2)
            for step in _STEPS
        },
    }


def _stack(project: Workspace) -> dict[str, float]:
    return {
        "first": timed(project, *_UP),
        "unchanged": timed(project, *_UP, "--expect-no-changes"),
        "remove": timed(project, "destroy", *_UP[1:]),
    }


def _guide(cluster: Cluster) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="meshtrust-guide-") as directory:
        guide = Guide(cluster, Path(directory))
        return {"first": _time(guide.deploy), "unchanged": _time(guide.deploy), "remove": _time(guide.remove)}


def _time(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _median(lives: list[dict[str, float]], step: str) -> float:
    return statistics.median(life[step] for life in lives)
