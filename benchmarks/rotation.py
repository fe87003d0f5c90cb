"""Time of a whole rotation by the number of workloads, and restarts of each.

And with the waiting times of real nodes against its bound: two restarts of each workload, ten at a time, each as long
as its pod takes to start. All nodes have the images by then.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from benchmarks.machine import deployed
from meshtrust.linkerd.rollout import Limits
from rehearsal.cluster import Cluster
from rehearsal.cluster.waiting_times import REAL, WaitingTimes
from rehearsal.errors import RehearsalError
from rehearsal.mesh.traffic import make_workloads, read_handshakes, wait_for_proxies
from rehearsal.workspace import REPOSITORY, Workspace

COUNTS = (50, 500)
_NAMESPACE = "shop"
_SECONDS = 600
# A rotation restarts each workload before the switch, and before the retirement.
_RESTARTS = 2


def measure() -> dict[str, Any]:
    """Rotate the anchor of a stack with few workloads, then with many, under load."""
    found = {str(count): _rotate(count) for count in COUNTS}
    few, many = found[str(COUNTS[0])], found[str(COUNTS[-1])]
    waiting = _rotate(COUNTS[-1], REAL)
    return {
        "withWaitingTimes": {"workloads": COUNTS[-1], **waiting},
        "boundRatioWithWaitingTimes": round(waiting["seconds"] / waiting["boundSeconds"], 2),
        "byWorkloads": found,
        "workloadsRatio": COUNTS[-1] / COUNTS[0],
        "secondsRatio": round(many["seconds"] / few["seconds"], 2),
    }


def _rotate(count: int, waiting_times: WaitingTimes | None = None) -> dict[str, Any]:
    with deployed("dev", waiting_times) as (cluster, project):
        environment = project.command_environment
        make_workloads(cluster, _NAMESPACE, count)
        wait_for_proxies(cluster, count, _SECONDS)
        if waiting_times:
            cluster.set_waiting_times(replace(waiting_times, pulls={}, other_pulls=0))
        started = time.perf_counter()
        for _ in _run_command(project, environment, "rotate", "--to", "2027"):
            pass
        seconds = time.perf_counter() - started
        counted = read_handshakes(cluster)
        return {
            "seconds": round(seconds, 1),
            "boundSeconds": round(_RESTARTS * sum(_starts(cluster)) / Limits().at_once, 1),
            "restartsPerWorkload": _restarts(cluster, count),
            "handshakes": counted.succeeded,
            "failed": counted.failed,
        }


def _run_command(project: Workspace, environment: dict[str, str], *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a command of the CLI on a workspace's stack; yield its events.

    Raises:
        RehearsalError: It failed; the message has its output.
    """
    command = [sys.executable, "-m", "meshtrust", *arguments, "--stack", project.stack, "--json"]
    process = subprocess.Popen(
        [*command, "--cwd", str(project.directory)],
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    written: list[str] = []
    reader = threading.Thread(target=lambda: written.extend(process.stderr or ()))
    reader.start()
    for line in process.stdout or ():
        yield json.loads(line)
    reader.join()
    if process.wait():
        msg = f"`meshtrust {' '.join(arguments)}` failed with exit code {process.returncode}:\n{''.join(written[-60:])}"
        raise RehearsalError(msg)


def _starts(cluster: Cluster) -> list[float]:
    """Return the seconds that each pod took to be ready since it was made; Kubernetes' times are whole seconds."""
    with cluster.client() as api:
        listed = api.get(f"/api/v1/namespaces/{_NAMESPACE}/pods", timeout=60).raise_for_status()
    found = []
    for pod in listed.json()["items"]:
        [ready] = [entry for entry in pod["status"]["conditions"] if entry["type"] == "Ready"]
        made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        found.append((datetime.fromisoformat(ready["lastTransitionTime"]) - made).total_seconds())
    return found


def _restarts(cluster: Cluster, count: int) -> float:
    """Return how often a workload was restarted, by the revisions that its Deployment counts."""
    with cluster.client() as api:
        listed = api.get(f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments", timeout=60).raise_for_status()
    revisions = [
        int(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"]) for item in listed.json()["items"]
    ]
    return (sum(revisions) - count) / count
