"""Timeline of a run: when the engine was at work on each resource, and when each pod became ready."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import drawsvg

from benchmarks.machine import timed
from rehearsal.cluster import Cluster
from rehearsal.workspace import Workspace

_LOOK_SECONDS = 0.02
# Kubernetes' times are whole seconds.
_SAME_SECONDS = 1.0
_NAMESPACES = ("cert-manager", "linkerd")

_WIDTH, _LEFT, _TOP, _ROW = 860, 250, 50, 20
# By kind: on the critical path, and off it.
_COLOURS = {"resource": ("#1c7ed6", "#a5d8ff"), "pod": ("#e8590c", "#ffd8a8")}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Work on one thing.

    Attributes:
        name: Its name.
        kind: ``resource`` or ``pod``.
        start: Seconds from the beginning of the run until the engine began with it, or the pod was made.
        end: The same until it was done, or ready.
        is_critical: Whether it is on the critical path.
    """

    name: str
    kind: str
    start: float
    end: float
    is_critical: bool = False


def record(cluster: Cluster, project: Workspace, *command: str) -> tuple[float, list[dict[str, Any]]]:
    """Run a command of the engine on an empty cluster; return the seconds that it took, and the bars of its timeline.

    Raises:
        RuntimeError: It failed; the message is its output.
    """
    log = project.directory / "events"
    log.touch()
    began, ended = time.time(), threading.Event()
    bars: list[Bar] = []
    follower = threading.Thread(target=lambda: bars.extend(_follow(log, began, ended)))
    follower.start()
    try:
        # The CLI takes the flag of its log only where a variable says that it may be debugged.
        debugged = replace(project, environment={**project.environment, "PULUMI_DEBUG_COMMANDS": "true"})
        seconds = timed(debugged, *command, "--event-log", str(log))
    finally:
        ended.set()
        follower.join()
    found = mark_critical([*bars, *_pods(cluster, began)])
    return seconds, [asdict(replace(bar, start=round(bar.start, 2), end=round(bar.end, 2))) for bar in found]


def mark_critical(bars: Sequence[Bar]) -> list[Bar]:
    """Return the bars in the order of their starts, with the critical path marked.

    The path is found from the end: before each of its bars, it has the one that ended last before that bar began.
    """
    path: list[Bar] = []
    left = list(bars)
    before = max((bar.end for bar in bars), default=0.0)
    while earlier := [bar for bar in left if bar.end <= before + _SAME_SECONDS * bool(path)]:
        last = max(earlier, key=lambda bar: bar.end)
        path.append(last)
        left.remove(last)
        left = [bar for bar in left if bar.start < last.start]
        before = last.start
    return sorted((replace(bar, is_critical=bar in path) for bar in bars), key=lambda bar: (bar.start, bar.end))


def draw_timeline(bars: Sequence[dict[str, Any]], title: str) -> str:
    """Return the picture of a timeline as the text of an SVG file.

    Args:
        bars: The bars, as `record` returns them.
        title: Its title.
    """
    drawn = [Bar(**bar) for bar in bars]
    height = _TOP + _ROW * len(drawn) + 40
    length = max(bar.end for bar in drawn)
    picture = drawsvg.Drawing(_WIDTH, height, font_family="system-ui, sans-serif")
    picture.append(drawsvg.Rectangle(0, 0, _WIDTH, height, fill="white"))
    picture.append(drawsvg.Text(title, 15, 16, 28, fill="#212529", font_weight="bold"))

    def x(seconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 30) * seconds / length

    for number, bar in enumerate(drawn):
        top = _TOP + _ROW * number
        weight = "bold" if bar.is_critical else "normal"
        label = f"{bar.kind} {bar.name}"
        picture.append(
            drawsvg.Text(label, 11, _LEFT - 8, top + 13, text_anchor="end", fill="#495057", font_weight=weight)
        )
        width = max(2.0, x(bar.end) - x(bar.start))
        fill = _COLOURS[bar.kind][0 if bar.is_critical else 1]
        picture.append(drawsvg.Rectangle(x(bar.start), top + 3, width, _ROW - 6, fill=fill))
    for step in range(5):
        seconds = length * step / 4
        place, bottom = x(seconds), _TOP + _ROW * len(drawn)
        picture.append(drawsvg.Line(place, _TOP, place, bottom, stroke="#dee2e6", stroke_width=0.5))
        picture.append(drawsvg.Text(f"{seconds:.0f} s", 11, place, bottom + 18, text_anchor="middle", fill="#495057"))
    return str(picture.as_svg())


def _follow(log: Path, began: float, ended: threading.Event) -> Iterator[Bar]:
    """Yield a bar for each resource that a provider makes, by the times at which the engine writes its log."""
    begun: dict[str, float] = {}
    with log.open(encoding="utf-8") as events:
        while True:
            is_over = ended.is_set()
            line = events.readline()
            if not line.endswith("\n"):
                # One that is being written is read when it is whole.
                events.seek(events.tell() - len(line))
                if is_over:
                    return
                time.sleep(_LOOK_SECONDS)
                continue
            event, now = json.loads(line), time.time() - began
            if step := event.get("resourcePreEvent"):
                begun[step["metadata"]["urn"]] = now
            elif step := event.get("resOutputsEvent"):
                made = step["metadata"]
                is_made = made["op"] != "same" and (made.get("new") or {}).get("custom")
                if is_made and not made["type"].startswith("pulumi:providers:"):
                    name = made["urn"].rpartition("::")[2]
                    yield Bar(name=name, kind="resource", start=begun[made["urn"]], end=now)


def _pods(cluster: Cluster, began: float) -> Iterator[Bar]:
    with cluster.client() as api:
        for namespace in _NAMESPACES:
            for pod in api.get(f"/api/v1/namespaces/{namespace}/pods").raise_for_status().json()["items"]:
                [ready] = [entry for entry in pod["status"]["conditions"] if entry["type"] == "Ready"]
                yield Bar(
                    name=pod["metadata"]["name"].rsplit("-", 2)[0],
                    kind="pod",
                    start=_seconds(pod["metadata"]["creationTimestamp"], began),
                    end=_seconds(ready["lastTransitionTime"], began),
                )


def _seconds(moment: str, began: float) -> float:
    return datetime.fromisoformat(moment).timestamp() - began
