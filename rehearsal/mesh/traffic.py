"""Traffic of a rehearsal cluster: connections between proxies, all the time, and workloads with proxies."""

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
        time: Time of the failure.
        source: Pod whose proxy began it, as namespace/name.
        target: Pod whose proxy it went to.
        reason: Error at the source; "remote error" is a refusal by the target.
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
    """Results of all connections between proxies since their process started.

    Attributes:
        since: Time of that start.
        proxies: Number of proxies that have a leaf now, and a pod that is not being deleted.
        attempted: Connections that came to an end; those of pods that were deleted meanwhile are left out.
        succeeded: Number of full mutual handshakes, with a byte echoed.
        failed: Number of the others.
        failures: The newest 200 of these, oldest first.
        refused_leaves: Number of leaves that were issued, but do not chain to an anchor of their proxy.
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
    """Return the counts of the proxies of a cluster so far.

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
    """Wait until a number of proxies have a leaf, and return their counts.

    Raises:
        ClusterError: Fewer have one at the deadline.
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
        count: Number of Deployments.
        replicas: Number of pods of each.

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
