"""`make rehearse-fleet`: a fleet whose stacks are run by independent loops, and are killed at random.

Each loop only ever calls `pulumi up --yes` for its own stack, as a scheduler would. A goal is set in the files of all
stacks, and nothing else is done until every stack reports that it has converged.
"""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from meshtrust.files import replace_text
from rehearsal import mesh
from rehearsal.cluster import Cluster, ensure
from rehearsal.errors import RehearsalError
from rehearsal.mesh.traffic import Handshakes, make_workloads, read_handshakes, wait_for_proxies
from rehearsal.prepare import ensure_programs
from rehearsal.pulumi.home import describe_plugins
from rehearsal.rehearse import REACTION_SECONDS
from rehearsal.workspace import REPOSITORY, Workspace, workspace

ANCHOR, OLD, NEW = "anchor", "2026", "2027"
_APPLICATIONS, _REPLICAS = "shop", 2
# A loop rests for up to so long between two runs; a run that is to be killed is killed within so long.
_REST_SECONDS, _KILLED_WITHIN_SECONDS = 8.0, 25.0
_KILLED_ONE_IN = 6
_CONVERGED_WITHIN_SECONDS = 2400.0
# Each look at the stacks' outputs starts the CLI once for each stack, on the processor that the runs need.
_LOOK_SECONDS = 5.0
_UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--color", "never")


