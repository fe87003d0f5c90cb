"""Property values and their differences as lines of text, in the layout of the real CLI."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from rehearsal.engine import steps, urns, values
from rehearsal.engine.steps import Step
from rehearsal.engine.values import UNKNOWN, Properties, Value

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


def properties(given: Properties, *, indent: int, mark: str = " ") -> Iterator[str]:
    """One line or more for each property, keys aligned; what is null is left out."""
    shown = {key: value for key, value in sorted(given.items()) if value is not None}
    width = max((len(key) for key in shown), default=0)
    for key, value in shown.items():
        yield from entry(key.ljust(width), value, indent=indent, mark=mark)


def entry(key: str, value: Value, *, indent: int, mark: str = " ") -> Iterator[str]:
    """The lines of one property."""
    lead = " " * (indent - 2) + f"{mark} "
    if isinstance(value, dict) and value:
        yield f"{lead}{key}: {{"
        yield from properties(value, indent=indent + 4, mark=mark)
        yield f"{lead}}}"
    elif isinstance(value, list) and value:
        yield f"{lead}{key}: ["
        for index, item in enumerate(value):
            yield from entry(f"[{index}]", item, indent=indent + 4, mark=mark)
        yield f"{lead}]"
    else:
        yield f"{lead}{key}: {scalar(value)}"


def scalar(value: Value) -> str:
    """A value on one line."""
    if isinstance(value, values.Secret):
        return "[secret]"
    if value is UNKNOWN:
        return "[unknown]"
    if isinstance(value, dict | list):
        return json.dumps(values.masked(value), ensure_ascii=False)
    if value is None:
        return "<null>"
    if isinstance(value, str):
        lines = value.split("\n")
        value = "\n".join([*lines[:3], "..."]) if len(lines) > 4 else value
    return json.dumps(value, ensure_ascii=False)


def change(key: str, before: Value, after: Value, *, indent: int, paint: Painter) -> Iterator[str]:
    """The lines of one property that changes; objects and lists show which of their parts do."""
    lead = " " * (indent - 2)
    pairs: list[tuple[str, Value, Value]] = []
    if isinstance(before, dict) and isinstance(after, dict):
        width = max((len(name) for name in {**before, **after}), default=0)
        pairs = [(name.ljust(width), before.get(name), after.get(name)) for name in sorted({**before, **after})]
    elif isinstance(before, list) and isinstance(after, list):
        size = max(len(before), len(after))
        padded = [[*items, *[None] * (size - len(items))] for items in (before, after)]
        pairs = [(f"[{index}]", padded[0][index], padded[1][index]) for index in range(size)]
    if not pairs:
        yield paint(steps.UPDATE, f"{lead}~ {key}: {scalar(before)} => {scalar(after)}")
        return
    brackets = "{}" if isinstance(after, dict) else "[]"
    yield paint(steps.UPDATE, f"{lead}~ {key}: {brackets[0]}")
    for name, old, new in pairs:
        if old is None and new is not None:
            yield from _painted(paint, steps.CREATE, entry(name, new, indent=indent + 4, mark="+"))
        elif new is None and old is not None:
            yield from _painted(paint, steps.DELETE, entry(name, old, indent=indent + 4, mark="-"))
        elif values.diff(old, new):
            yield from change(name, old, new, indent=indent + 4, paint=paint)
        else:
            yield from entry(name, new, indent=indent + 4)
    yield paint(steps.UPDATE, f"{lead}  {brackets[1]}")


def outputs(old: Properties | None, new: Properties, *, everything: bool, paint: Painter) -> Iterator[str]:
    """The stack's outputs, marked where they differ from those of the last deployment.

    Without `everything` those that stay the same are left out; before the first deployment nothing is marked.
    """
    if old is None:
        yield from properties(new, indent=4)
        return
    known = {key for key, value in {**old, **new}.items() if value is not None}
    width = max((len(key) for key in known), default=0)
    for key in sorted(known):
        before, after, label = old.get(key), new.get(key), key.ljust(width)
        if before is None:
            yield from _painted(paint, steps.CREATE, entry(label, after, indent=4, mark="+"))
        elif after is None:
            yield from _painted(paint, steps.DELETE, entry(label, before, indent=4, mark="-"))
        elif values.diff(before, after):
            yield from change(label, before, after, indent=4, paint=paint)
        elif everything:
            yield from entry(label, after, indent=4)


def detail(step: Step, depth: int, paint: Painter) -> Iterator[str]:
    """A step with every property that changes, as `--diff` shows it, indented by the depth of its resource."""
    state = step.state
    margin = " " * 4 * depth
    mark = steps.PREFIXES[step.op].strip() or " "
    yield paint(step.op, f"{margin}{mark:<2}{urns.type_of(step.urn)}: ({step.op})")
    if state.id and state.id != values.UNKNOWN_TEXT:
        yield f"{margin}    [id={state.id}]"
    yield f"{margin}    [urn={step.urn}]"
    if step.op in (steps.UPDATE, steps.REPLACE, steps.CREATE_REPLACEMENT) and step.old and step.new:
        yield from _changes(step, step.old.inputs, step.new.inputs, depth, paint)
    elif step.op != steps.SAME:
        yield from properties(state.inputs, indent=4 * depth + 4)


def _changes(step: Step, old: Properties, new: Properties, depth: int, paint: Painter) -> Iterator[str]:
    indent = 4 * depth + 4
    for path, kind in step.diff.changes.items():
        name = values.format_path(path)
        if kind == "add":
            yield from _painted(paint, steps.CREATE, entry(name, _at(new, path), indent=indent, mark="+"))
        elif kind == "delete":
            yield from _painted(paint, steps.DELETE, entry(name, _at(old, path), indent=indent, mark="-"))
        else:
            yield from change(name, _at(old, path), _at(new, path), indent=indent, paint=paint)


def short_changes(step: Step) -> str:
    """The top-level properties that change: `[diff: +a;~b,c]`, empty without a difference."""
    if step.old and step.new and step.old.protect != step.new.protect and step.op == steps.SAME:
        return "[diff: ~protect]"
    if not step.diff or step.op in (steps.SAME, steps.CREATE, steps.DELETE):
        return ""
    marks = {"add": "+", "delete": "-", "update": "~"}
    kinds: dict[str, str] = {}
    for path, kind in step.diff.changes.items():
        key = str(path[0])
        kinds[key] = kind if len(path) == 1 and key not in kinds else "update"
    listed = [f"{marks[kind]}{key}" for key, kind in sorted(kinds.items(), key=lambda item: (item[1], item[0]))]
    return f"[diff: {','.join(listed)}]"


def _painted(paint: Painter, kind: str, lines: Iterable[str]) -> Iterator[str]:
    return (paint(kind, line) for line in lines)


def _at(value: Value, path: values.Path) -> Value:
    secret = False
    for part in path:
        if isinstance(value, values.Secret):
            secret, value = True, value.value
        if isinstance(value, dict):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return values.Secret(value) if secret and not isinstance(value, values.Secret) else value
