"""What the proxies of a rehearsal cluster do all the time: connect to each other. And workloads that have proxies."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from meshtrust.names import INJECT_ANNOTATION
from rehearsal.cluster import Cluster, ClusterError

# Where the proxies publish their report (rehearsal/mesh/proxies/command.go).
_REPORT = "rehearsal.handshakes.80"
_COMPONENT = "linkerd-proxies"


@dataclass(frozen=True)
class HandshakeFailure:
    """A connection that failed.

    Attributes:
        time: When.
        source: Pod whose proxy began it, as namespace/name.
        target: Pod whose proxy it was for.
        reason: What the source saw; "remote error" is what the target refused.
    """

    time: datetime
    source: str
    target: str
    reason: str


@dataclass(frozen=True)
class RenewalFailure:
    """A proxy that asked for a leaf and has none, or refused the one it got."""

    time: datetime
    pod: str
    reason: str


@dataclass(frozen=True)
class Handshakes:
    """What came of all connections between proxies since their process started.

    Attributes:
        since: When that was.
        proxies: How many proxies have a leaf at this moment, and a pod that is not being deleted.
        attempted: Connections that came to an end; those of pods that were deleted meanwhile are left out.
        succeeded: How many were full mutual handshakes, with a byte echoed.
        failed: How many were not.
        failures: The newest 200 of these, oldest first.
        refused_leaves: How many leaves were issued, but refused by the trust anchors of the proxy they were for.
        renewal_failures: The newest 200 requests for a leaf that got none in use, oldest first.
        by_pod: Connections that each pod's proxy has begun, and how many of them failed, by namespace/name.
    """

    since: datetime
    proxies: int
    attempted: int
    succeeded: int
    failed: int
    failures: tuple[HandshakeFailure, ...]
    refused_leaves: int
    renewal_failures: tuple[RenewalFailure, ...]
    by_pod: dict[str, tuple[int, int]]


def read_handshakes(cluster: Cluster) -> Handshakes:
    """Return what the proxies of a cluster have counted so far.

    Raises:
        ClusterError: Their process does not answer.
    """
    try:
        address = (cluster.services / _REPORT).read_text()
        report = httpx.get(f"http://{address}", timeout=10, trust_env=False).raise_for_status().json()
    except (OSError, httpx.HTTPError) as error:
        msg = f"The proxies of cluster {cluster.name} do not answer: {error}\n{cluster.log(_COMPONENT)}"
        raise ClusterError(msg) from error
    return Handshakes(
        since=datetime.fromisoformat(report["since"]),
        proxies=report["proxies"],
        attempted=report["attempted"],
        succeeded=report["succeeded"],
        failed=report["failed"],
        failures=tuple(
            HandshakeFailure(_time(entry), entry["source"], entry["target"], entry["reason"])
            for entry in report["failures"]
        ),
        refused_leaves=report["renewals"]["refused"],
        renewal_failures=tuple(
            RenewalFailure(_time(entry), entry["pod"], entry["reason"]) for entry in report["renewals"]["failures"]
        ),
        by_pod={pod: (counts["attempted"], counts["failed"]) for pod, counts in report["pods"].items()},
    )


def wait_for_proxies(cluster: Cluster, count: int, timeout_seconds: float) -> Handshakes:
    """Wait until at least so many proxies have a leaf, and return what they have counted.

    Raises:
        ClusterError: There are fewer when the time is over.
    """
    deadline = time.monotonic() + timeout_seconds
    while (counted := read_handshakes(cluster)).proxies < count:
        if time.monotonic() > deadline:
            failures = "\n".join(f"{entry.pod}: {entry.reason}" for entry in counted.renewal_failures[-5:])
            msg = f"{counted.proxies} of {count} proxies have a leaf after {timeout_seconds:.0f} s.\n{failures}"
            raise ClusterError(msg)
        time.sleep(0.1)
    return counted


def make_workloads(cluster: Cluster, namespace: str, count: int, replicas: int = 1) -> list[str]:
    """Make Deployments whose pods the proxy injector gives proxies, each with a service account of its own.

    Args:
        cluster: The cluster; its proxy injector has to be ready.
        namespace: Their namespace, made unless it is there.
        count: How many Deployments.
        replicas: How many pods each of them has.

    Returns:
        Their names, which are also those of their service accounts.

    Raises:
        ClusterError: The cluster refuses one.
    """
    names = [f"workload-{number:03}" for number in range(1, count + 1)]
    with cluster.client() as api:
        _create(api, "/api/v1/namespaces", _namespace(namespace))
        for name in names:
            account = {"metadata": {"name": name}}
            _create(api, f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
            _create(api, f"/apis/apps/v1/namespaces/{namespace}/deployments", _deployment(name, replicas))
    return names


def _namespace(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {INJECT_ANNOTATION: "enabled"}}}


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "containers": [{"name": "app", "image": "example.com/app"}],
                },
            },
        },
    }


def _create(api: httpx.Client, path: str, body: dict[str, Any]) -> None:
    response = api.post(path, json=body)
    if response.is_error and response.status_code != httpx.codes.CONFLICT:
        msg = f"{body['metadata']['name']} cannot be made: {response.text}"
        raise ClusterError(msg)


def _time(entry: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["time"])
