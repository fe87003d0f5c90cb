"""Renderers of progress: in place at a terminal, as plain lines, or as JSON lines."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from meshtrust.stacks.engine_logs import EngineLogs
from meshtrust.stacks.progress import Event, EventKind, Outcome, Progress, State

_MARKS: dict[State, Text] = {
    "done": Text("✓", style="green"),
    "failed": Text("✗", style="bold red"),
    "blocked": Text("!", style="bold yellow"),
    "not begun": Text("-", style="dim"),
}
_SIGNS: Mapping[EventKind, tuple[str, str]] = {
    "warning": ("! ", "bold yellow"),
    "waiting": ("· ", "yellow"),
    "engine": ("  ", ""),
    "ended": ("", ""),
}
# How many of the objects that a step waits for are listed.
_MOST_LISTED = 5


class WorkInterruptedError(Exception):
    """Work that the user interrupted; its notes name the engine's log."""


class Renderer(Protocol):
    """Shows events to whoever started the command."""

    def show(self, event: Event) -> None:
        """Show an event."""

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Show no more."""


class PlainRenderer:
    """Writes lines for a person who reads a log; with several stacks, each line begins with the name of its stack.

    Args:
        console: Where to write.
        verbose: Whether to write what the engine writes, too.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console, self._verbose = console, verbose
        self._has_several = False

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Show no more."""

    def show(self, event: Event) -> None:
        """Write the lines of an event."""
        if event.kind == "phase":
            self._has_several = True
            self._print(Text(f"== {event.text}: {', '.join(event.stacks)}"))
        elif event.kind == "end":
            _show_end(event, self._console, has_several=self._has_several)
        elif event.kind == "step" and not self._has_several:
            self._print(Text.assemble("\n", (event.text, "bold")))
        elif event.kind != "engine" or self._verbose:
            for line in _lines(event, has_several=self._has_several):
                self._print(line)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


@dataclass
class _Row:
    """The state of one stack in the present phase."""

    text: str = "waits for its turn"
    started: float | None = None
    outcome: Outcome | None = None


class LiveRenderer(PlainRenderer):
    """Draws at a terminal and keeps the drawing up to date.

    Several stacks are a table, with a row for each. For one stack, events are lines as in a log, and below them is the
    line that the engine wrote last.

    Args:
        console: The terminal.
        verbose: Whether to write what the engine writes, too.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        super().__init__(console, verbose=verbose)
        self._rows: dict[str, _Row] = {}
        self._engine = ""
        self._spinner = Spinner("dots")
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=8, transient=True)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Leave the last table, and draw no more."""
        self._print_rows()
        self._live.stop()

    def show(self, event: Event) -> None:
        """Draw an event."""
        row = self._rows.get(event.stack)
        if event.kind == "phase":
            self._print_rows()
            self._rows = {stack: _Row() for stack in event.stacks}
            self._has_several = True
            self._print(Text.assemble("\n", (event.text, "bold")))
        elif row and event.kind == "ended":
            [row.outcome] = event.outcomes
        elif row and event.kind != "warning":
            row.text, row.started = event.text.strip(), row.started or time.monotonic()
            if event.kind == "engine":
                super().show(event)
        else:
            self._engine = event.text.strip() if event.kind == "engine" else ""
            if event.kind == "end":
                self.stop()
            super().show(event)

    def _print_rows(self) -> None:
        if self._rows:
            self._console.print(self._table())
            self._rows = {}

    def _draw(self) -> RenderableType:
        if self._rows:
            return self._table()
        if not self._engine:
            return Text()
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_column()
        line.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        line.add_row(self._spinner, Text(self._engine))
        return line

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(width=1)
        table.add_column(style="bold", overflow="fold")
        table.add_column(justify="right", no_wrap=True, style="dim")
        # Cut to a line; the end of the command has the whole of it.
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for stack, row in self._rows.items():
            if row.outcome:
                text = Text(row.outcome.error.split("\n")[0] or row.outcome.state)
                table.add_row(_MARKS[row.outcome.state], stack, f"{row.outcome.seconds:.0f} s", text)
            elif row.started is not None:
                table.add_row(self._spinner, stack, f"{time.monotonic() - row.started:.0f} s", Text(row.text))
            else:
                table.add_row("", stack, "", Text(row.text, style="dim"))
        return table


class JsonRenderer:
    """Writes one JSON object a line for a machine.

    Args:
        write: Takes each line.
        verbose: Whether to write what the engine writes to standard error.
    """

    def __init__(self, write: Callable[[str], None] = typer.echo, *, verbose: bool = False) -> None:
        self._write, self._verbose = write, verbose

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Show no more."""

    def show(self, event: Event) -> None:
        """Write an event."""
        if event.kind != "engine":
            self._write(json.dumps(event.as_json()))
        elif self._verbose:
            typer.echo(event.text, file=sys.stderr)


