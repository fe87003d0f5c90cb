"""What the user sees: the lines of the real CLI's non-interactive display, or the digest of `preview --json`."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, TextIO

from rehearsal.engine import steps, urns, values
from rehearsal.engine.config import ConfigValue
from rehearsal.engine.state import ResourceState
from rehearsal.engine.steps import Diagnostic, Step, Summary
from rehearsal.engine.values import UNKNOWN, Value

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
_COLORS = {
    steps.CREATE: "32",
    steps.UPDATE: "33",
    steps.DELETE: "31",
    steps.REPLACE: "35",
    steps.CREATE_REPLACEMENT: "32",
    steps.DELETE_REPLACED: "31",
    "error": "31",
    "warning": "33",
    "headline": "1;35",
}


class Painter:
    """Colours text where the output is for a person."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def __call__(self, kind: str, text: str) -> str:
        """The text in the colour of an operation, a severity or a headline."""
        code = _COLORS.get(kind)
        return f"\x1b[{code}m{text}\x1b[0m" if self._enabled and code else text


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
        self._stack: Step | None = None

    def prelude(self, config: dict[str, ConfigValue]) -> None:  # noqa: ARG002 - shown by --show-config only
        """Print the headline."""
        self._print(self._paint("headline", self._title))
        self._print(f"@ {self._activity}....")

    def started(self, step: Step) -> None:
        """Print that a step begins; a resource that stays the same is not worth a line."""
        with self._lock:
            self._began[step.urn, step.op] = time.monotonic()
            self._steps[step.urn] = step
            if urns.type_of(step.urn) == urns.STACK_TYPE:
                self._stack = step
            if self._hidden(step):
                return
            if self._detailed and step.op not in (steps.SAME, steps.REFRESH):
                self._print_lines(detail(step, self._paint))
            else:
                self._print(self._row(step, self._running_text(step)))

    def finished(self, step: Step) -> None:
        """Print that a step has ended."""
        with self._lock:
            self._steps[step.urn] = step
            if not self._hidden(step) and not (self._detailed and step.op != steps.SAME):
                self._print(self._row(step, self._done_text(step)))

    def failed(self, step: Step) -> None:
        """Print that a step has failed."""
        with self._lock:
            self._failed.add(step.urn)
            running = _RUNNING.get(step.op, "")
            self._print(self._row(step, self._paint("error", f"**{running} failed**"), self._last_message(step.urn)))

    def diagnostic(self, diagnostic: Diagnostic) -> None:
        """Keep a message for the end, and show its first line now."""
        if diagnostic.severity == "debug":
            return
        urn = diagnostic.urn or self._root_urn
        with self._lock:
            if not diagnostic.ephemeral:
                self._diagnostics.setdefault(urn, []).append(diagnostic)
            step = self._steps.get(urn) or Step(steps.SAME, urn)
            self._print(self._row(step, self._running_text(step), self._first_line(diagnostic)))

    def summary(self, summary: Summary) -> None:
        """Print diagnostics, outputs and the counts."""
        with self._lock:
            self._print_diagnostics()
            self._print_outputs()
            self._print_summary(summary)

    # Rows

    def _hidden(self, step: Step) -> bool:
        if urns.is_default_provider(step.urn):
            return True
        return step.op == steps.SAME and urns.type_of(step.urn) != urns.STACK_TYPE

    def _row(self, step: Step, status: str, info: str = "") -> str:
        label = self._paint(step.op, steps.PREFIXES[step.op])
        about = self._changes(step) or ""
        columns = [f" {label}", urns.display_type(step.urn), urns.name_of(step.urn), status, about, info]
        return " ".join(column for column in columns if column)

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

    def _changes(self, step: Step) -> str:
        if not step.diff or step.op in (steps.SAME, steps.CREATE):
            return ""
        marks = {"add": "+", "delete": "-", "update": "~"}
        kinds: dict[str, set[str]] = {}
        for path, kind in step.diff.changes.items():
            kinds.setdefault(str(path[0]), set()).add("update" if len(path) > 1 else kind)
        grouped: dict[str, list[str]] = {}
        for key, found in kinds.items():
            grouped.setdefault(marks[found.pop() if len(found) == 1 else "update"], []).append(key)
        return f"[diff: {'; '.join(','.join(f'{mark}{key}' for key in keys) for mark, keys in grouped.items())}]"

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
        for urn, messages in self._diagnostics.items():
            self._print(f"  {urns.display_type(urn)} ({urns.name_of(urn)}):")
            for item in messages:
                prefix = self._paint(item.severity, f"{item.severity}:") + " "
                text = item.message if item.severity.startswith("info") else prefix + item.message
                self._print_lines(f"    {line}".rstrip() for line in text.strip("\n").split("\n"))
            self._print("")

    def _print_outputs(self) -> None:
        if self._stack is None:
            return
        old = self._stack.old.outputs if self._stack.old else None
        new = self._stack.new.outputs if self._stack.new else {}
        lines = list(output_lines(old, new, self._paint))
        if lines:
            self._print(self._paint("headline", "Outputs:"))
            self._print_lines(lines)
            self._print("")

    def _print_summary(self, summary: Summary) -> None:
        self._print(self._paint("headline", "Resources:"))
        total = kinds = 0
        for op in steps.OPERATIONS:
            count = summary.changes.get(op, 0)
            if op in (steps.SAME, steps.READ, steps.DISCARD) or not count:
                continue
            text = f"to {op}" if summary.preview else _DONE[op]
            self._print(f"    {self._paint(op, f'{steps.PREFIXES[op].strip()} {count} {text}')}")
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


