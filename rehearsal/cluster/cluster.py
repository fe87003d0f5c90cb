"""A rehearsal cluster as a Python program sees it."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from rehearsal.cluster import components
from rehearsal.cluster.binaries import ensure
from rehearsal.cluster.controller import find_controller
from rehearsal.cluster.errors import ClusterError
from rehearsal.cluster.waiting_times import FILE, WaitingTimes

READY_SECONDS = 90
STOP_SECONDS = 20
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


def runtime_directory() -> Path:
    """Return where clusters live while they run. It is short, because it holds sockets, and its owner's alone."""
    directory = Path(tempfile.gettempdir()) / f"meshtrust-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        msg = f"{directory} belongs to another user. Remove it, or set TMPDIR to a directory of your own."
        raise ClusterError(msg)
    return directory


@dataclass(frozen=True)
class Cluster:
    """A running cluster. Used as a context manager, it is stopped at the end.

    Attributes:
        name: Its name, of which its context and its directory are made.
        directory: Where its keys, sockets and logs are; removed when it is stopped.
    """

    name: str
    directory: Path

    @property
    def context(self) -> str:
        """Name of the context in its kubeconfig."""
        return f"rehearsal-{self.name}"

    @property
    def kubeconfig(self) -> Path:
        """Its kubeconfig, with the rights of an administrator."""
        return self.directory / "kubeconfig"

    @property
    def services(self) -> Path:
        """The directory in which processes publish where they answer for a Service."""
        return self.directory / "services"

    @property
    def controller(self) -> str | None:
        """Path of Linkerd's own identity controller, where it runs; None where the stand-in does."""
        found = json.loads((self.directory / "cluster.json").read_text())["controller"]
        return str(found) if found else None

    @property
    def stop_command(self) -> str:
        """The command that stops it, run by the Python that runs here, which has what it needs."""
        python = Path(sys.executable)
        if python.is_relative_to(Path.cwd()):
            python = python.relative_to(Path.cwd())
        return f"{python} -m rehearsal.cluster stop {self.name}"

    @classmethod
    def start(
        cls,
        name: str,
        *,
        keep: bool = False,
        beside: Sequence[Callable[[Path], components.Process]] = (),
        waiting_times: WaitingTimes | None = None,
    ) -> Self:
        """Start a cluster and wait until it is ready; build its parts first where they are not in the cache.

        Args:
            name: Lower-case letters, digits and hyphens. Several clusters may run side by side.
            keep: Whether it runs on after this process has ended, until `stop`. Otherwise it ends with this process,
                however that ends.
            beside: Programs that run beside it and end with it. Each is called with the cluster's directory, writes
                what its program reads there, and returns the process.
            waiting_times: How long pods take to start; they are ready at once without it.

        Raises:
            ClusterError: The name is taken or no name, the parts cannot be built, Linkerd's controller is given and
                cannot be run, or the cluster does not get ready; the message has the end of the log of what failed.
        """
        if not _NAME.fullmatch(name):
            msg = f'"{name}" is not a name of a cluster. Use lower-case letters, digits and hyphens, at most 32.'
            raise ClusterError(msg)
        binary = ensure().path
        controller = find_controller(binary)
        cluster = cls(name, runtime_directory() / name)
        if cluster.is_running():
            msg = f"A cluster named {name} is running. Stop it: {cluster.stop_command}"
            raise ClusterError(msg)
        shutil.rmtree(cluster.directory, ignore_errors=True)
        cluster.services.mkdir(parents=True, mode=0o700)
        api_port, etcd_port, peer_port = components.free_ports(3)
        components.write_files(cluster.directory, cluster.context, api_port)
        if waiting_times:
            cluster.set_waiting_times(waiting_times)
        plan = {
            "processes": [
                asdict(process)
                for process in (
                    *components.processes(cluster.directory, api_port, etcd_port, peer_port, controller),
                    *(declare(cluster.directory) for declare in beside),
                )
            ],
            "controller": str(controller) if controller else None,
            "egress": str(cluster.directory / "egress.sock"),
            "services": str(cluster.services),
            "kubeconfig": str(cluster.kubeconfig),
        }
        (cluster.directory / "cluster.json").write_text(json.dumps(plan, indent=2))
        cluster._supervise(binary, keep=keep)
        try:
            cluster._wait_until_ready()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @classmethod
    def attach(cls, name: str) -> Self:
        """Return a cluster that another process has started.

        Raises:
            ClusterError: No cluster of that name runs.
        """
        cluster = cls(name, runtime_directory() / name)
        if not cluster.is_running():
            running = ", ".join(entry.name for entry in cls.running()) or "none"
            msg = f"No cluster named {name} is running (running: {running})."
            raise ClusterError(msg)
        return cluster

    @classmethod
    def running(cls) -> list[Self]:
        """Return the clusters of this user that run."""
        found = [cls(path.name, path) for path in sorted(runtime_directory().iterdir()) if path.is_dir()]
        return [cluster for cluster in found if cluster.is_running()]

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the cluster."""
        self.stop()

    def is_running(self) -> bool:
        """Return whether its supervisor runs."""
        pid = self._pid("supervisor")
        if pid is None:
            return False
        if pid in _supervisors:
            return _supervisors[pid].poll() is None
        # Its number may long be another process's.
        with contextlib.suppress(OSError):
            return str(self.directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    def stop(self) -> None:
        """Stop every process of the cluster and remove its directory."""
        pid = self._pid("supervisor")
        if pid is not None and self.is_running():
            os.kill(pid, signal.SIGTERM)
            if pid in _supervisors:
                # Its parent has to ask what became of it; until then it stays behind as a zombie.
                _supervisors.pop(pid).wait(STOP_SECONDS)
            _wait(lambda: not self.is_running(), STOP_SECONDS, f"Cluster {self.name} does not stop (process {pid}).")
        shutil.rmtree(self.directory, ignore_errors=True)

    def set_waiting_times(self, times: WaitingTimes) -> None:
        """Set the time that pods of a cluster with waiting times take to start; images that a node has pulled stay."""
        draft = self.directory / f"{FILE}.draft"
        draft.write_text(json.dumps(times.as_json()))
        draft.rename(self.directory / FILE)

    def kill(self, component: str) -> None:
        """Kill a process of the cluster, as a crash would; it is started again at once.

        Raises:
            ClusterError: The process does not exist, or is not running.
        """
        pid = self._pid(component)
        if pid is None:
            names = ", ".join(sorted(path.stem for path in self.directory.glob("*.pid")))
            msg = f"Cluster {self.name} has no running process named {component} (running: {names})."
            raise ClusterError(msg)
        os.kill(pid, signal.SIGKILL)
        _wait(
            lambda: self._pid(component) not in (None, pid),
            READY_SECONDS,
            f"{component} does not come back. {self.log(component)}",
        )

    def restart(self, component: str) -> None:
        """Kill a process of the cluster and wait until the cluster is ready again."""
        self.kill(component)
        self._wait_until_ready()

    def log(self, component: str, lines: int = 15) -> str:
        """Return the end of the log of a process."""
        path = self.directory / f"{component}.log"
        if not path.is_file():
            return f"There is no log of {component}."
        return f"The log of {component} ends:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])

    def _pid(self, component: str) -> int | None:
        try:
            return int((self.directory / f"{component}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _supervise(self, binary: Path, *, keep: bool) -> None:
        with (self.directory / "supervisor.log").open("w") as log:
            process = subprocess.Popen(
                [str(binary), "supervise", str(self.directory), *(["--keep"] if keep else [])],
                # The write end closes with this process, whatever ends it, and that ends the cluster.
                stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _supervisors[process.pid] = process
        (self.directory / "supervisor.pid").write_text(str(process.pid))

    def _wait_until_ready(self) -> None:
        with self.client() as api:
            self._wait(lambda: _answers(api, "/readyz"), "kube-apiserver")
            small = (self.directory / FILE).exists()
            for name in components.NODES:
                api.post("/api/v1/nodes", json=components.node(name, small=small))
            self._wait(lambda: all(_is_ready(_get(api, f"/api/v1/nodes/{name}")) for name in components.NODES), "kwok")
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._wait(lambda: bool(_get(api, account)), "kube-controller-manager")

    def _wait(self, reached: Callable[[], bool], component: str) -> None:
        def check() -> bool:
            if not self.is_running():
                msg = f"Cluster {self.name} ended while it started. {self.log('supervisor')}"
                raise ClusterError(msg)
            return reached()

        _wait(check, READY_SECONDS, lambda: f"Cluster {self.name} does not get ready. {self.log(component)}")

    def client(self) -> httpx.Client:
        """Return an HTTP client of its API server, with the rights of an administrator."""
        config = json.loads(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        # The ssl module reads a client's certificate and key from a file only.
        with tempfile.NamedTemporaryFile(dir=self.directory) as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        return httpx.Client(base_url=cluster["server"], verify=context, timeout=5, trust_env=False)


# Supervisors that this process has started: the pipes by which they know of it stay open as long as these live.
_supervisors: dict[int, subprocess.Popen[bytes]] = {}


def _get(api: httpx.Client, path: str) -> dict[str, Any]:
    try:
        response = api.get(path)
    except httpx.HTTPError:
        return {}
    return response.json() if response.is_success else {}


def _answers(api: httpx.Client, path: str) -> bool:
    try:
        return api.get(path).is_success
    except httpx.HTTPError:
        return False


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _wait(reached: Callable[[], bool], seconds: float, failure: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise ClusterError(failure if isinstance(failure, str) else failure())
        time.sleep(0.05)
