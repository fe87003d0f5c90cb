"""Costs of a fleet by its number of clusters: one cluster's step, a look into all, a run of the anchor stack.

Only so many real API servers fit on one machine. So the clusters that are looked into are stand-ins: one HTTP server in
a process of its own, which answers what a look asks of a cluster - the version, the namespace kube-system, Linkerd's
ConfigMaps and Secret, the list of pods - as an API server words it. TLS, etcd and a network are missing.
The anchor stack is the real program, on the real engine where there is one; the stacks that it reads are states in a
file backend, as clusters' runs write them.
"""

import asyncio
import json
import multiprocessing
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.machine import deployed
from meshtrust.linkerd.pods import ANCHORS_VARIABLE
from meshtrust.names import (
    CONTROL_PLANE_NAMESPACE_LABEL,
    IDENTITY_ISSUER,
    LINKERD_CONFIG,
    PROXY,
    TRUST_ROOTS,
    TRUST_ROOTS_KEY,
)
from meshtrust.pki.pem import read_bundle
from meshtrust.rotation.gate import find_blockers
from meshtrust.rotation.pledge import decide
from meshtrust.rotation.steps import Step, Trust
from meshtrust.stacks.outputs import StackOutputs
from rehearsal.connection import connect
from rehearsal.workspace import REPOSITORY, Workspace, workspace
from tests.certificates import make_certificate, make_request

COUNTS = (1, 10, 50, 200, 1000)
ANCHOR_COUNTS = (10, 50, 200)
PODS = 100
# As many as `meshtrust fleet status` looks into at a time.
_AT_ONCE = 8
_UID = "00000000-0000-0000-0000-000000000001"
_STACKS = 8
_OLD, _NEW = "2026", "2027"
_BEFORE, _AFTER = Trust(anchors=(_OLD, _NEW), signer=_OLD), Trust(anchors=(_OLD, _NEW), signer=_NEW)
_SWITCH = Step(kind="switch", generations=(_NEW,), before=_BEFORE, after=_AFTER)


def measure() -> dict[str, Any]:
    """Measure all three on fleets of several sizes, and how long the engine takes for the outputs of one stack."""
    bundle = "\n".join(make_certificate(f"root {name}").pem.strip() for name in (_OLD, _NEW))
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    server = context.Process(target=_serve, args=(bundle, ports), daemon=True)
    server.start()
    try:
        port = ports.get(timeout=60)
        looks = {str(count): _in_a_process(context, _look, bundle, port, count) for count in COUNTS}
    finally:
        server.terminate()
        server.join()
    few, many = looks[str(COUNTS[1])], looks[str(COUNTS[-1])]
    return {
        "oneStep": {str(count): _in_a_process(context, _decide, count) for count in COUNTS},
        "podsPerCluster": PODS,
        "lookIntoAll": looks,
        "clustersRatio": COUNTS[-1] / COUNTS[1],
        "secondsRatio": round(many["seconds"] / few["seconds"], 2),
        "memoryRatio": round(many["memoryMiB"] / few["memoryMiB"], 2),
        "anchorStack": {str(count): _anchor_stack(count) for count in ANCHOR_COUNTS},
        "clusterRun": _cluster_run(),
        "secondsPerOutputs": _outputs_seconds(),
    }


