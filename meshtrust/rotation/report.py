"""The report of a rotation in a stack's outputs: the goal, the next step, and what it waits for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast, get_args

from meshtrust.rotation.goal import Way
from meshtrust.rotation.steps import Phase, Trust

# Names in an output; `meshtrust plan` lists all.
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class RotationReport:
    """The state of a stack's rotation after a run.

    Attributes:
        goal: The goal that the run had.
        phase: The phase of what is deployed.
        next: Name of the next step, such as ``switch-2027``; empty if the goal is reached.
        waiting_for: The first things that the next step waits for, each as a line.
        waiting_count: The number of all of them.
        since: Time from which the goal and the next step have been these, ISO 8601 in UTC.
    """

    goal: Trust
    phase: Phase
    next: str
    waiting_for: tuple[str, ...] = ()
    waiting_count: int = 0
    since: str

    @property
    def is_converged(self) -> bool:
        """Whether the goal is deployed."""
        return not self.next

    @property
    def since_time(self) -> datetime:
        """The time in `since`."""
        return datetime.fromisoformat(self.since)

    @property
    def goal_text(self) -> str:
        """The goal as a person writes it; that of an anchor stack has no signer."""
        return str(self.goal) if self.goal.signer else f"anchors {', '.join(self.goal.anchors)}"

    @property
    def state_texts(self) -> tuple[str, ...]:
        """The clauses about the way to the goal, without the names of what the next step waits for."""
        since = f"since {self.since_time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        if self.is_converged:
            return (f"reached {since}",)
        waits = (
            f"waits for {self.waiting_count} {since}" if self.waiting_count else "the next run takes it if it is safe"
        )
        return (f"next step {self.next}", waits)

    @property
    def waiting_lines(self) -> tuple[str, ...]:
        """The lines of what the next step waits for, the last of which has the number of those that are not named."""
        more = self.waiting_count - len(self.waiting_for)
        return (*self.waiting_for, *([f"and {more} more"] if more > 0 else []))

    @staticmethod
    def of(described: Any) -> "RotationReport | None":
        """Return the report in a stack's outputs; None if an earlier version left none, or it cannot be understood.

        Args:
            described: The output, as `as_outputs` wrote it.
        """
        if not isinstance(described, Mapping) or not isinstance(described.get("goal"), Mapping):
            return None
        goal, waiting, phases = described["goal"], described.get("waitingFor"), get_args(Phase)
        if not isinstance(waiting, Mapping) or described.get("phase") not in phases:
            return None
        lists, count = (goal.get("anchors") or [], waiting.get("first") or []), waiting.get("count") or 0
        # The engine passes numbers on as floats.
        if not all(isinstance(entry, list) for entry in lists) or not isinstance(count, int | float):
            return None
        try:
            since = datetime.fromisoformat(str(described.get("since")))
        except ValueError:
            return None
        if since.tzinfo is None:
            return None
        return RotationReport(
            goal=Trust(anchors=tuple(map(str, lists[0])), signer=str(goal.get("signer") or "")),
            phase=cast("Phase", described["phase"]),
            next=str(described.get("next") or ""),
            waiting_for=tuple(map(str, lists[1])),
            waiting_count=int(count),
            since=since.isoformat(timespec="seconds"),
        )

    def as_outputs(self) -> dict[str, Any]:
        """Return it as an output."""
        return {
            "goal": {"anchors": list(self.goal.anchors), "signer": self.goal.signer},
            "phase": self.phase,
            "next": self.next,
            "waitingFor": {"count": self.waiting_count, "first": list(self.waiting_for)},
            "converged": self.is_converged,
            "since": self.since,
        }


def report_rotation(
    way: Way, deployed: Trust, waiting: Sequence[object], last: RotationReport | None, now: datetime
) -> RotationReport:
    """Return the report of a run.

    Args:
        way: The way that is left after the run.
        deployed: What the run has deployed.
        waiting: What the next step waits for; each is shown as a line.
        last: The report of the run before, None if there is none.
        now: The time, with its zone.
    """
    step = way.next.name if way.next else ""
    is_same = last is not None and (last.goal, last.next) == (way.goal, step)
    return RotationReport(
        goal=way.goal,
        phase=deployed.phase,
        next=step,
        waiting_for=tuple(str(entry) for entry in waiting[:NAMED]),
        waiting_count=len(waiting),
        since=last.since if last and is_same else now.isoformat(timespec="seconds"),
    )
