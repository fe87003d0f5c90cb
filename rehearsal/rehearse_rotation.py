"""`make rehearse-rotation`: a goal is set once, and `pulumi up` in a loop rotates the trust anchor under load."""

import contextlib
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
from rehearsal.workspace import Workspace, stack_config

OLD, NEW = "2026", "2027"
_APPLICATIONS = "shop"
_SAMPLE_SECONDS = 0.25
# Introduce, switch, retire; a run more, if one has to wait for what its own restarts do.
_MOST_RUNS = 6
# Once to trust the new anchor, and once to show a certificate under it.
_RESTARTS = 2
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

    workloads: int = 50
    replicas: int = 1
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
        with Sampler(cluster) as sampler:
            with self._step_shown(f"the goal {NEW} is set once; `preview` says the way to it") as report:
                project.configure({**self._goal, "rotation": {"restart": "workloads"}})
                report(self._previewed(project))
            self._reach_the_goal(project, sampler)
            counted = read_handshakes(cluster)
        with self._step_shown("no handshake has failed") as report:
            self._check_none_failed(counted)
            report(f"{counted.succeeded} handshakes, {counted.failed} failed")
        with self._step_shown("every workload was restarted twice, and no more") as report:
            report(f"{_check_restarts(cluster)} restarts of each of {self.workloads} workloads")
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

    @property
    def _goal(self) -> dict[str, Any]:
        """The goal in the stack's file. An external issuer has an external root, and signs under it."""
        goal = {"anchors": [NEW], "signer": NEW}
        if not self._external:
            return goal
        issuer = stack_config(self.stack)["meshtrust:issuer"]
        return {**goal, "anchorCertificates": self._external_roots, "issuer": {**issuer, "refs": self._external}}

    def _previewed(self, project: Workspace) -> str:
        """Preview the stack, and return what that says of the way to the goal."""
        result = project.capture("preview", "--non-interactive")
        for line in (result.stdout + result.stderr).splitlines():
            if not result.returncode and "One run takes one step" in line:
                # The engine's progress has the stack's type and name before it.
                return line[line.index("The goal is") :]
        msg = f"The preview does not say the way to the goal:\n{result.stdout}{result.stderr}"
        raise RehearsalError(msg)

    def _reach_the_goal(self, project: Workspace, sampler: Sampler) -> None:
        """Run `pulumi up` until the stack reports that it has reached its goal, as a scheduler does."""
        for run in range(1, _MOST_RUNS + 1):
            before = project.outputs()
            with self._step_shown(f"`up`, run {run} of a loop that does nothing else") as report:
                sampler.step = _next_step(before)
                self._engine(project, "up", *_NO_PROMPT)
                after = project.outputs()
                taken = [entry["step"] for entry in after["transitions"][len(before["transitions"]) :]]
                report(f"{', '.join(taken) or 'no step'}; {_describe_rest(after['rotation'])}")
            if after["rotation"]["converged"]:
                return
        msg = f"The goal is not reached after {_MOST_RUNS} runs: {after['rotation']}"
        raise RehearsalError(msg)

    def _check_none_failed(self, counted: Handshakes) -> None:
        if counted.failed:
            reasons = Counter(failure.reason for failure in counted.failures).most_common(3)
            msg = f"{counted.failed} of {counted.attempted} handshakes have failed: {reasons}"
            raise RehearsalError(msg)

    def _draw(self, sampler: Sampler) -> None:
        self.picture.write_text(draw_rotation(sampler.samples))
        self.console.print(Panel(phases_table(sampler.samples), title="[bold]the rotation[/]", expand=False))
        self.console.print(f"Its picture is in {self.picture}.", soft_wrap=True)


def _next_step(outputs: dict[str, Any]) -> str:
    """Return the kind of the step that the next run of a stack is to take; its last run may have had another goal."""
    report = outputs["rotation"]
    return "introduce" if report["converged"] else str(report["next"]).partition("-")[0]


def _describe_rest(report: dict[str, Any]) -> str:
    count = report["waitingFor"]["count"]
    waits = f", which waits for {count}" if count else ""
    return "the goal is reached" if report["converged"] else f"next {report['next']}{waits}"


def _check_restarts(cluster: Cluster) -> int:
    """Return how often each workload was restarted, which a rotation does twice.

    Raises:
        RehearsalError: One was restarted less or more often.
    """
    with cluster.client() as api:
        items = api.get(f"/apis/apps/v1/namespaces/{_APPLICATIONS}/deployments").raise_for_status().json()["items"]
    # A Deployment's generation counts the changes of its template; the first is its creation.
    counts = {item["metadata"]["name"]: item["metadata"]["generation"] - 1 for item in items}
    wrong = {name: count for name, count in counts.items() if count != _RESTARTS}
    if wrong:
        msg = f"Not every workload was restarted {_RESTARTS} times: {wrong}"
        raise RehearsalError(msg)
    return _RESTARTS


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
