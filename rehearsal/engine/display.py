"""What the user sees: the lines of the real CLI's non-interactive display, or the digest of `preview --json`."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from rehearsal.engine import render, steps, urns, values
from rehearsal.engine.config import ConfigValue
from rehearsal.engine.render import Painter
from rehearsal.engine.state import ResourceState
from rehearsal.engine.steps import Diagnostic, Step, Summary

NOTICE = "meshtrust's embedded engine, not the Pulumi CLI: for rehearsals and tests only"

_PLANNED = {
    steps.CREATE: "create",
    steps.UPDATE: "update",
    steps.DELETE: "delete",
    steps.REPLACE: "replace",
    steps.CREATE_REPLACEMENT: "create replacement",
    steps.DELETE_REPLACED: "delete original",
    steps.READ: "read",
    steps.REFRESH: "refreshing",
    steps.DISCARD: "discard",
}
_RUNNING = {
    steps.CREATE: "creating",
    steps.UPDATE: "updating",
    steps.DELETE: "deleting",
    steps.REPLACE: "replacing",
    steps.CREATE_REPLACEMENT: "creating replacement",
    steps.DELETE_REPLACED: "deleting original",
    steps.READ: "reading",
    steps.REFRESH: "refreshing",
    steps.DISCARD: "discarding",
}
_DONE = {
    steps.CREATE: "created",
    steps.UPDATE: "updated",
    steps.DELETE: "deleted",
    steps.REPLACE: "replaced",
    steps.CREATE_REPLACEMENT: "created replacement",
    steps.DELETE_REPLACED: "deleted original",
    steps.READ: "read",
    steps.REFRESH: "refresh",
    steps.DISCARD: "discarded",
}


class TextDisplay:
    """Prints a line when a step begins and ends, then diagnostics, outputs and a summary."""

    def __init__(
        self,
        *,
        title: str,
        activity: str,
        root_urn: str,
        preview: bool,
        painter: Painter,
        detailed: bool = False,
        out: TextIO | None = None,
    ) -> None:
        self._out = out or sys.stdout
        self._title = title
        self._activity = activity
        self._root_urn = root_urn
        self._preview = preview
        self._paint = painter
        self._detailed = detailed
        self._lock = threading.Lock()
        self._began: dict[tuple[str, str], float] = {}
        self._steps: dict[str, Step] = {}
        self._diagnostics: dict[str, list[Diagnostic]] = {}
        self._failed: set[str] = set()
        self._rows: dict[str, str] = {}
        self._depths: dict[str, int] = {}
        self._stack: Step | None = None

    def prelude(self, config: dict[str, ConfigValue]) -> None:  # noqa: ARG002 - shown by --show-config only
        """Print the headline."""
        self._print(self._paint("headline", self._title))
        if not self._detailed:
            self._print(f"@ {self._activity}....\n")

    def started(self, step: Step) -> None:
        """Print that a step begins; a resource that stays the same is not worth a line."""
        with self._lock:
            self._began[step.urn, step.op] = time.monotonic()
            self._steps[step.urn] = step
            parent = step.state.parent
            self._depths[step.urn] = self._depths.get(parent, 0) + 1 if parent else 0
            if urns.type_of(step.urn) == urns.STACK_TYPE:
                self._stack = step
            self._show(step, self._running_text(step))

    def finished(self, step: Step) -> None:
        """Print that a step has ended."""
        with self._lock:
            former = self._steps.get(step.urn)
            self._steps[step.urn] = step
            if urns.type_of(step.urn) == urns.STACK_TYPE:
                self._stack = step
            elif former is not None and former.op == steps.REFRESH:
                self._print_row(step, self._done_text(step))
            elif not self._preview and not self._detailed and step.state.custom:
                self._show(step, self._done_text(step))

    def failed(self, step: Step) -> None:
        """Print that a step has failed."""
        with self._lock:
            self._failed.add(step.urn)
            text = self._paint("error", f"**{_RUNNING.get(step.op, '')} failed**")
            self._print_row(step, text, self._last_message(step.urn))

    def diagnostic(self, diagnostic: Diagnostic) -> None:
        """Keep a message for the end, and show its first line now."""
        if diagnostic.severity == "debug":
            return
        urn = diagnostic.urn or self._root_urn
        with self._lock:
            if not diagnostic.ephemeral:
                self._diagnostics.setdefault(urn, []).append(diagnostic)
            step = self._steps.get(urn) or Step(steps.SAME, urn)
            if self._detailed:
                self._print_lines(self._message_lines(diagnostic, indent=""))
            else:
                self._print_row(step, self._running_text(step), self._first_line(diagnostic))

    def summary(self, summary: Summary) -> None:
        """Print diagnostics, outputs and the counts."""
        with self._lock:
            if not self._detailed:
                self._print_end_of_stack()
                self._print_diagnostics()
            self._print_outputs()
            self._print_summary(summary)

    # Rows

    def _show(self, step: Step, status: str) -> None:
        stack = urns.type_of(step.urn) == urns.STACK_TYPE
        unchanged = step.op == steps.SAME and not stack and not render.short_changes(step)
        if urns.is_default_provider(step.urn) or step.op == steps.DISCARD or unchanged:
            return
        if step.op == steps.READ and not self._detailed:
            # The real display tells of reads in the stack's line only.
            root = self._stack or Step(steps.SAME, self._root_urn)
            note = f"read {urns.display_type(step.urn)} {urns.name_of(step.urn)}"
            self._print_row(root, self._running_text(root), note)
        elif self._detailed and step.op in (steps.CREATE_REPLACEMENT, steps.DELETE_REPLACED):
            return  # the replacement itself shows what changes
        elif self._detailed and step.op != steps.REFRESH:
            self._print_lines(render.detail(step, self._depths.get(step.urn, 0), self._paint))
        elif not (stack and step.op == steps.SAME and not status):
            self._print_row(step, status)

    def _print_row(self, step: Step, status: str, info: str = "") -> None:
        label = self._paint(step.op, steps.PREFIXES[step.op])
        notes = "; ".join(note for note in (render.short_changes(step), info) if note)
        row = f" {label} {urns.display_type(step.urn)} {urns.name_of(step.urn)} {status} {notes}"
        if self._rows.get(step.urn) != row:
            self._rows[step.urn] = row
            self._print(row)

    def _print_end_of_stack(self) -> None:
        """The stack's last line says how many messages there were, as the real display's does."""
        step = self._stack
        if step is None:
            return
        messages = self._diagnostics.get(self._root_urn, [])
        counts = []
        for severity, noun in (("error", "error"), ("warning", "warning"), ("info", "message")):
            count = sum(item.severity.startswith(severity) for item in messages)
            counts += [f"{count} {noun}{'' if count == 1 else 's'}"] if count else []
        failed = any(item.severity == "error" for item in messages) and not self._preview
        self._print_row(
            step, self._paint("error", "**failed**") if failed else self._done_text(step), "; ".join(counts)
        )

    def _running_text(self, step: Step) -> str:
        if step.op == steps.SAME:
            return "running" if urns.type_of(step.urn) == urns.STACK_TYPE else ""
        if self._preview:
            return self._paint(step.op, _PLANNED.get(step.op, ""))
        seconds = int(self._seconds(step))
        return f"{self._paint(step.op, _RUNNING.get(step.op, ''))} ({seconds}s)"

    def _done_text(self, step: Step) -> str:
        if step.op == steps.SAME:
            return ""
        if self._preview:
            replacing = step.op in (steps.CREATE_REPLACEMENT, steps.DELETE_REPLACED)
            return self._paint(step.op, "replace" if replacing else _PLANNED.get(step.op, ""))
        seconds = self._seconds(step)
        took = f"{seconds:.2f}s" if seconds < 1 else f"{int(seconds)}s"
        return f"{self._paint(step.op, _DONE.get(step.op, ''))} ({took})"

    def _seconds(self, step: Step) -> float:
        began = self._began.get((step.urn, step.op)) or self._began.get((step.urn, steps.REFRESH))
        return time.monotonic() - began if began else 0.0

    @staticmethod
    def _first_line(diagnostic: Diagnostic) -> str:
        prefix = f"{diagnostic.severity}: " if diagnostic.severity in ("warning", "error") else ""
        return prefix + diagnostic.message.lstrip("\n").split("\n", 1)[0]

    def _last_message(self, urn: str) -> str:
        messages = self._diagnostics.get(urn)
        return self._first_line(messages[-1]) if messages else ""

    # Sections

    def _print_diagnostics(self) -> None:
        if not self._diagnostics:
            return
        self._print(self._paint("headline", "Diagnostics:"))
        for urn, messages in sorted(self._diagnostics.items(), key=lambda item: item[0] == self._root_urn):
            self._print(f"  {urns.display_type(urn)} ({urns.name_of(urn)}):")
            for stream in sorted({item.stream for item in messages}):
                for item in messages:
                    if item.stream == stream:
                        self._print_lines(self._message_lines(item, indent="    "))
                self._print("")

    def _message_lines(self, item: Diagnostic, *, indent: str) -> Iterator[str]:
        text = item.message.strip("\n")
        if not item.severity.startswith("info"):
            text = f"{self._paint(item.severity, f'{item.severity}:')} {text}"
        return (f"{indent}{line}".rstrip() for line in text.split("\n"))

    def _print_outputs(self) -> None:
        if self._stack is None or self._stack.new is None:
            return
        old = self._stack.old.outputs if self._stack.old else None
        lines = list(render.outputs(old, self._stack.new.outputs, everything=not self._preview, paint=self._paint))
        if lines:
            self._print("    --outputs:--" if self._detailed else self._paint("headline", "Outputs:"))
            self._print_lines(lines)
            if not self._detailed:
                self._print("")

    def _print_summary(self, summary: Summary) -> None:
        self._print(self._paint("headline", "Resources:"))
        total = kinds = 0
        for op in steps.OPERATIONS:
            count = summary.changes.get(op, 0)
            if op in (steps.SAME, steps.READ, steps.DISCARD) or not count:
                continue
            text = f"to {op}" if summary.preview else _DONE[op]
            self._print(f"    {self._paint(op, f'{steps.PREFIXES[op]}{count} {text}')}")
            total, kinds = total + count, kinds + 1
        pieces = [f"{total} changes"] if kinds > 1 else []
        if same := summary.changes.get(steps.SAME, 0):
            pieces.append(f"{same} unchanged")
        if pieces:
            self._print(f"    {'. '.join(pieces)}")
        errored = sum(any(item.severity == "error" for item in items) for items in self._diagnostics.values())
        if errored:
            self._print(f"    {self._paint('error', f'{errored} errored')}")
        if not summary.preview:
            self._print("")
            self._print(f"{self._paint('headline', 'Duration:')} {duration(math.ceil(summary.seconds))}")
        if not self._detailed:
            self._print("")

    def _print_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._print(line)

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def duration(seconds: int) -> str:
    """Seconds as Go prints a duration: `1m3s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


class JsonDigest:
    """Collects a preview and prints it as one JSON object, in the shape of the real CLI's `preview --json`."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._lock = threading.Lock()
        self._digest: dict[str, Any] = {}
        self._steps: list[dict[str, Any]] = []
        self._diagnostics: list[dict[str, str]] = []

    def prelude(self, config: dict[str, ConfigValue]) -> None:
        """Record the configuration, secrets masked."""
        if config:
            self._digest["config"] = {
                key: "[secret]" if value.secret else value.text for key, value in sorted(config.items())
            }

    def started(self, step: Step) -> None:
        """Record a step as it is planned; what stays the same is left out, but for the stack itself."""
        with self._lock:
            if step.in_digest:
                self._steps.append(digest_step(step))

    def finished(self, step: Step) -> None:
        """What was refreshed now has an outcome."""
        with self._lock:
            for index, known in enumerate(self._steps):
                if known["urn"] == step.urn and known["op"] == steps.REFRESH and step.op != steps.SAME:
                    self._steps[index] = digest_step(step)

    def failed(self, step: Step) -> None:
        """A diagnostic says why."""

    def diagnostic(self, diagnostic: Diagnostic) -> None:
        """Record a message."""
        if diagnostic.ephemeral or diagnostic.severity == "debug":
            return
        prefix = "" if diagnostic.severity.startswith("info") else f"{diagnostic.severity}: "
        entry = {"message": prefix + diagnostic.message + "\n", "severity": diagnostic.severity}
        with self._lock:
            self._diagnostics.append({"urn": diagnostic.urn, **entry} if diagnostic.urn else entry)

    def summary(self, summary: Summary) -> None:
        """Print the digest."""
        with self._lock:
            self._digest["steps"] = self._steps
            if self._diagnostics:
                self._digest["diagnostics"] = self._diagnostics
            self._digest["duration"] = int(summary.seconds * 1e9)
            self._digest["changeSummary"] = dict(sorted(summary.changes.items()))
            print(json.dumps(self._digest, indent=4, ensure_ascii=False), file=self._out, flush=True)


def digest_step(step: Step) -> dict[str, Any]:
    """One step of the digest."""
    result: dict[str, Any] = {"op": step.op, "urn": step.urn}
    if step.state.provider:
        result["provider"] = step.state.provider
    if step.old is not None:
        result["oldState"] = _masked_state(step.old)
    if step.new is not None:
        result["newState"] = _masked_state(step.new)
    if step.diff:
        result["diffReasons"] = step.changed_keys()
        if step.diff.replace:
            result["replaceReasons"] = sorted({str(path[0]) for path in step.diff.replace})
    result["detailedDiff"] = (
        {
            values.format_path(path): {
                "kind": f"{kind}-replace" if path in step.diff.replace else kind,
                "inputDiff": True,
            }
            for path, kind in step.diff.changes.items()
        }
        if step.diff
        else None
    )
    return result


def _masked_state(state: ResourceState) -> dict[str, Any]:
    return state.to_json(values.masked)
