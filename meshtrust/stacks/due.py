"""The time at which a stack's trust anchor has to be replaced, from its file and its outputs alone."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from meshtrust.rotation.steps import Trust
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import StackError


@dataclass(frozen=True, kw_only=True)
class Due:
    """The generation that a stack's goal ends with, and how long its root lasts.

    Attributes:
        generation: The generation that signs, or is to sign; of an anchor stack, the newest one.
        end: End of its root's validity; None if the root is not deployed yet, so that a rotation to it is under way.
        is_due: Whether a rotation to a newer generation has to be started.
    """

    generation: str
    end: datetime | None
    is_due: bool


def find_due(configured: Trust, deployed: StackOutputs, within: timedelta, now: datetime) -> Due:
    """Return whether the trust anchor that a stack is to have ends within a time.

    Args:
        configured: The goal in the stack's file.
        deployed: The stack's outputs.
        within: The time before the end of a root at which it has to be replaced.
        now: The time, with its zone.

    Raises:
        StackError: The stack has not been deployed.
    """
    if not deployed.anchors:
        msg = "This stack has not been deployed yet, so that no root of it can end. Run: pulumi up"
        raise StackError(msg)
    generation = configured.signer if deployed.trust else configured.anchors[-1]
    root = deployed.certificates.get(generation)
    end = root.not_valid_after_utc if root else None
    return Due(generation=generation, end=end, is_due=end is not None and end - now <= within)
