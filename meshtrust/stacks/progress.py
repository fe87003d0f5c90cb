"""Reports of work on a cluster as it goes on, and the error of work that has to wait."""

from collections.abc import Sequence
from typing import Protocol

from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import Step


class BlockedError(Exception):
    """A step that cannot be taken yet; what blocks it is listed.

    Attributes:
        blockers: What blocks it.
    """

    def __init__(self, message: str, blockers: Sequence[Blocker]) -> None:
        super().__init__(message)
        self.blockers = tuple(blockers)


class Reporter(Protocol):
    """Who is told how the work goes on."""

    def step(self, step: Step) -> None:
        """Tell that a step of a rotation begins."""

    def note(self, text: str, **facts: object) -> None:
        """Tell of something that happened; the facts are for machines."""

    def blocked(self, blockers: Sequence[Blocker]) -> None:
        """Tell what is being waited for."""
