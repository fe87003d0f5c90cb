"""The steps of a deployment, and who is told about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rehearsal.engine import urns, values
from rehearsal.engine.config import ConfigValue
from rehearsal.engine.providers import Diff
from rehearsal.engine.state import ResourceState

SAME = "same"
CREATE = "create"
UPDATE = "update"
DELETE = "delete"
REPLACE = "replace"
CREATE_REPLACEMENT = "create-replacement"
DELETE_REPLACED = "delete-replaced"
READ = "read"
REFRESH = "refresh"
DISCARD = "discard"
REMOVE_PENDING_REPLACE = "remove-pending-replace"

# In the order in which a summary lists them.
OPERATIONS = (SAME, CREATE, UPDATE, DELETE, REPLACE, READ, DISCARD)
# The mark in front of a line about a step.
PREFIXES = {
    SAME: "  ",
    CREATE: "+ ",
    UPDATE: "~ ",
    DELETE: "- ",
    REPLACE: "+-",
    CREATE_REPLACEMENT: "++",
    DELETE_REPLACED: "--",
    READ: "> ",
    REFRESH: "~ ",
    DISCARD: "< ",
    REMOVE_PENDING_REPLACE: "~ ",
}


@dataclass
class Step:
    """One thing to do to one resource."""

    op: str
    urn: str
    old: ResourceState | None = None
    new: ResourceState | None = None
    diff: Diff = field(default_factory=Diff)

    @property
    def state(self) -> ResourceState:
        """The resource as it will be, or was."""
        state = self.new or self.old
        assert state is not None  # noqa: S101 - a step is about a resource
        return state

    @property
    def counted(self) -> bool:
        """Whether a summary counts it: a replacement counts once, a provider that nobody named does not."""
        physical = self.op in (CREATE_REPLACEMENT, DELETE_REPLACED, REMOVE_PENDING_REPLACE, REFRESH)
        return not physical and not urns.is_default_provider(self.urn)

    @property
    def in_digest(self) -> bool:
        """Whether `preview --json` lists it: a replacement once, what stays the same only for the stack itself."""
        if self.op in (SAME, DISCARD):
            return urns.type_of(self.urn) == urns.STACK_TYPE
        return self.shown and self.op not in (CREATE_REPLACEMENT, DELETE_REPLACED, REMOVE_PENDING_REPLACE)

    @property
    def shown(self) -> bool:
        """Whether a display shows it."""
        return not urns.is_default_provider(self.urn)

    def changed_keys(self) -> list[str]:
        """The top-level properties that change."""
        return list(dict.fromkeys(str(path[0]) for path in self.diff.changes))

    def replace_keys(self) -> list[str]:
        """The properties that force the replacement."""
        return sorted(values.format_path(path) for path in self.diff.replace)


@dataclass(frozen=True)
class Diagnostic:
    """A message for the user: severity `info`, `info#err` (stderr of the program), `warning`, `error` or `debug`.

    Messages of one `stream` belong together: 0 is the log, 1 and 2 what the program writes to stdout and stderr.
    """

    severity: str
    message: str
    urn: str = ""
    ephemeral: bool = False
    stream: int = 0


@dataclass(frozen=True)
class Summary:
    """How a deployment ended."""

    changes: dict[str, int]
    seconds: float
    preview: bool

    @property
    def has_changes(self) -> bool:
        """Whether anything differs from the program; what is only read does not count (pkg/engine/update.go)."""
        return any(count for op, count in self.changes.items() if op not in (SAME, READ, DISCARD))


class Sink(Protocol):
    """Who is told what a deployment does; calls may come from several threads."""

    def prelude(self, config: dict[str, ConfigValue]) -> None:
        """The deployment begins."""

    def started(self, step: Step) -> None:
        """A step begins, or in a preview is planned."""

    def finished(self, step: Step) -> None:
        """A step has ended well."""

    def failed(self, step: Step) -> None:
        """A step has failed; a diagnostic says why."""

    def diagnostic(self, diagnostic: Diagnostic) -> None:
        """There is something to tell."""

    def summary(self, summary: Summary) -> None:
        """The deployment has ended."""