@contextmanager
def open_progress(
    console: Console, *, as_json: bool, verbose: bool = False, log_directory: Path | None = None
) -> Iterator[Progress]:
    """Show the progress of work to a machine, to a person at a terminal, or to one who reads a log.

    Args:
        console: Where to show it.
        as_json: Whether it is for a machine.
        verbose: Whether to show what the engine writes, too.
        log_directory: Where to keep what the engine writes; None for a temporary directory.

    Raises:
        StackError: Nothing can be written into that directory.
        WorkInterruptedError: The user interrupted the work.
    """
    logs = EngineLogs(log_directory)
    logs.prepare()
    renderer = _choose(console, as_json=as_json, verbose=verbose)
    renderer.start()
    try:
        yield Progress(renderer.show, logs)
    except KeyboardInterrupt:
        error = WorkInterruptedError("Interrupted. Nothing is lost: the same command goes on from here.")
        if kept := logs.keep_all():
            error.add_note(f"The engine's output so far: {kept}")
        raise error from None
    finally:
        renderer.stop()
        logs.close()


def _choose(console: Console, *, as_json: bool, verbose: bool) -> Renderer:
    if as_json:
        return JsonRenderer(verbose=verbose)
    return LiveRenderer(console, verbose=verbose) if console.is_terminal else PlainRenderer(console, verbose=verbose)


def _show_end(event: Event, console: Console, *, has_several: bool) -> None:
    """Show how the work ended; of several stacks how many in which state, and why what went wrong did.

    Args:
        event: The event of the end.
        console: Where to show it.
        has_several: Whether the work was on several stacks; the error of one is the command's.
    """
    if not has_several:
        if event.text:
            console.print(event.text, style="bold", soft_wrap=True)
        return
    console.print()
    for outcome in event.outcomes:
        if outcome.went_wrong:
            console.print(Text.assemble(_MARKS[outcome.state], " ", (outcome.stack, "bold"), f": {outcome.error}"))
            for line in details(outcome):
                console.print(f"    {line}", markup=False, soft_wrap=True)
    counts = Counter(outcome.state for outcome in event.outcomes)
    listed = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing was to do"
    error = event.facts["error"]
    mark = _MARKS["failed" if error else "done"]
    console.print(Text.assemble(mark, f" {listed}.", f" {error}." if error else ""), soft_wrap=True)


def details(outcome: Outcome) -> list[str]:
    """Return what a message says below its error: what blocks, the engine's errors, and the path of its log."""
    lines = [f"- {blocker}" for blocker in outcome.blockers]
    lines += outcome.engine_errors
    if outcome.log:
        lines.append(f"The engine's whole output: {outcome.log}")
    return lines


def _lines(event: Event, *, has_several: bool) -> Iterator[Text]:
    """Yield an event as lines, each with the name of its stack if there are several."""
    name = (f"{event.stack}: ", "bold") if has_several else ""
    text = event.text
    if event.kind == "ended":
        [outcome] = event.outcomes
        text = f"{outcome.state} ({outcome.seconds:.0f} s)" + (f": {outcome.error}" if outcome.error else "")
    yield Text.assemble(_SIGNS.get(event.kind, ("· ", "dim")), name, (text, "dim" if event.kind == "engine" else ""))
    listed = event.blockers[1:_MOST_LISTED]
    more = len(event.blockers) - 1 - len(listed)
    for line in (*map(str, listed), *([f"and {more} more"] if more > 0 else [])):
        yield Text.assemble(name, (f"    {line}", "dim"))
