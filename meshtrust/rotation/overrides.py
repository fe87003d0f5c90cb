"""Overrides of a gate: a reason that is bound to one refusal, by the number that the refusal shows.

The number stands for the step, for all that blocked it when it was shown, and for how many steps the stack had taken by
then. So a reason lets pass what its author has seen, once: with one more blocker, or after the step, it is another
number.
"""

from collections.abc import Sequence

from meshtrust.rotation.acknowledgements import short_hash
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import Step


def number_refusal(step: Step, blockers: Sequence[Blocker], taken: int) -> str:
    """Return the number of a refusal: eight hexadecimal digits.

    Args:
        step: The refused step.
        blockers: What blocks it. A pod counts as its workload, so that a number outlives a pod that is replaced.
        taken: How many steps the stack has taken before.
    """
    return short_hash([step.name, taken, sorted(set(map(name_subject, blockers)))])


def name_subject(blocker: Blocker) -> str:
    """Return what a blocker is about, by a name that outlives a pod: its workload, or else the object."""
    subject = str(blocker.workload) if blocker.workload is not None else blocker.subject
    return f"{blocker.stack}: {subject}" if blocker.stack else subject
