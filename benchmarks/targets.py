"""Targets of the numbers: upper limits of ratios between two things that are measured in one run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """The upper limit of a ratio.

    Attributes:
        what: The comparison, as a phrase.
        path: Path to its number in the results of a benchmark.
        most: The upper limit.
    """

    what: str
    path: tuple[str, ...]
    most: float


# By benchmark. A cost may grow in proportion to the size, and no faster.
TARGETS: Mapping[str, tuple[Target, ...]] = {
    "deploy": (
        Target(what="a first `up` against the guide's script", path=("ratioMedian", "first"), most=0.95),
        Target(
            what="a first `up` against the script, with waiting times",
            path=("ratioMedianWithWaitingTimes", "first"),
            most=0.75,
        ),
        Target(what="an `up` that changes nothing against the script", path=("ratioMedian", "unchanged"), most=0.67),
        Target(what="a removal against the script", path=("ratioMedian", "remove"), most=1.0),
        Target(
            what="a removal against the script that leaves no definitions behind",
            path=("ratioMedian", "remove all"),
            most=1.0,
        ),
    ),
    "checks": (
        Target(what="an `up` that changes nothing against one without its checks", path=("ratioMedian",), most=1.05),
    ),
    "status": (
        Target(what="the seconds of `status` with 10 times the pods", path=("secondsRatio",), most=10),
        Target(what="the memory of `status` with 10 times the pods", path=("memoryRatio",), most=10),
        # Twice what it was before the gate asked for more than each pod's anchors.
        Target(what="the requests of the gate's look at 5,000 pods", path=("byPods", "5000", "lookRequests"), most=30),
    ),
    "rotation": (
        Target(what="the seconds of a rotation of 10 times the workloads", path=("secondsRatio",), most=10),
        Target(
            what="a rotation of 500 workloads against its bound, with waiting times",
            path=("boundRatioWithWaitingTimes",),
            most=1.15,
        ),
    ),
    "fleet": (Target(what="the seconds of a look into 100 times the clusters", path=("secondsRatio",), most=100),),
    "lint": (
        Target(what="lint of a tree of 3,000 documents against reading them", path=("ratio", "tree"), most=1.0),
        Target(what="lint of a dump of 1,500 Secrets against reading it", path=("ratio", "dump"), most=1.0),
    ),
}


def judge(benchmark: str, results: Mapping[str, Any]) -> Iterator[tuple[Target, float]]:
    """Yield the targets of a benchmark, each with the measured number, as far as the results have it."""
    for target in TARGETS.get(benchmark, ()):
        found: Any = results
        for key in target.path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            yield target, float(found)


def verdict(target: Target, measured: float) -> str:
    """Return whether a target was met, as a word."""
    return "met" if measured <= target.most else "missed"
