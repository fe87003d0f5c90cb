"""A fleet of small clusters side by side, and the commands on it."""

import contextlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import yaml

from rehearsal.cluster import Cluster
from rehearsal.mesh.traffic import make_workloads, read_handshakes, wait_for_proxies
from rehearsal.rehearse_rotation import changed_settings
from rehearsal.workspace import REPOSITORY, Workspace, workspace
from tests.rehearsal.stack import UP

APPLICATIONS = "shop"
# Thirty proxies on two clusters.
WORKLOADS, REPLICAS = 5, 3


@dataclass
class FleetBench:
    """An anchor stack, and a stack for each of a few clusters."""

    project: Workspace
    environment: dict[str, str]
    common: dict[str, Any]
    clusters: dict[str, Cluster] = field(default_factory=dict)

    def config(self, stack: str) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.project.file(stack).read_text())
        return {key.partition(":")[2]: value for key, value in document["config"].items()}

    def configure(self, stack: str, **settings: Any) -> None:
        """Set keys of a stack's file; a key of None is removed."""
        document = yaml.safe_load(self.project.file(stack).read_text())
        for key, value in settings.items():
            document["config"].pop(f"meshtrust:{key}", None)
            if value is not None:
                document["config"][f"meshtrust:{key}"] = value
        self.project.file(stack).write_text(yaml.safe_dump(document))

    def add(self, name: str, cluster: Cluster, anchors: list[str], signer: str) -> None:
        """Write the file of a cluster's stack, and list it in the anchor stack's."""
        self.clusters[name] = cluster
        own = {"context": cluster.context, "kubeconfig": str(cluster.kubeconfig), "anchorStack": "anchor"}
        self.project.write_stack(name, {**self.common, **own, "anchors": anchors, "signer": signer})
        self.configure("anchor", clusters=[*self.config("anchor").get("clusters", []), name])

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "meshtrust", *arguments, "--cwd", str(self.project.directory)]

    def cli(self, *arguments: str, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def ok(self, *arguments: str) -> str:
        result = self.cli(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def outputs(self, stack: str) -> dict[str, Any]:
        return self.project.of(stack).outputs()

    def engine(self, stack: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.project.of(stack).capture(*arguments)

    def up(self, stack: str) -> str:
        result = self.engine(stack, *UP)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def refused(self, stack: str) -> str:
        """Preview a stack in mode ``step``, which the program must refuse; return what it says."""
        with changed_settings(self.project.of(stack), {"rotation": {"mode": "step"}}):
            result = self.engine(stack, "preview", "--non-interactive")
        written = result.stdout + result.stderr
        assert result.returncode != 0, written
        assert "Traceback" not in written
        return written

    def state(self, stack: str) -> str:
        """Return a stack's whole state, its secrets in the clear."""
        return self.engine(stack, "stack", "export", "--show-secrets").stdout

    def failed(self) -> dict[str, int]:
        """Number of failed handshakes, by cluster."""
        return {name: read_handshakes(cluster).failed for name, cluster in self.clusters.items()}

    def load(self, name: str) -> None:
        """Put proxies on a cluster that connect to each other all the time."""
        make_workloads(self.clusters[name], APPLICATIONS, WORKLOADS, REPLICAS)
        wait_for_proxies(self.clusters[name], WORKLOADS * REPLICAS, 60)


@contextlib.contextmanager
def fleet_bench(names: list[str], common: dict[str, Any]):
    """Start a cluster for each name, and write the files of a fleet; nothing of it is deployed.

    Args:
        names: Names of the clusters' stacks.
        common: Configuration that all of them share.
    """
    with contextlib.ExitStack() as cleanup:
        with ThreadPoolExecutor() as pool:
            started = list(pool.map(lambda name: Cluster.start(f"{name}-{os.getpid()}"), names))
        clusters = {name: cleanup.enter_context(cluster) for name, cluster in zip(names, started, strict=True)}
        anchor = {"anchor": {"protect": True}, "clusters": []}
        project = cleanup.enter_context(workspace("anchor", settings=anchor, init=False))
        environment = project.command_environment
        made = FleetBench(project, environment, common)
        for name, cluster in clusters.items():
            made.add(name, cluster, ["2026"], "2026")
        yield made


def events(written: str) -> list[dict[str, Any]]:
    """Read what a command told a machine."""
    return [json.loads(line) for line in written.splitlines()]
