"""Time of a whole rotation by the number of workloads, and restarts of each."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.machine import deployed
from rehearsal.cluster import Cluster
from rehearsal.errors import RehearsalError
from rehearsal.mesh.traffic import make_workloads, read_handshakes, wait_for_proxies
from rehearsal.workspace import REPOSITORY, Workspace

COUNTS = (50, 500)
_NAMESPACE = "shop"
_SECONDS = 600


def measure() -> dict[str, Any]:
    """Rotate the anchor of a stack with few workloads, then with many, under load."""
    found = {str(count): _rotate(count) for count in COUNTS}
    few, many = found[str(COUNTS[0])], found[str(COUNTS[-1])]
    return {
        "byWorkloads": found,
        "workloadsRatio": COUNTS[-1] / COUNTS[0],
        "secondsRatio": round(many["seconds"] / few["seconds"], 2),
    }


def _rotate(count: int) -> dict[str, Any]:
    with deployed("dev") as (cluster, project):
        environment = project.command_environment
        make_workloads(cluster, _NAMESPACE, count)
        wait_for_proxies(cluster, count, _SECONDS)
        started = time.perf_counter()
        for _ in _run_command(project, environment, "rotate", "--to", "2027"):
            pass
        seconds = time.perf_counter() - started
        counted = read_handshakes(cluster)
        return {
            "seconds": round(seconds, 1),
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


def _restarts(cluster: Cluster, count: int) -> float:
    """Return how often a workload was restarted, by the revisions that its Deployment counts."""
    with cluster.client() as api:
        listed = api.get(f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments", timeout=60).raise_for_status()
    revisions = [
        int(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"]) for item in listed.json()["items"]
    ]
    return (sum(revisions) - count) / count
