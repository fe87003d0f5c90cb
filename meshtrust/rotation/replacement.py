"""A replacement of anchors that have all ended, as the other clusters of a fleet see it."""

from collections.abc import Mapping
from datetime import datetime

from cryptography import x509

from meshtrust.rotation.gate import Blocker, silent_from
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.steps import Step


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
