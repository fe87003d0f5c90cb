"""Overrides of a gate: a reason that is bound to one refusal, by the number that the refusal shows.

The number stands for the step, for all that blocked it when it was shown, and for how many steps the stack had taken by
then. So a reason lets pass what its author has seen, once: with one more blocker, or after the step, it is another
number.
"""

import hashlib
import json
import re
from collections.abc import Sequence

from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import Step

_GIVEN = re.compile(r"(?P<number>[0-9a-f]{8})\b[\s:,;-]*(?P<reason>\S.*)", re.DOTALL)


def number_refusal(step: Step, blockers: Sequence[Blocker], taken: int) -> str:
    """Return the number of a refusal: eight hexadecimal digits.

    Args:
        step: The refused step.
        blockers: What blocks it. A pod counts as its workload, so that a number outlives a pod that is replaced.
        taken: How many steps the stack has taken before.
    """
    described = json.dumps([step.name, taken, sorted(set(map(name_subject, blockers)))])
    return hashlib.sha256(described.encode()).hexdigest()[:8]


def name_subject(blocker: Blocker) -> str:
    """Return what a blocker is about, by a name that outlives a pod: its workload, or else the object."""
    subject = str(blocker.workload) if blocker.workload is not None else blocker.subject
    return f"{blocker.stack}: {subject}" if blocker.stack else subject


def reason_for(override: str, number: str) -> str:
    """Return the reason of an override that was given for a refusal; empty if it was given for another one.

    Args:
        override: The configured text, such as ``1f0c4e2a the last pod is a test``.
        number: The number of the refusal.
    """
    given = _GIVEN.fullmatch(override.strip())
    return given["reason"].strip() if given and given["number"] == number else ""
