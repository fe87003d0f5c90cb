"""Cost of `meshtrust status` by the number of pods: seconds, requests and memory, and how they grow.

And of the gate's look before a switch, which also asks each replica of the injector what it would inject, and who else
trusts the root. When it read only roots and pods, it made 15 requests at 5,000 pods. Pods that come and go do not hold
up a retirement: 0 false alarms in 50 tries (`tests/unit/test_evidence.py`).
"""

import asyncio
import multiprocessing
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks.machine import deployed, wait_until
from meshtrust.cluster.api import Api, Request
from meshtrust.names import CONTROL_PLANE_NAMESPACE_LABEL, PROXY, TRUST_ROOTS, TRUST_ROOTS_ANNOTATION, TRUST_ROOTS_KEY
from meshtrust.pki.pem import sha256_hex
from meshtrust.rotation.gate import find_blockers
from meshtrust.rotation.steps import Step, Trust
from meshtrust.stacks.inspection import inspect
from meshtrust.stacks.target import Target
from rehearsal.cluster import Cluster
from rehearsal.connection import connect

if TYPE_CHECKING:
    from httpx_ws import AsyncWebSocketSession

COUNTS = (500, 5000)
_NAMESPACE = "many"
_AT_ONCE = 8


def measure() -> dict[str, Any]:
    """Deploy a stack, put more and more meshed pods beside it, and read the mesh each time."""
    with deployed("dev") as (cluster, _):
        found = {"0": _status(cluster)}
        made = 0
        for count in COUNTS:
            _make_pods(cluster, made, count)
            made = count
            found[str(count)] = _status(cluster)
    few, many = found[str(COUNTS[0])], found[str(COUNTS[-1])]
    return {
        "byPods": found,
        "podsRatio": COUNTS[-1] / COUNTS[0],
        "secondsRatio": round(many["seconds"] / few["seconds"], 2),
        "memoryRatio": round(many["memoryMiB"] / few["memoryMiB"], 2),
    }


def _status(cluster: Cluster) -> dict[str, Any]:
    """Read the mesh in a process of its own, whose memory is its own too."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_read, args=(cluster.context, str(cluster.kubeconfig), answers))
    process.start()
    answer: dict[str, Any] = answers.get(timeout=300)
    process.join()
    return answer


class _Counting(Api):
    """An API server whose requests are counted."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.requests = 0

    async def send(self, request: Request) -> Any:
        self.requests += 1
        return await self._api.send(request)

    def open_port(
        self, namespace: str, pod: str, port: int, *, seconds: float
    ) -> "AbstractAsyncContextManager[AsyncWebSocketSession]":
        self.requests += 1
        return self._api.open_port(namespace, pod, port, seconds=seconds)


def _read(context: str, kubeconfig: str, answers: Any) -> None:
    async def read() -> dict[str, Any]:
        api = _Counting(await connect(context, kubeconfig))
        target = Target(api=api, context=context, namespace="linkerd", stack=None, deployed=None)
        started = time.perf_counter()
        inspection = await inspect(target)
        seconds = time.perf_counter() - started
        status = {
            "pods": len(inspection.mesh.pods),
            "seconds": round(seconds, 3),
            "requests": api.requests,
            "memoryMiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        [root] = inspection.mesh.roots
        trust = Trust(anchors=("2026",), signer="2026")
        api.requests, started = 0, time.perf_counter()
        step = Step(kind="switch", generations=trust.anchors, before=trust, after=trust)
        if blockers := await find_blockers(api, "linkerd", step, {"2026": root}):
            raise RuntimeError("\n".join(map(str, blockers)))
        return status | {"lookSeconds": round(time.perf_counter() - started, 3), "lookRequests": api.requests}

    answers.put(asyncio.run(read()))


def _make_pods(cluster: Cluster, first: int, last: int) -> None:
    """Make meshed pods that no proxy is played for, from one number to another."""
    with cluster.client() as api:
        path = f"/api/v1/namespaces/linkerd/configmaps/{TRUST_ROOTS}"
        bundle = api.get(path).raise_for_status().json()["data"][TRUST_ROOTS_KEY]
        api.post("/api/v1/namespaces", json={"metadata": {"name": _NAMESPACE}})
        _wait_for_account(api)

        def make(number: int) -> None:
            body = _pod(number, bundle)
            api.post(f"/api/v1/namespaces/{_NAMESPACE}/pods", json=body, timeout=60).raise_for_status()

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(make, range(first, last)))


def _wait_for_account(api: httpx.Client) -> None:
    """Wait until pods may be made in the namespace: they need its service account."""
    account = f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts/default"
    wait_until(lambda: not api.get(account).is_error, f"namespace {_NAMESPACE} has no service account", 30, every=0.05)


def _pod(number: int, bundle: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"pod-{number:05}",
            "labels": {CONTROL_PLANE_NAMESPACE_LABEL: "linkerd"},
            "annotations": {
                TRUST_ROOTS_ANNOTATION: sha256_hex(bundle),
                "rehearsal.meshtrust.io/proxy": "none",
            },
        },
        "spec": {
            "containers": [
                {"name": "app", "image": "example.com/app"},
                {
                    "name": PROXY,
                    "image": "example.com/proxy",
                    "env": [{"name": "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "value": bundle}],
                },
            ]
        },
    }
