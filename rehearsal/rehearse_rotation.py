"""`make rehearse-rotation`: a rotation of the trust anchor under load, and the same without its gate."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from rich.panel import Panel
from rich.table import Table

from meshtrust.cluster.api import METADATA_ONLY
from meshtrust.names import CONTROL_PLANE_NAMESPACE_LABEL, TRUST_ROOTS, TRUST_ROOTS_ANNOTATION, TRUST_ROOTS_KEY
from meshtrust.pki.chain import verify_chain
from meshtrust.pki.pem import read_bundle, sha256_hex
from rehearsal import mesh
from rehearsal.cluster import Cluster, ClusterError
from rehearsal.errors import RehearsalError
from rehearsal.mesh.traffic import Handshakes, make_workloads, read_handshakes, wait_for_proxies
from rehearsal.observe import Observer
from rehearsal.rehearse import NAMESPACE, REACTION_SECONDS, Rehearsal
from rehearsal.rotation_picture import Sample, draw_rotation
from rehearsal.workspace import REPOSITORY, Workspace, stack_config

OLD, NEW = "2026", "2027"
_APPLICATIONS = "shop"
_SAMPLE_SECONDS = 0.25
_NO_PROMPT = ("--yes", "--skip-preview", "--non-interactive")
_SELECTED = {"labelSelector": f"{CONTROL_PLANE_NAMESPACE_LABEL}={NAMESPACE}"}
_ANCHORS_SHA256 = TRUST_ROOTS_ANNOTATION


class Sampler:
    """Sampler of handshakes and trusted anchors, several times a second during a rotation."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._names: dict[str, str] = {}
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Sample] = []
        self.step = "steady"

    def __enter__(self) -> "Sampler":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._cluster.client() as api:
            while not self._ended.wait(_SAMPLE_SECONDS):
                with contextlib.suppress(ClusterError, httpx.HTTPError):
                    counted = read_handshakes(self._cluster)
                    self.samples.append(
                        Sample(
                            seconds=time.monotonic() - self._started,
                            step=self.step,
                            succeeded=counted.succeeded,
                            failed=counted.failed,
                            pods=self._pods(api),
                        )
                    )

    def _pods(self, api: httpx.Client) -> Counter[str]:
        """Return the number of proxies by the anchors in the bundle that they were injected with."""
        answer = api.get("/api/v1/pods", params=_SELECTED, headers={"Accept": METADATA_ONLY}).raise_for_status()
        hashes = [(item["metadata"].get("annotations") or {}).get(_ANCHORS_SHA256) for item in answer.json()["items"]]
        if set(hashes) - self._names.keys():
            self._learn_names(api)
        return Counter(self._names.get(found, "another bundle") for found in hashes if found)

    def _learn_names(self, api: httpx.Client) -> None:
        """Name the bundle that is deployed now by the subjects of its roots."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{TRUST_ROOTS}"
        bundle = api.get(path).raise_for_status().json()["data"][TRUST_ROOTS_KEY]
        units = [
            str(unit.value).removeprefix("generation ")
            for root in read_bundle(bundle)
            for unit in root.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        ]
        self._names[sha256_hex(bundle)] = " and ".join(units)


@dataclass
class RotationRehearsal(Rehearsal):
    """The rehearsal of a rotation; `Rehearsal` has the parts that all rehearsals share.

    Attributes:
        workloads: Number of applications.
        replicas: Pods of each.
        picture: File that the picture of the rotation is written to, as SVG.
    """

    workloads: int = 25
    replicas: int = 2
    picture: Path = field(default_factory=lambda: Path("rotation.svg"))

    def _rehearse(self, project: Workspace, observer: Observer) -> None:
        before = observer.inventory()
        cluster = observer.cluster
        with self._step_shown("`up`: the stack, under one trust anchor"):
            self._engine(project, "up", *_NO_PROMPT)
        proxies = self.workloads * self.replicas
        with self._step_shown(
            f"{proxies} proxies, each with its own certificate, that connect to each other all the time"
        ):
            make_workloads(cluster, _APPLICATIONS, self.workloads, self.replicas)
            wait_for_proxies(cluster, proxies, REACTION_SECONDS)
        # An external issuer has an external root, and signs under it.
        external = self._introduced()
        with self._step_shown(
            "a switch of the signer is refused in preview while no proxy trusts the new anchor"
        ) as report:
            report(self._refused(project, {"anchors": [OLD, NEW], "signer": NEW, **external}))
        if external:
            project.configure(external)
        environment = project.command_environment
        with Sampler(cluster) as sampler:
            with self._step_shown(f"`meshtrust rotate --to {NEW} --step`: the new anchor is introduced"):
                self._command(project, environment, sampler, "rotate", "--to", NEW, "--step")
            with self._step_shown("`up` now waits, and changes nothing: these proxies do not trust it yet") as report:
                report(self._waits(project))
            with self._step_shown(f"`meshtrust rotate --to {NEW}`: restarts, switch, restarts, retirement"):
                self._command(project, environment, sampler, "rotate", "--to", NEW)
            counted = read_handshakes(cluster)
        with self._step_shown("no handshake has failed") as report:
            self._check_none_failed(counted)
            report(f"{counted.succeeded} handshakes, {counted.failed} failed")
        with self._step_shown("a new leaf is under the new anchor, which is the only one") as report:
            roots = self._roots(project)
            leaf = mesh.request_leaf(cluster, namespace=NAMESPACE, service_account="default")
            chain = verify_chain(read_bundle(leaf.chain_pem), roots, datetime.now(UTC))
            report(f"{len(roots)} root, {len(chain)} certificates from leaf to root")
        self._draw(sampler)
        if self.keep:
            return
        with self._step_shown("`destroy`: nothing is left"):
            with cluster.client() as api:
                api.delete(f"/api/v1/namespaces/{_APPLICATIONS}").raise_for_status()
            self._engine(project, "destroy", *_NO_PROMPT)
            observer.wait_for_inventory(before, REACTION_SECONDS)

    def _references(self, named: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        return {**named, NEW: {**named[OLD], "name": f"{named[OLD]['name']}-{NEW}"}}

    def _introduced(self) -> dict[str, Any]:
        """Return the settings of the new generation in the stack's file, besides its name."""
        if not self._external:
            return {}
        issuer = stack_config(self.stack)["meshtrust:issuer"]
        return {"anchorCertificates": self._external_roots, "issuer": {**issuer, "refs": self._external}}

    def _waits(self, project: Workspace) -> str:
        """Deploy the new anchor alone as the goal, which has to wait; return what the next step waits for."""
        before = project.outputs()
        project.configure({"anchors": [NEW], "signer": NEW})
        self._engine(project, "up", *_NO_PROMPT)
        after = project.outputs()
        waiting = after["rotation"]["waitingFor"]
        if not waiting["count"] or any(before[name] != after[name] for name in ("anchors", "signer", "trustAnchors")):
            msg = f"The run did not wait: {after['rotation']}"
            raise RehearsalError(msg)
        return f"{waiting['count']} to go, the first: {waiting['first'][0]}"

    def _refused(self, project: Workspace, settings: dict[str, Any]) -> str:
        """Preview the stack in mode ``step`` with changed settings, which must be refused; return the reason."""
        with changed_settings(project, {"rotation": {"mode": "step"}, **settings}):
            result = project.capture("preview", "--non-interactive")
        written = result.stdout + result.stderr
        for line in written.splitlines():
            if result.returncode and ("cannot be deployed:" in line or "It is not safe yet" in line):
                # The engine's progress has the stack's type and name before it.
                return line.partition("error: ")[2]
        msg = f"The step was not refused:\n{written}"
        raise RehearsalError(msg)

    def _command(self, project: Workspace, environment: dict[str, str], sampler: Sampler, *arguments: str) -> None:
        """Run a command of the CLI on the stack, and show its events."""
        for event in run_command(project, environment, *arguments):
            if event["event"] == "step":
                sampler.step = event["step"]
                self.console.print(f"  [bold cyan]{event['step']}[/] {', '.join(event['generations'])}")
            elif event["event"] == "waiting":
                self.console.print(f"  [yellow]·[/] {len(event['blockers'])} proxies to go")
            elif event["event"] == "note":
                self.console.print(f"  [dim]·[/] {event['text']}", soft_wrap=True)

    def _check_none_failed(self, counted: Handshakes) -> None:
        if counted.failed:
            reasons = Counter(failure.reason for failure in counted.failures).most_common(3)
            msg = f"{counted.failed} of {counted.attempted} handshakes have failed: {reasons}"
            raise RehearsalError(msg)

    def _draw(self, sampler: Sampler) -> None:
        self.picture.write_text(draw_rotation(sampler.samples))
        self.console.print(Panel(phases_table(sampler.samples), title="[bold]the rotation[/]", expand=False))
        self.console.print(f"Its picture is in {self.picture}.", soft_wrap=True)


def run_command(project: Workspace, environment: dict[str, str], *arguments: str) -> Iterator[dict[str, Any]]:
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


@contextlib.contextmanager
def changed_settings(project: Workspace, settings: dict[str, Any]) -> Iterator[None]:
    """Change a workspace's configuration for a while."""
    path = project.file(project.stack)
    text = path.read_text()
    project.configure(settings)
    try:
        yield
    finally:
        path.write_text(text)


def phases_table(samples: list[Sample]) -> Table:
    """Return a table of the steps, with their seconds and handshakes."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("step", "seconds", "handshakes", "failed"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for step in dict.fromkeys(sample.step for sample in samples):
        within = [sample for sample in samples if sample.step == step]
        first, last = within[0], within[-1]
        table.add_row(
            step,
            f"{last.seconds - first.seconds:.0f}",
            str(last.succeeded - first.succeeded),
            str(last.failed - first.failed),
        )
    return table
