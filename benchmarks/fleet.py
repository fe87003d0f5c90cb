"""What a step of one cluster costs by the number of clusters in its fleet: seconds and memory of the fleet's gate.

Only so many real API servers fit on one machine. So the other clusters are stand-ins: one HTTP server in a process of
its own, which answers what the gate of a switch asks of a cluster - the version, the namespace kube-system, Linkerd's
ConfigMaps and Secret, the list of pods - as an API server words it. There is no TLS, no etcd and no network between.
"""

import asyncio
import json
import multiprocessing
import os
import resource
import subprocess
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509

from meshtrust.deployment import Deployment
from meshtrust.fleet.gate import Sibling, find_sibling_blockers
from meshtrust.pem import read_bundle, sha256_hex
from meshtrust.rotation import Step, Trust
from rehearsal.workspace import REPOSITORY, workspace
from tests.certificates import make_certificate

COUNTS = (1, 10, 50, 200)
PODS = 100
_UID = "00000000-0000-0000-0000-000000000001"
_STACKS = 8
_OLD, _NEW = "2026", "2027"


def measure() -> dict[str, Any]:
    """Judge a switch on fleets of several sizes, and read the outputs of stacks by the engine."""
    bundle = "\n".join(make_certificate(f"root {name}").pem.strip() for name in (_OLD, _NEW))
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    server = context.Process(target=_serve, args=(bundle, ports), daemon=True)
    server.start()
    try:
        port = ports.get(timeout=60)
        found = {str(count): _in_a_process(context, bundle, port, count) for count in COUNTS}
    finally:
        server.terminate()
        server.join()
    few, many = found[str(COUNTS[1])], found[str(COUNTS[-1])]
    return {
        "podsPerCluster": PODS,
        "byClusters": found,
        "clustersRatio": COUNTS[-1] / COUNTS[1],
        "secondsRatio": round(many["seconds"] / few["seconds"], 2),
        "memoryRatio": round(many["memoryMiB"] / few["memoryMiB"], 2),
        "secondsPerOutputs": _outputs_seconds(),
    }


def _in_a_process(context: Any, bundle: str, port: int, count: int) -> dict[str, Any]:
    """Judge in a process of its own, whose memory is its own too."""
    answers = context.Queue()
    process = context.Process(target=_judge, args=(bundle, port, count, answers))
    process.start()
    answer: dict[str, Any] = answers.get(timeout=120)
    process.join()
    return answer


def _judge(bundle: str, port: int, count: int, answers: Any) -> None:
    names = [f"c{number}" for number in range(count)]
    roots: dict[str, x509.Certificate] = dict(zip((_OLD, _NEW), read_bundle(bundle), strict=True))
    before = Trust(anchors=(_OLD, _NEW), signer=_OLD)
    after = Trust(anchors=(_OLD, _NEW), signer=_NEW)
    step = Step(kind="switch", generations=(_NEW,), before=before, after=after)
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            # One for each, as docs/scale.md advises.
            (Path(directory) / name).write_text(yaml.safe_dump(_kubeconfig(name, port)))
        siblings = [
            Sibling(
                stack=name,
                deployed=Deployment(
                    {
                        "context": name,
                        "kubeconfig": str(Path(directory) / name),
                        "namespace": "linkerd",
                        "clusterUid": _UID,
                        "anchors": [_OLD, _NEW],
                        "signer": _OLD,
                    }
                ),
            )
            for name in names
        ]
        started = time.monotonic()
        blockers = asyncio.run(find_sibling_blockers(siblings, step, roots))
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


def _kubeconfig(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{port}/{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}],
    }


def _serve(bundle: str, ports: Any) -> None:
    labels = {"linkerd.io/control-plane-ns": "linkerd", "pod-template-hash": "abc"}
    owner = {"kind": "ReplicaSet", "name": "web-abc", "controller": True, "apiVersion": "apps/v1", "uid": _UID}
    pods = [
        {
            "metadata": {
                "name": f"web-abc-{number:05}",
                "namespace": "shop",
                "labels": labels,
                "annotations": {"linkerd.io/trust-root-sha256": sha256_hex(bundle)},
                "ownerReferences": [owner],
                "creationTimestamp": "2026-01-01T00:00:00Z",
            }
        }
        for number in range(PODS)
    ]
    answers = {
        "version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "namespaces/kube-system": {"metadata": {"name": "kube-system", "uid": _UID}},
        "configmaps/linkerd-identity-trust-roots": {"data": {"ca-bundle.crt": bundle}},
        "configmaps/linkerd-config": {"data": {"values": ""}},
        "secrets/linkerd-identity-issuer": {"data": {}},
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
