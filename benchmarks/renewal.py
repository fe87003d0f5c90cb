"""Time of a renewal until it is served: from the order, by the Secret's write, to a leaf under the new issuer.

A kubelet's own delay is left out: it brings a changed Secret to a running pod within its sync period, a minute or so,
and the rehearsal's identity service has it at once.
"""

import statistics
import time
from typing import Any

from benchmarks.machine import deployed
from meshtrust.names import IDENTITY_ISSUER
from meshtrust.pki.pem import fingerprint, read_bundle
from rehearsal import mesh
from rehearsal.cluster import Cluster
from rehearsal.observe import Observer

TURNS = 7
_SECONDS = 60
_SECRET = ("linkerd", IDENTITY_ISSUER)


def measure() -> dict[str, Any]:
    """Renew the identity issuer of a deployed stack again and again."""
    issued, served = [], []
    with deployed("dev") as (cluster, _):
        observer = Observer(cluster)
        for _turn in range(TURNS):
            old = observer.secret_certificate(*_SECRET)
            ordered = time.perf_counter()
            observer.renew_certificate(*_SECRET)
            new = observer.wait_for_another(*_SECRET, old, _SECONDS)
            written = time.perf_counter()
            while _signing(cluster) != fingerprint(new):
                if time.perf_counter() - written > _SECONDS:
                    msg = f"the new issuer is not served after {_SECONDS} s"
                    raise TimeoutError(msg)
            issued.append(written - ordered)
            served.append(time.perf_counter() - written)
    return {
        "turns": TURNS,
        "secondsFromOrderToSecretMedian": round(statistics.median(issued), 2),
        "secondsFromSecretToServedMedian": round(statistics.median(served), 2),
        "secondsFromSecretToServedMost": round(max(served), 2),
    }


def _signing(cluster: Cluster) -> str:
    """Return the fingerprint of what signs now, as a proxy that asks for a certificate sees it."""
    leaf = mesh.request_leaf(cluster, namespace="linkerd", service_account="default")
    return fingerprint(read_bundle(leaf.chain_pem)[1])