def output_lines(old: dict[str, Value] | None, new: dict[str, Value], paint: Painter) -> Iterable[str]:
    """The stack's outputs, marked where they differ from those of the last deployment."""
    for key in sorted({**(old or {}), **new}):
        if old is None or (key in old and key in new and not values.diff(old[key], new[key])):
            yield from _property(key, new[key], "    ")
        elif key not in old:
            yield from (paint(steps.CREATE, line) for line in _property(key, new[key], "  + "))
        elif key not in new:
            yield from (paint(steps.DELETE, line) for line in _property(key, old[key], "  - "))
        else:
            change = f"  ~ {key}: {_inline(old[key])} => {_inline(new[key])}"
            yield from paint(steps.UPDATE, change).split("\n")


def detail(step: Step, paint: Painter) -> Iterable[str]:
    """A step with every property that changes, as `--diff` shows it."""
    state = step.state
    mark = steps.PREFIXES[step.op].strip()
    yield paint(step.op, f"{mark} {urns.type_of(step.urn)}: ({step.op})")
    if state.id and state.id != values.UNKNOWN_TEXT:
        yield f"    [id={state.id}]"
    yield f"    [urn={step.urn}]"
    if step.op in (steps.UPDATE, steps.REPLACE, steps.CREATE_REPLACEMENT) and step.old and step.new:
        for path, kind in step.diff.changes.items():
            old, new = _at(step.old.inputs, path), _at(step.new.inputs, path)
            forced = " # forces replacement" if path in step.diff.replace else ""
            name = values.format_path(path)
            if kind == "add":
                yield paint(steps.CREATE, f"  + {name}: {_inline(new)}{forced}")
            elif kind == "delete":
                yield paint(steps.DELETE, f"  - {name}: {_inline(old)}{forced}")
            else:
                yield paint(steps.UPDATE, f"  ~ {name}: {_inline(old)} => {_inline(new)}{forced}")
    else:
        for key, value in sorted(state.inputs.items()):
            yield from _property(key, value, "    ")


def _property(key: str, value: Value, lead: str) -> Iterable[str]:
    text = f"{lead}{key}: {_inline(value)}"
    return text.split("\n")


def _at(value: Value, path: values.Path) -> Value:
    for part in path:
        value = value.value if isinstance(value, values.Secret) else value
        if isinstance(value, dict):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _inline(value: Value) -> str:
    if value is UNKNOWN:
        return "[unknown]"
    if isinstance(value, values.Secret):
        return "[secret]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\\n", "\n")
    return json.dumps(_displayable(value), indent=2, ensure_ascii=False) if value else json.dumps(value)


def _displayable(value: Value) -> Value:
    if value is UNKNOWN:
        return "[unknown]"
    if isinstance(value, values.Secret):
        return "[secret]"
    if isinstance(value, dict):
        return {key: _displayable(item) for key, item in value.items()}
    return [_displayable(item) for item in value] if isinstance(value, list) else value


class JsonDigest:
    """Collects a preview and prints it as one JSON object, in the shape of the real CLI's `preview --json`."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._lock = threading.Lock()
        self._digest: dict[str, Any] = {}
        self._steps: list[Step] = []
        self._diagnostics: list[dict[str, str]] = []

    def prelude(self, config: dict[str, ConfigValue]) -> None:
        """Record the configuration, secrets masked."""
        if config:
            self._digest["config"] = {
                key: "[secret]" if value.secret else value.text for key, value in sorted(config.items())
            }

    def started(self, step: Step) -> None:
        """Record a step."""
        with self._lock:
            if step.shown:
                self._steps.append(step)

    def finished(self, step: Step) -> None:
        """What was refreshed now has an outcome."""
        with self._lock:
            for index, known in enumerate(self._steps):
                if known.urn == step.urn and known.op == steps.REFRESH and step.op != steps.SAME:
                    self._steps[index] = step

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
            self._digest["steps"] = [digest_step(step) for step in self._steps]
            if self._diagnostics:
                self._digest["diagnostics"] = self._diagnostics
            self._digest["duration"] = int(summary.seconds * 1e9)
            self._digest["changeSummary"] = summary.changes
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