def _in_a_process(context: Any, work: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """Measure in a process of its own, whose memory is its own too."""
    answers = context.Queue()
    process = context.Process(target=work, args=(*arguments, answers))
    process.start()
    answer: dict[str, Any] = answers.get(timeout=600)
    process.join()
    return answer


def _decide(count: int, answers: Any) -> None:
    """Judge the switch of one cluster by what all have pledged, as its run does it from the anchor stack's outputs."""
    pledge = {"stamp": "s", "anchors": [_OLD, _NEW], "signer": _OLD, "accepts": [_OLD, _NEW], "released": []}
    outputs = json.dumps({"pledges": {f"c{number}": pledge for number in range(count)}})
    started = time.monotonic()
    pledges = StackOutputs(json.loads(outputs)).pledges
    decision = decide("c0", pledges["c0"], _SWITCH, pledges, is_ready=True)
    seconds = time.monotonic() - started
    if decision.blockers or not decision.takes_step:
        message = f"the step is refused: {decision}"
        raise RuntimeError(message)
    answers.put({"milliseconds": round(1000 * seconds, 2), "outputsKiB": round(len(outputs) / 1024)})


def _look(bundle: str, port: int, count: int, answers: Any) -> None:
    """Look into every cluster once, all of them in one kubeconfig, as a command over the whole fleet does it."""
    names = [f"c{number}" for number in range(count)]
    roots: dict[str, x509.Certificate] = dict(zip((_OLD, _NEW), read_bundle(bundle), strict=True))

    async def look_into_all(kubeconfig: str) -> list[Any]:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def look(name: str) -> list[Any]:
            async with limit:
                return await find_blockers(await connect(name, kubeconfig), "linkerd", _SWITCH, roots)

        return [blocker for blockers in await asyncio.gather(*map(look, names)) for blocker in blockers]

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kubeconfig"
        path.write_text(yaml.safe_dump(_kubeconfig(names, port)))
        started = time.monotonic()
        blockers = asyncio.run(look_into_all(str(path)))
        seconds = time.monotonic() - started
    if blockers:
        message = f"the stand-ins do not answer as they must: {blockers[0]}"
        raise RuntimeError(message)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers.put(
        {
            "seconds": round(seconds, 2),
            "millisecondsPerCluster": round(1000 * seconds / count, 1),
            "memoryMiB": round(memory),
        }
    )


def _anchor_stack(count: int) -> dict[str, Any]:
    """Run the anchor stack of a fleet twice: once when all clusters ask for an intermediate, and once again."""
    names = [f"c{number}" for number in range(count)]
    with workspace("anchor", settings={"clusters": [], "anchor": {"protect": False}}) as project:
        state = json.loads(_state(project, "anchor").read_text())
        for name in names:
            _state(project, name).write_text(json.dumps(_asking(state, name)))
        config = yaml.safe_load(project.file("anchor").read_text())["config"]
        project.write_stack("anchor", {**config, "meshtrust:clusters": names})
        signing = _up(project)
        used = _children_seconds()
        again = _up(project)
        used = _children_seconds() - used
        engine = project.describe_engine()
        return {"engine": engine, "secondsSigning": signing, "secondsAgain": again, "cpuSecondsAgain": round(used, 1)}


def _cluster_run() -> dict[str, Any]:
    """Run a cluster's stack that has nothing to change, and return what that takes, all its processes together."""
    with deployed("dev") as (_, project):
        used = _children_seconds()
        seconds = _up(project)
        used = _children_seconds() - used
        return {"engine": project.describe_engine(), "seconds": seconds, "cpuSeconds": round(used, 1)}


def _children_seconds() -> float:
    """Return the seconds of a core that have been used by all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _state(project: Workspace, stack: str) -> Path:
    return project.directory / "state" / ".pulumi" / "stacks" / "meshtrust" / f"{stack}.json"


def _asking(state: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the state of a cluster's stack that asks for its intermediate, made from that of an empty one."""
    request = make_request(
        ec.generate_private_key(ec.SECP256R1()), organization=name, organizational_unit=f"generation {_OLD}"
    )
    pledge = {"stamp": name, "anchors": [_OLD], "signer": "", "accepts": [_OLD], "released": []}
    outputs = {"anchorStack": "anchor", "requests": {_OLD: request}, "pledge": pledge}
    root = {
        "urn": f"urn:pulumi:{name}::meshtrust::pulumi:pulumi:Stack::meshtrust-{name}",
        "custom": False,
        "type": "pulumi:pulumi:Stack",
        "outputs": outputs,
    }
    checkpoint = state["checkpoint"]
    latest = {**checkpoint["latest"], "resources": [root]}
    return {**state, "checkpoint": {**checkpoint, "stack": f"organization/meshtrust/{name}", "latest": latest}}


def _up(project: Workspace) -> float:
    started = time.monotonic()
    done = project.capture("up", "--yes", "--skip-preview", "--non-interactive")
    if done.returncode:
        message = f"the anchor stack cannot be deployed: {done.stdout}{done.stderr}"
        raise RuntimeError(message)
    return round(time.monotonic() - started, 1)


def _kubeconfig(names: Sequence[str], port: int) -> dict[str, Any]:
    server = f"http://127.0.0.1:{port}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": names[0],
        "clusters": [{"name": name, "cluster": {"server": f"{server}/{name}"}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "nobody"}} for name in names],
        "users": [{"name": "nobody", "user": {}}],
    }


def _serve(bundle: str, ports: Any) -> None:
    labels = {CONTROL_PLANE_NAMESPACE_LABEL: "linkerd", "pod-template-hash": "abc"}
    owner = {"kind": "ReplicaSet", "name": "web-abc", "controller": True, "apiVersion": "apps/v1", "uid": _UID}
    pods = [
        {
            "metadata": {
                "name": f"web-abc-{number:05}",
                "namespace": "shop",
                "labels": labels,
                "ownerReferences": [owner],
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"containers": [{"name": PROXY, "env": [{"name": ANCHORS_VARIABLE, "value": bundle}]}]},
        }
        for number in range(PODS)
    ]
    answers = {
        "version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "namespaces/kube-system": {"metadata": {"name": "kube-system", "uid": _UID}},
        f"configmaps/{TRUST_ROOTS}": {"data": {TRUST_ROOTS_KEY: bundle}},
        f"configmaps/{LINKERD_CONFIG}": {"data": {"values": ""}},
        f"secrets/{IDENTITY_ISSUER}": {"data": {}},
        "pods": {"metadata": {}, "items": pods},
    }
    encoded = {path: json.dumps(answer).encode() for path, answer in answers.items()}

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].rstrip("/")
            body = next((answer for end, answer in encoded.items() if path.endswith(f"/{end}")), b"{}")
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        # As many may wait to be taken as an API server's listener lets wait.
        request_queue_size = 4096

    server = Server(("127.0.0.1", 0), Answer)
    ports.put(server.server_address[1])
    server.serve_forever()


def _outputs_seconds() -> float:
    """Return how long the engine takes for the outputs of one stack, one after the other."""
    with workspace("dev") as project:
        environment = {**os.environ, **project.environment}
        started = time.monotonic()
        for _ in range(_STACKS):
            subprocess.run(
                project.command("stack", "output", "--json"),
                env=environment,
                cwd=REPOSITORY,
                capture_output=True,
                check=True,
            )
        return round((time.monotonic() - started) / _STACKS, 2)
