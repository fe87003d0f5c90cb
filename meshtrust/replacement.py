"""Whether anchors that have all ended may be replaced: what a replacement would cut off of a mesh that still talks.

The identity service signs nothing under a root that has ended, and does not start with one (Go's verifier looks at the
root's end). Proxies do not look at it (rustls-webpki keeps no validity of a trust anchor): those that have a
certificate speak with each other until that ends, a leaf's life after the root at the latest.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from cryptography import x509

from meshtrust.cluster import Api
from meshtrust.evidence import read_mesh
from meshtrust.fleet.pledge import Pledge
from meshtrust.gate import Blocker, judge_step
from meshtrust.lint import LEAF_LIFETIME
from meshtrust.rotation import Step

# Room for what the identity service adds to a leaf's life: 20 s by the chart's ``identity.issuer.clockSkewAllowance``
# (linkerd2 ``pkg/tls/ca.go``), which a user may raise.
_SKEW = timedelta(minutes=10)


def silent_from(roots: Collection[x509.Certificate], leaf_lifetime: timedelta = LEAF_LIFETIME) -> datetime:
    """Return the moment from which no proxy can have a valid certificate under roots that have ended."""
    return max(root.not_valid_after_utc for root in roots) + leaf_lifetime + _SKEW


async def find_replace_blockers(
    api: Api,
    namespace: str,
    step: Step,
    roots: Mapping[str, x509.Certificate],
    *,
    acknowledged: Mapping[str, str] | None = None,
    in_fleet: bool = False,
) -> list[Blocker]:
    """Read the cluster and return what a replacement of ended anchors would cut off: nothing once all is silent.

    The arguments and what is raised are those of `gate.find_blockers`.
    """
    ended = [roots[name] for name in step.before.anchors if name in roots] if step.before else []
    mesh = await read_mesh(api, namespace)
    if not ended or datetime.now(UTC) > silent_from(ended, mesh.leaf_lifetime):
        return []
    return await judge_step(api, mesh, step, roots, acknowledged=acknowledged, in_fleet=in_fleet)


def blocks_replace_in_fleet(
    name: str, step: Step, pledges: Mapping[str, Pledge], roots: Mapping[str, x509.Certificate], now: datetime
) -> list[Blocker]:
    """Return the other clusters of a fleet that may still speak under the anchors that have ended.

    Args:
        name: What the anchor stack calls the cluster that is to replace them.
        step: The replacement.
        pledges: All pledges, as the anchor stack has passed them on, by cluster.
        roots: The roots of the generations before it.
        now: The time.
    """
    ended = (
        {generation: roots[generation] for generation in step.before.anchors if generation in roots}
        if step.before
        else {}
    )
    if not ended or now > silent_from(ended.values()):
        return []
    silent = silent_from(ended.values())
    return [
        Blocker(
            subject="its stack",
            reason=(
                f"its proxies may have certificates under {', '.join(speaking)} until {silent:%Y-%m-%d %H:%M} UTC, and "
                "would refuse this cluster's, as this cluster would refuse theirs"
            ),
            curable=False,
            stack=stack,
        )
        for stack, pledge in pledges.items()
        if stack != name
        and (speaking := [entry for entry in ended if entry in pledge.anchors and entry not in pledge.released])
    ]