@dataclass
class Loop:
    """A loop that runs one stack again and again.

    Attributes:
        project: The workspace, about the stack.
        chance: Decides when it runs, and when a run is killed.
        runs: Number of its runs, those that were killed included.
        killed: Number of runs that were killed.
        failures: What the failed runs have written that were not killed.
    """

    project: Workspace
    chance: random.Random
    runs: int = 0
    killed: int = 0
    failures: list[str] = field(default_factory=list)

    def run_until(self, stopped: threading.Event) -> None:
        """Run the stack at random times until the event is set."""
        while not stopped.wait(self.chance.uniform(0, _REST_SECONDS)):
            kills = self.chance.randrange(_KILLED_ONE_IN) == 0
            self.runs += 1
            if self._run(self.chance.uniform(0, _KILLED_WITHIN_SECONDS) if kills else None):
                self.killed += 1
                # As a person or a scheduler does after a crash: the backend still has the lock.
                self.project.capture("cancel", "--yes")

    def _run(self, killed_after: float | None) -> bool:
        """Run the stack once, and return whether the run was killed."""
        process = subprocess.Popen(
            self.project.command(*_UP),
            env=self.project.full_environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            written, _ = process.communicate(timeout=killed_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        if process.returncode:
            self.failures.append(written)
        return False


@dataclass
class FleetRehearsal:
    """The rehearsal of a fleet.

    Attributes:
        console: Console that it is shown on.
        clusters: Number of clusters.
        workloads: Applications in each, with two pods each.
        linkerd_charts: A directory with Linkerd's own charts; the stand-ins if there is none.
        seed: Seed of all that is random.
    """

    console: Console
    clusters: int = 3
    workloads: int = 2
    linkerd_charts: Path | None = None
    seed: int = 0

    def run(self) -> None:
        """Run it from beginning to end.

        Raises:
            RehearsalError: A stack does not converge, or a handshake has failed.
        """
        self.console.print(f"{ensure_programs()}; providers: {describe_plugins()}", soft_wrap=True, highlight=False)
        names = [f"cluster-{number}" for number in range(1, self.clusters + 1)]
        with contextlib.ExitStack() as cleanup:
            with ThreadPoolExecutor() as pool:
                started = list(pool.map(lambda name: Cluster.start(f"{name}-{os.getpid()}"), names))
            clusters = {name: cleanup.enter_context(cluster) for name, cluster in zip(names, started, strict=True)}
            self._say(f"{len(names)} clusters are up")
            project = cleanup.enter_context(workspace(ANCHOR, settings={"clusters": names}, init=False))
            for name, cluster in clusters.items():
                project.write_stack(name, self._settings(cluster))
            stacks = [ANCHOR, *names]
            for stack in stacks:
                project.of(stack).init()
            loops = [Loop(project.of(stack), random.Random(f"{self.seed} {stack}")) for stack in stacks]  # noqa: S311
            with _running(loops):
                self._wait(project, stacks, OLD)
                self._say("deployed from nothing by the loops alone; now under load")
                for cluster in clusters.values():
                    make_workloads(cluster, _APPLICATIONS, self.workloads, _REPLICAS)
                for cluster in clusters.values():
                    wait_for_proxies(cluster, self.workloads * _REPLICAS, REACTION_SECONDS)
                _set_goal(project, stacks, NEW)
                self._say(f"the goal {NEW} is in the files; nothing else is done from here on")
                self._wait(project, stacks, NEW)
            counted = [read_handshakes(cluster) for cluster in clusters.values()]
        self._conclude(loops, counted)

    def _settings(self, cluster: Cluster) -> dict[str, Any]:
        return {
            "context": cluster.context,
            "kubeconfig": str(cluster.kubeconfig),
            "anchorStack": ANCHOR,
            "anchors": [OLD],
            "signer": OLD,
            "rotation": {"restart": "workloads"},
            "linkerd": {"charts": str(self.linkerd_charts or mesh.charts())},
            "certManager": {"charts": str(ensure().charts)},
        }

    def _wait(self, project: Workspace, stacks: Sequence[str], goal: str) -> None:
        """Wait until every stack reports that it has reached a goal, and show each change on the way."""
        deadline, seen = time.monotonic() + _CONVERGED_WITHIN_SECONDS, dict.fromkeys(stacks, "")
        reached: set[str] = set()
        while reached != set(stacks):
            if time.monotonic() > deadline:
                listed = "\n".join(f"  {stack}: {state}" for stack, state in seen.items())
                msg = f"Not every stack has reached the goal {goal} in time:\n{listed}"
                raise RehearsalError(msg)
            for stack in stacks:
                with contextlib.suppress(RehearsalError):
                    outputs = project.of(stack).outputs()
                    report = outputs.get("rotation") or {}
                    state = _describe(outputs, report)
                    if state != seen[stack]:
                        seen[stack] = state
                        self._say(f"{stack}: {state}")
                    is_reached = report.get("converged") and report["goal"]["anchors"] == [goal]
                    (reached.add if is_reached else reached.discard)(stack)
            time.sleep(_LOOK_SECONDS)

    def _conclude(self, loops: Sequence[Loop], counted: Sequence[Handshakes]) -> None:
        runs, killed = sum(loop.runs for loop in loops), sum(loop.killed for loop in loops)
        failed, done = sum(each.failed for each in counted), sum(each.attempted for each in counted)
        failures = [written for loop in loops for written in loop.failures]
        self._say(f"{killed} runs were killed, and {len(failures)} have failed")
        for written in failures:
            self._say(f"  {_reason(written)}")
        if failed:
            reasons = {failure.reason for each in counted for failure in each.failures}
            msg = f"{failed} of {done} handshakes have failed: {', '.join(sorted(reasons)[:3])}"
            raise RehearsalError(msg)
        self.console.print(f"fleet: converged after {runs} runs, {done} handshakes, 0 failed", highlight=False)

    def _say(self, text: str) -> None:
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}", soft_wrap=True, highlight=False)


@contextlib.contextmanager
def _running(loops: Sequence[Loop]) -> Iterator[None]:
    """Run all loops side by side, and end them with the run that each is in."""
    stopped = threading.Event()
    threads = [threading.Thread(target=loop.run_until, args=(stopped,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _set_goal(project: Workspace, stacks: Sequence[str], goal: str) -> None:
    """Set the goal in the files of all stacks, as a commit does; a loop may be reading one."""
    for stack in stacks:
        file = project.file(stack)
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["config"]["meshtrust:anchors"] = [goal]
        if stack != ANCHOR:
            document["config"]["meshtrust:signer"] = goal
        replace_text(file, yaml.safe_dump(document), 0o600)


def _reason(written: str) -> str:
    """Return the first error that a failed run has written."""
    lines = [line.partition("error: ")[2].strip() for line in written.splitlines() if "error: " in line]
    return next(filter(None, lines), "it gives no reason")


def _describe(outputs: dict[str, Any], report: dict[str, Any]) -> str:
    if not report:
        return "announced to the fleet" if outputs.get("anchorStack") else "not deployed"
    anchors = ", ".join(outputs["anchors"])
    signer = f", signer {outputs['signer']}" if outputs.get("signer") else ""
    following = f"; next {report['next']}" if report["next"] else "; converged"
    count = report["waitingFor"]["count"]
    return f"anchors {anchors}{signer}{following}" + (f", waits for {count}" if count else "")
