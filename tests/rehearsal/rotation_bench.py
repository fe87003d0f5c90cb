"""A deployed stack with proxies under load, and the commands on it, for the tests of rotation."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cluster import Cluster, ensure
from rehearsal.errors import RehearsalError
from rehearsal.mesh.traffic import make_workloads, read_handshakes, wait_for_proxies
from rehearsal.rehearse_rotation import changed_settings
from rehearsal.workspace import REPOSITORY, Workspace, workspace
from tests.key_material import KeySearch, kept_and_shown
from tests.rehearsal import stack
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.stack import UP

APPLICATIONS = "shop"
# Outputs that tell what is deployed of a rotation.
DEPLOYED = ("anchors", "signer", "trustAnchors", "transitions")


def kill_after(seconds: float, command: list[str], environment: dict[str, str]) -> bool:
    """Run a command and kill it, with all that it started, after a while; return whether it was still running."""
    with _running(command, environment) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
    return False


def kill_when(condition: Callable[[], bool], command: list[str], environment: dict[str, str], seconds: float) -> None:
    """Run a command and kill it, with all that it started, as soon as something is so."""
    with _running(command, environment) as process:
        wait_until(lambda: _is_so(condition) or process.poll() is not None, seconds)
        assert process.poll() is None, "it had come to its end before it could be killed"


def sleep_when(
    condition: Callable[[], bool], asleep: float, command: list[str], environment: dict[str, str], seconds: float
) -> None:
    """Run a command to its end, however that is, and let it stand still for a while as soon as something is so."""
    with _running(command, environment) as process:
        wait_until(lambda: _is_so(condition) or process.poll() is not None, seconds)
        assert process.poll() is None, "it had come to its end before it could fall asleep"
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(asleep)
        os.killpg(process.pid, signal.SIGCONT)
        process.wait(seconds)


def _is_so(condition: Callable[[], bool]) -> bool:
    """Look while a command is at work; a state that it is writing cannot be read (the CLI writes each in two files)."""
    with contextlib.suppress(RehearsalError):
        return condition()
    return False


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, and kill it with all that it started in the end."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class Bench:
    """A stack on a cluster of its own."""

    cluster: Cluster
    project: Workspace
    environment: dict[str, str]

    @property
    def file(self) -> Path:
        return self.project.directory / "stacks" / f"Pulumi.{self.project.stack}.yaml"

    def configure(self, **settings: Any) -> None:
        """Set keys of the stack's file; a key of None is removed."""
        document = yaml.safe_load(self.file.read_text())
        for key, value in settings.items():
            document["config"].pop(f"meshtrust:{key}", None)
            if value is not None:
                document["config"][f"meshtrust:{key}"] = value
        self.file.write_text(yaml.safe_dump(document))

    def engine(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return without_key(self.project.capture(*arguments, stdin=stdin))

    def up(self) -> str:
        result = self.engine(*UP)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def refused(self) -> str:
        """Preview in mode ``step``, which the program must refuse; return what it says."""
        with changed_settings(self.project, {"rotation": {"mode": "step"}}):
            result = self.engine("preview", "--non-interactive")
        written = result.stdout + result.stderr
        assert result.returncode != 0, written
        assert "Traceback" not in written
        return written

    def waits(self) -> str:
        """Deploy, which must leave anchors and signer as they are and succeed; return what it says, as one line."""
        before = self.outputs()
        written = self.up()
        after = self.outputs()
        assert [after[name] for name in DEPLOYED] == [before[name] for name in DEPLOYED], written
        assert not after["rotation"]["converged"]
        return " ".join(written.split())

    def command(self, *arguments: str) -> list[str]:
        return [
            *(sys.executable, "-m", "meshtrust", *arguments),
            *("--stack", self.project.stack, "--cwd", str(self.project.directory)),
        ]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI."""
        result = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        return without_key(result)

    def ok(self, *arguments: str) -> str:
        result = self.cli(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def kill_after(self, seconds: float, *arguments: str) -> bool:
        """Run a command and kill it after a while; return whether it was still running."""
        return kill_after(seconds, self.command(*arguments), self.environment)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as an administrator; return what it writes."""
        result = subprocess.run(
            [*ensure().kubectl, f"--kubeconfig={self.cluster.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def outputs(self) -> dict[str, Any]:
        return self.project.outputs()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("status", "--json"))
        return found

    def run_pod(self, name: str, namespace: str = APPLICATIONS, **spec: Any) -> None:
        """Run a bare pod in a meshed namespace."""
        body = {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "app", "image": "example.com/app"}], **spec},
        }
        with self.cluster.client() as api:
            api.post(f"/api/v1/namespaces/{namespace}/pods", json=body).raise_for_status()
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            wait_until(lambda: api.get(path).json().get("status", {}).get("phase") in ("Running", "Succeeded"))

    def delete(self, path: str) -> None:
        with self.cluster.client() as api:
            # Unasked, the API server would let the pods of a Job live on without it.
            api.delete(path, params={"propagationPolicy": "Foreground"}).raise_for_status()
            wait_until(lambda: api.get(path).status_code == 404)

    def failed(self) -> int:
        return read_handshakes(self.cluster).failed


def without_key(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Return what a command did, which has not shown a private key."""
    KeySearch().check({"what a command wrote": result.stdout + result.stderr})
    return result


@contextlib.contextmanager
def bench(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    workloads: int,
    replicas: int,
    deploy: Callable[[Bench], object] = Bench.up,
):
    """Have Linkerd on a cluster of its own, with proxies that connect to each other all the time.

    Args:
        name: Name of the cluster.
        settings: What its stack is given beyond what leads it to the cluster and the charts.
        workloads: How many workloads there are.
        replicas: How many pods, with a proxy each, a workload has.
        deploy: What brings Linkerd there.
    """
    with contextlib.ExitStack() as cleanup:
        cluster = cleanup.enter_context(Cluster.start(f"{name}-{os.getpid()}"))
        placed = {**stack.settings(cluster, ensure(), stack.charts_of_linkerd()), **(settings or {})}
        project = cleanup.enter_context(workspace("dev", settings=placed))
        made = Bench(cluster, project, project.command_environment)
        deploy(made)
        make_workloads(cluster, APPLICATIONS, workloads, replicas)
        wait_for_proxies(cluster, workloads * replicas, 60)
        yield made
        KeySearch().check(kept_and_shown(project, cluster))
