"""Progress of work on stacks: one type of event, which renderers show, and the outcome of the work on each stack."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from meshtrust.cluster.api import ClusterError
from meshtrust.linkerd.rollout import RolloutError
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import IllegalStepError, Step
from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.stack import EngineError, StackError

EventKind = Literal["phase", "began", "step", "note", "warning", "waiting", "engine", "ended", "end"]
State = Literal["done", "failed", "blocked", "not begun"]


class BlockedError(Exception):
    """A step that cannot be taken yet.

    Attributes:
        blockers: What blocks it.
    """

    def __init__(self, message: str, blockers: Sequence[Blocker]) -> None:
        super().__init__(message)
        self.blockers = tuple(blockers)


# The errors that end the work on a stack with a message for a person.
WORK_ERRORS = (BlockedError, StackError, ClusterError, RolloutError, IllegalStepError)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of the work on one stack.

    Attributes:
        stack: Name of the stack.
        state: How the work ended; ``not begun`` if another stack failed first.
        seconds: How long it took.
        error: Why it failed, or has to wait; empty if it did not.
        blockers: What it has to wait for.
        engine_errors: The engine's own errors, line by line.
        log: File with all that the engine wrote; None unless the work failed after the engine had written something.
    """

    stack: str
    state: State
    seconds: float = 0.0
    error: str = ""
    blockers: tuple[Blocker, ...] = ()
    engine_errors: tuple[str, ...] = ()
    log: Path | None = None

    @property
    def went_wrong(self) -> bool:
        """Whether the work began and did not end well."""
        return self.state in ("failed", "blocked")

    def as_json(self) -> dict[str, object]:
        """Return it as plain data."""
        plain: dict[str, object] = {"stack": self.stack, "state": self.state, "seconds": round(self.seconds, 1)}
        if self.went_wrong:
            plain |= {
                "error": self.error,
                "blockers": [str(entry) for entry in self.blockers],
                "engineErrors": list(self.engine_errors),
                "log": str(self.log) if self.log else None,
            }
        return plain


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened during work on stacks.

    Attributes:
        kind: ``phase``: work on several stacks begins. ``began``, ``ended``: work on one of them. ``step``: a step of
            a rotation begins. ``note``: something happened. ``warning``: a person has to see it. ``waiting``: what a
            step waits for has changed. ``engine``: the engine wrote a line. ``end``: all work has ended.
        stack: Name of the stack; empty if the event is about several, or about an installation without a stack.
        text: The event in words, without a full stop.
        step: The step that begins.
        blockers: What a step waits for.
        stacks: The stacks of a phase.
        outcomes: The outcome of the stack that has ended; at the end, that of every stack.
        facts: More values for machines, by name.
    """

    kind: EventKind
    stack: str = ""
    text: str = ""
    step: Step | None = None
    blockers: tuple[Blocker, ...] = ()
    stacks: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return it as plain data: ``event`` is its kind, and the other keys depend on that."""
        plain: dict[str, object] = {"event": self.kind}
        if self.kind == "phase":
            return plain | {"title": self.text, "stacks": list(self.stacks)}
        if self.kind == "ended":
            return plain | self.outcomes[0].as_json()
        if self.kind == "end":
            return plain | {**self.facts, "stacks": [outcome.as_json() for outcome in self.outcomes]}
        if self.stack:
            plain["stack"] = self.stack
        if self.text:
            plain["text"] = self.text
        if self.step:
            plain |= {"step": self.step.kind, "generations": list(self.step.generations)}
        if self.kind == "waiting":
            plain["blockers"] = [{"subject": entry.subject, "reason": entry.reason} for entry in self.blockers]
        return plain | dict(self.facts)


Show = Callable[[Event], None]


