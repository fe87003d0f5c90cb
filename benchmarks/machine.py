"""Shared parts of benchmarks: facts of the machine, a deployed stack, and the place of results."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from rehearsal.cluster import Cluster, ensure
from rehearsal.cluster.waiting_times import WaitingTimes
from rehearsal.mesh import charts
from rehearsal.workspace import Workspace, workspace

RESULTS = Path(__file__).parent / "results"


def facts() -> dict[str, Any]:
    """Return the facts of this machine that a reader needs to judge a number."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": model,
        "loadBefore": round(os.getloadavg()[0], 1),
        "memoryGiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "system": platform.release(),
    }


def keep(name: str, machine: dict[str, Any], results: dict[str, Any]) -> Path:
    """Write the results of one benchmark, replacing those of the last run."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    return path


def stack_settings(cluster: Cluster) -> dict[str, Any]:
    """Return the settings by which a stack is deployed to a cluster and can be removed."""
    return {
        "context": cluster.context,
        "kubeconfig": str(cluster.kubeconfig),
        "anchor": {"protect": False},
        "linkerd": {"charts": str(charts())},
        "certManager": {"charts": str(ensure().charts)},
    }


def timed(project: Workspace, *command: str) -> float:
    """Run a command of the engine, and return the seconds that it took.

    Raises:
        RuntimeError: It failed; the message is its output.
    """
    started = time.perf_counter()
    done = project.capture(*command)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return seconds


def is_gone(api: httpx.Client, path: str) -> bool:
    """Whether a cluster has no such object."""
    return api.get(path).status_code == httpx.codes.NOT_FOUND


def wait_until(done: Callable[[], bool], what: str, seconds: float, *, every: float = 0.2) -> None:
    """Poll a condition until it holds.

    Raises:
        TimeoutError: It is not in time; the message names the condition.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            msg = f"{what} after {seconds} s"
            raise TimeoutError(msg)
        time.sleep(every)


@contextlib.contextmanager
def deployed(stack: str, waiting_times: WaitingTimes | None = None) -> Iterator[tuple[Cluster, Workspace]]:
    """Deploy a stack on a cluster of its own, whose pods take some time to start if that is given; yield both."""
    with (
        Cluster.start(f"benchmark-{os.getpid()}", waiting_times=waiting_times) as cluster,
        workspace(stack, settings=stack_settings(cluster)) as project,
    ):
        project.capture("up", "--yes", "--skip-preview", "--non-interactive").check_returncode()
        yield cluster, project
