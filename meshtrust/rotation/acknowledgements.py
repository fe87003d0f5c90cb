"""Acknowledgements of what cannot be seen from a cluster: a reason that is bound to one attempt of one step.

The number of an acknowledgement stands for the move from one state to another, for what is acknowledged, and for how
many steps the stack had taken by then. After an abort the same step is another attempt: a machine may have been built
again under its old name meanwhile. What a run would take back without a configured step is another move too.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshtrust.rotation.steps import Step

_GIVEN = re.compile(r"(?P<number>[0-9a-f]{8})\b[\s:,;-]*(?P<reason>\S.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Acknowledgements:
    """Acknowledgements in the configuration of what a cluster cannot show before a step.

    Attributes:
        given: The configured text by the name of what it is about, such as ``1f0c4e2a its bundle has 2027``.
        taken: How many steps the stack has taken before.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    taken: int = 0

    def reason(self, step: Step, subject: str) -> str:
        """Return the reason that is given for one thing in this attempt of a step; empty if there is none."""
        return reason_for(str(self.given.get(subject) or ""), self._number(step, subject))

    def ask(self, step: Step, subject: str, what: str) -> str:
        """Return how one thing is acknowledged, after the reason why what is configured does not count, if anything is.

        Args:
            step: The step.
            subject: Name of the thing.
            what: What is to be done, as the beginning of a sentence that ends with the command.
        """
        stale = (
            f"The reason in meshtrust:gate.acknowledged is without the number, or of another attempt of {step.name}. "
            if self.given.get(subject)
            else ""
        )
        return (
            f"{stale}{what}: pulumi config set --path 'gate.acknowledged.{step.name}[\"{subject}\"]' "
            f'"{self._number(step, subject)} <how it was seen to>"'
        )

    def find_void(self, step: Step, blocking: Mapping[str, bool]) -> list[str]:
        """Return a sentence about each thing that is acknowledged to no effect: by another name, or though it is seen.

        Args:
            step: The step.
            blocking: Names of what blocks the step although something is acknowledged, and whether it is something
                that the cluster does not show, so that the refusal says itself how it is acknowledged.
        """
        void = []
        for subject in self.given:
            if self.reason(step, subject) or blocking.get(subject):
                continue
            wrong = (
                "and the cluster shows its state, so that the step waits until that has changed"
                if subject in blocking
                else "which the step does not wait for: a refusal names what it waits for, each by its own name"
            )
            key = f"gate.acknowledged.{step.name}"
            remove = f"pulumi config rm --path '{key}[\"{subject}\"]'"
            void.append(f'meshtrust:{key} has "{subject}", {wrong}. Remove it: {remove}')
        return void

    def _number(self, step: Step, subject: str) -> str:
        return short_hash([step.name, str(step.before), str(step.after), self.taken, subject])


def short_hash(described: object) -> str:
    """Return eight hexadecimal digits that stand for a value which JSON can describe."""
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]


def reason_for(text: str, number: str) -> str:
    """Return the reason in a configured text that begins with a number; empty if it begins with another one.

    Args:
        text: The text, such as ``1f0c4e2a the last pod is a test``.
        number: The number that counts: eight hexadecimal digits.
    """
    given = _GIVEN.fullmatch(text.strip())
    return given["reason"].strip() if given and given["number"] == number else ""