class StackProgress:
    """Reports the work on one stack.

    Args:
        stack: Name of the stack; empty for an installation without one.
        show: Receives each event.
        logs: Keeps what the engine writes.
    """

    def __init__(self, stack: str, show: Show, logs: EngineLogs) -> None:
        self._stack, self._show, self._logs = stack, show, logs
        self._waiting: tuple[str, ...] = ()

    def step(self, step: Step) -> None:
        """Report that a step of a rotation begins."""
        self._waiting = ()
        self._show(Event(kind="step", stack=self._stack, text=str(step), step=step))

    def note(self, text: str, **facts: object) -> None:
        """Report something that happened; the facts are for machines."""
        self._show(Event(kind="note", stack=self._stack, text=text, facts=facts))

    def warn(self, text: str) -> None:
        """Report something that a person has to see, whatever else happens."""
        self._show(Event(kind="warning", stack=self._stack, text=text))

    def wait_for(self, blockers: Sequence[Blocker]) -> None:
        """Report what a step waits for, if that has changed since the last call.

        Args:
            blockers: At least one.
        """
        listed = tuple(map(str, blockers))
        if listed == self._waiting:
            return
        self._waiting = listed
        text = f"{len(blockers)} to go, such as {blockers[0]}"
        self._show(Event(kind="waiting", stack=self._stack, text=text, blockers=tuple(blockers)))

    def write_engine_line(self, line: str) -> None:
        """Keep a line that the engine has written.

        Raises:
            OSError: The log cannot be written.
        """
        self._logs.write(self._stack, line)
        if line.strip():
            self._show(Event(kind="engine", stack=self._stack, text=line.rstrip()))


class Progress:
    """Reports the work on one or several stacks, and keeps their outcomes.

    Args:
        show: Receives each event.
        logs: Keeps what the engine writes.
    """

    def __init__(self, show: Show, logs: EngineLogs) -> None:
        self._show, self._logs = show, logs
        self._outcomes: dict[str, Outcome] = {}

    def of(self, stack: str) -> StackProgress:
        """Return what reports the work on one stack."""
        return StackProgress(stack, self._show, self._logs)

    def phase(self, title: str, stacks: Sequence[str]) -> None:
        """Report that work on several stacks begins."""
        self._show(Event(kind="phase", text=title, stacks=tuple(stacks)))

    def began(self, stack: str) -> None:
        """Report that the work on a stack has begun."""
        self._show(Event(kind="began", stack=stack, text="begins"))

    def ended(self, outcome: Outcome) -> None:
        """Report the outcome of the work on a stack."""
        self._show(Event(kind="ended", stack=outcome.stack, outcomes=(self.keep(outcome),)))

    def keep(self, outcome: Outcome) -> Outcome:
        """Keep an outcome for the end, and return it with the path of the engine's log if the work failed."""
        if outcome.state == "failed":
            outcome = replace(outcome, log=self._logs.keep(outcome.stack))
        self._outcomes[outcome.stack] = outcome
        return outcome

    def end(self, text: str = "", *, finished: bool, error: str = "") -> None:
        """Report that all work has ended, with the last outcome of each stack.

        Args:
            text: The end in words.
            finished: Whether nothing is left to do.
            error: Why it did not end well; empty if it did.
        """
        facts = {"finished": finished, "error": error or None}
        self._show(Event(kind="end", text=text, outcomes=tuple(self._outcomes.values()), facts=facts))


def make_outcome(stack: str, started: float, error: Exception | None = None) -> Outcome:
    """Return the outcome of work that has just ended.

    Args:
        stack: Name of the stack.
        started: When it began, by `time.monotonic`.
        error: What ended it, one of `WORK_ERRORS`; None if it ended well.
    """
    seconds = time.monotonic() - started
    if error is None:
        return Outcome(stack=stack, state="done", seconds=seconds)
    if isinstance(error, BlockedError):
        return Outcome(stack=stack, state="blocked", seconds=seconds, error=str(error), blockers=error.blockers)
    errors = error.errors if isinstance(error, EngineError) else ()
    return Outcome(stack=stack, state="failed", seconds=seconds, error=str(error), engine_errors=errors)
