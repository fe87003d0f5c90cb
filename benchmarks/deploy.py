"""A stack's life against the guide's script of helm and kubectl: first deployment, one that changes nothing, removal.

Both install the same charts on clusters of the same kind, each on one of its own, in turn. The stack removes all that
it has made; the script's removal leaves cert-manager's definitions behind, as their chart does by default, and "remove
all" takes them away too.

Of a removal's eight seconds, 5.5 are spent on the two namespaces, by the script as well: Kubernetes leaves a namespace
alone for the first five seconds of its deletion (kubernetes ``pkg/controller/namespace/namespace_controller.go``,
namespaceDeletionGracePeriod), and Helm, whose record of a release is in it, has to be done before. Before that the
engine needs 0.8 seconds until its first deletion, for the passphrase and its plugins, which it starts one after the
other; the control plane takes 0.3, and cert-manager beside linkerd-crds 1.4, in which the API server has both cores
busy with sixteen definitions (to remove all three releases at once takes as long). The script saves six of those; a
stack that keeps them too (`certManager.values`, `crds.keep`) took 1.03 of its time.

Each life is measured on nodes where pods are ready at once, and with the waiting times of real nodes
(rehearsal/cluster/waiting_times.py), and once on nodes that pull one image at a time. The picture has the first `up` of
the last life with the waiting times of real nodes.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.guide import Guide
from benchmarks.machine import is_gone, stack_settings, timed, wait_until
from benchmarks.timeline import record
from meshtrust.names import CERT_MANAGER_API
from rehearsal.cluster import Cluster
from rehearsal.cluster.waiting_times import BY_NAME, WaitingTimesName
from rehearsal.workspace import Workspace, workspace

# Waiting times vary little, and take minutes.
PAIRS: Mapping[WaitingTimesName, int] = {"none": 3, "real": 2, "serial": 1}
_COLLECTOR_SECONDS = 90
_UP = ("up", "--yes", "--skip-preview", "--non-interactive")
_STEPS = ("first", "unchanged", "remove", "remove all")


def measure() -> dict[str, Any]:
    """Let each of the two live a life, one after the other, several times: with waiting times and without."""
    at_once, waiting, serial = _compare("none"), _compare("real"), _compare("serial")
    return {
        **{key: at_once[key] for key in ("engine", "ratioMedian", "secondsMedian")},
        "pairsByWaitingTimes": dict(PAIRS),
        "ratioMedianWithWaitingTimes": waiting["ratioMedian"],
        "secondsMedianWithWaitingTimes": waiting["secondsMedian"],
        "ratioWithSerialPulls": serial["ratioMedian"],
        "secondsWithSerialPulls": serial["secondsMedian"],
        "timeline": waiting["timeline"],
    }


def _compare(waiting_times: WaitingTimesName) -> dict[str, Any]:
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    timeline: list[dict[str, Any]] = []
    engine, times = "", BY_NAME[waiting_times]
    for turn in range(PAIRS[waiting_times]):
        with Cluster.start(f"benchmark-{os.getpid()}-guide-{turn}", waiting_times=times) as cluster:
            theirs.append(_guide(cluster))
        with Cluster.start(f"benchmark-{os.getpid()}-stack-{turn}", waiting_times=times) as cluster:
            # The webhooks' certificates are made by the chart, as in the guide.
            settings = {**stack_settings(cluster), "webhooks": {"mode": "chart"}}
            with workspace("guide", settings=settings) as project:
                engine = project.describe_engine()
                seconds, timeline = _stack(cluster, project)
                ours.append(seconds)
    return {
        "engine": engine,
        "timeline": timeline,
        "secondsMedian": {
            step: {"stack": round(_median(ours, step), 2), "script": round(_median(theirs, step), 2)} for step in _STEPS
        },
        "ratioMedian": {
            step: round(statistics.median(a[step] / b[step] for a, b in zip(ours, theirs, strict=True)), 2)
            for step in _STEPS
        },
    }


def _stack(cluster: Cluster, project: Workspace) -> tuple[dict[str, float], list[dict[str, Any]]]:
    first, timeline = record(cluster, project, *_UP)
    unchanged = timed(project, *_UP, "--expect-no-changes")
    _wait_for_collector(cluster)
    removed = timed(project, "destroy", *_UP[1:])
    return {"first": first, "unchanged": unchanged, "remove": removed, "remove all": removed}, timeline


def _guide(cluster: Cluster) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="meshtrust-guide-") as directory:
        guide = Guide(cluster, Path(directory))
        first, unchanged = _time(guide.deploy), _time(guide.deploy)
        _wait_for_collector(cluster)
        removed = _time(guide.remove)
        remaining = _time(guide.remove_definitions)
        return {"first": first, "unchanged": unchanged, "remove": removed, "remove all": removed + remaining}


def _wait_for_collector(cluster: Cluster) -> None:
    """Wait until Kubernetes' garbage collector knows cert-manager's kinds, as in a cluster that is a minute old.

    Until then it holds what is deleted in the foreground, which is Pulumi's way and not Helm's. It looks for new kinds
    every 30 seconds (kube-controller-manager ``app/core.go``, ``startGarbageCollectorController``).
    """
    issuers = f"/apis/{CERT_MANAGER_API}/namespaces/default/issuers"
    probe = {"apiVersion": CERT_MANAGER_API, "kind": "Issuer", "metadata": {"name": "probe"}}
    with cluster.client() as api:
        api.post(issuers, json={**probe, "spec": {"selfSigned": {}}}).raise_for_status()
        api.delete(f"{issuers}/probe", params={"propagationPolicy": "Foreground"}).raise_for_status()
        wait_until(
            lambda: is_gone(api, f"{issuers}/probe"),
            "the garbage collector does not know cert-manager's kinds",
            _COLLECTOR_SECONDS,
        )


def _time(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _median(lives: list[dict[str, float]], step: str) -> float:
    return statistics.median(life[step] for life in lives)
