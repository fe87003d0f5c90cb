"""How work on a fleet is told: to a person at a terminal, as plain lines, or to a machine as JSON lines."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from types import TracebackType
from typing import Protocol, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from meshtrust.files import ENCODING
from meshtrust.fleet.waves import Board, Outcome, State
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import Step
from meshtrust.stacks.stack import StackError

_MARKS: dict[State, Text] = {
    "done": Text("✓", style="green"),
    "failed": Text("✗", style="bold red"),
    "blocked": Text("!", style="bold yellow"),
    "not begun": Text("-", style="dim"),
}


class Logs:
    """Keeps what the engine writes of each stack in a file of its own, in a directory that only this user reads.

    A directory that nobody named is temporary: once closed, it stays only where someone was told of a file in it.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._stays = directory is not None

    def prepare(self) -> None:
        """Make the directory that was named, and make sure that files can be written there.

        Raises:
            StackError: They cannot.
        """
        if self._directory is None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with TemporaryFile(dir=self._directory):
                pass
        except OSError as error:
            msg = (
                f'--log-directory is "{self._directory}", where no log can be written: {error.strerror}. Name a '
                "directory that can be written to, or none for a temporary one."
            )
            raise StackError(msg) from error

    def find(self, stack: str) -> Path | None:
        """Return a stack's file to tell someone of it; None where nothing was written."""
        path = self._directory / f"{stack}.log" if self._directory else None
        if path is None or not path.exists():
            return None
        self._stays = True
        return path

    def write(self, stack: str, line: str) -> None:
        """Add a line to a stack's file.

        Raises:
            OSError: It cannot be written.
        """
        if self._directory is None:
            self._directory = Path(mkdtemp(prefix="meshtrust-fleet-"))
        with (self._directory / f"{stack}.log").open("a", encoding=ENCODING) as file:
            file.write(f"{line}\n")

    def close(self) -> None:
        """Remove what nobody knows of."""
        if self._directory and not self._stays:
            shutil.rmtree(self._directory, ignore_errors=True)


class CommandBoard(Board, Protocol):
    """A board as a command uses it: it is open while the work goes on, and sums up in the end."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def tell(self, stack: str, event: str, text: str, **facts: object) -> None:
        """Tell of something that happened to a stack."""

    def summary(self, *, error: str = "") -> None:
        """Tell what came of all of it."""


@dataclass(frozen=True)
class StackTeller:
    """Tells a board of one stack.

    Attributes:
        stack: Its name.
        board: The board.
        logs: Where the engine's output is kept.
    """

    stack: str
    board: CommandBoard
    logs: Logs

    def step(self, step: Step) -> None:
        """Tell that a step begins."""
        self.board.tell(self.stack, "step", str(step), step=step.kind, generations=step.generations)

    def note(self, text: str, **facts: object) -> None:
        """Tell of something that happened."""
        self.board.tell(self.stack, "note", text, **facts)

    def warn(self, text: str) -> None:
        """Tell of something that a person has to see."""
        self.board.tell(self.stack, "warning", text)

    def blocked(self, blockers: Sequence[Blocker]) -> None:
        """Tell what is being waited for."""
        listed = [{"subject": entry.subject, "reason": entry.reason} for entry in blockers]
        self.board.tell(self.stack, "waiting", f"{len(blockers)} to go, such as {blockers[0]}", blockers=listed)

    def write(self, line: str) -> None:
        """Keep a line of the engine's."""
        self.logs.write(self.stack, line)
        if line.strip():
            self.board.tell(self.stack, "engine", line.strip())


@dataclass
class _Row:
    """What is known of a stack in the phase that is under way."""

    text: str = "waits for its turn"
    started: float | None = None
    outcome: Outcome | None = None


@dataclass
class _Told:
    """What all boards keep: the last outcome of each stack, for the summary."""

    logs: Logs
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def keep(self, outcome: Outcome) -> None:
        self.outcomes[outcome.stack] = outcome


class LiveBoard:
    """Tells a person at a terminal: a table of the present phase, a line per stack, kept up to date in place."""

    def __init__(self, console: Console, logs: Logs) -> None:
        self._console = console
        self._told = _Told(logs)
        self._rows: dict[str, _Row] = {}
        self._spinner = Spinner("dots")
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture."""
        self._print_rows()
        self._live.stop()

    def phase(self, title: str, stacks: Sequence[str]) -> None:
        """Begin a new table; the last one stays above it."""
        self._print_rows()
        self._rows = {stack: _Row() for stack in stacks}
        self._console.print(f"\n[bold]{title}[/]")

    def teller(self, stack: str) -> StackTeller:
        """Return who is told of one stack."""
        return StackTeller(stack, self, self._told.logs)

    def began(self, stack: str) -> None:
        """Start a stack's clock."""
        self._rows[stack] = _Row(text="begins", started=time.monotonic())

    def tell(self, stack: str, event: str, text: str, **facts: object) -> None:  # noqa: ARG002 facts are for machines
        """Show what happens to a stack now; a warning stays above the table."""
        if event == "warning":
            self._console.print(Text.assemble(("! ", "bold yellow"), (stack, "bold"), f": {text}"), soft_wrap=True)
        else:
            self._rows[stack].text = text

    def ended(self, outcome: Outcome) -> None:
        """Show what came of a stack."""
        self._told.keep(outcome)
        self._rows[outcome.stack].outcome = outcome

    def summary(self, *, error: str = "") -> None:
        """Name the log of what went wrong."""
        summarise(self._told.outcomes.values(), self._told.logs, self._console, error=error)

    def _print_rows(self) -> None:
        if self._rows:
            self._console.print(self._table())
            self._rows = {}

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(width=1)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="dim")
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


class LinesBoard:
    """Tells a person who reads a log: a line for each thing that happens, with the stack's name before it."""

    def __init__(self, console: Console, logs: Logs) -> None:
        self._console = console
        self._told = _Told(logs)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def phase(self, title: str, stacks: Sequence[str]) -> None:
        """Head what follows."""
        self._print(f"== {title}: {', '.join(stacks)}")

    def teller(self, stack: str) -> StackTeller:
        """Return who is told of one stack."""
        return StackTeller(stack, self, self._told.logs)

    def began(self, stack: str) -> None:
        """Tell that a stack's turn has come."""
        self._print(f"{stack}: begins")

    def tell(self, stack: str, event: str, text: str, **facts: object) -> None:  # noqa: ARG002 facts are for machines
        """Tell of something that happened; what the engine writes is in its file."""
        if event != "engine":
            self._print(f"{stack}: {text}")

    def ended(self, outcome: Outcome) -> None:
        """Tell what came of a stack."""
        self._told.keep(outcome)
        reason = f": {outcome.error}" if outcome.error else ""
        self._print(f"{outcome.stack}: {outcome.state} ({outcome.seconds:.0f} s){reason}")

    def summary(self, *, error: str = "") -> None:
        """Name the log of what went wrong."""
        summarise(self._told.outcomes.values(), self._told.logs, self._console, error=error)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


class JsonBoard:
    """Tells a machine: one JSON object a line, each with its event."""

    def __init__(self, logs: Logs, write: Callable[[str], None] = typer.echo) -> None:
        self._told = _Told(logs)
        self._write_line = write

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def phase(self, title: str, stacks: Sequence[str]) -> None:
        """Tell that a phase begins."""
        self._write("phase", title=title, stacks=list(stacks))

    def teller(self, stack: str) -> StackTeller:
        """Return who is told of one stack."""
        return StackTeller(stack, self, self._told.logs)

    def began(self, stack: str) -> None:
        """Tell that a stack's turn has come."""
        self._write("began", stack=stack)

    def tell(self, stack: str, event: str, text: str, **facts: object) -> None:
        """Tell of something that happened; what the engine writes is in its file."""
        if event != "engine":
            self._write(event, stack=stack, text=text, **facts)

    def ended(self, outcome: Outcome) -> None:
        """Tell what came of a stack."""
        self._told.keep(outcome)
        self._write("ended", **self._described(outcome))

    def summary(self, *, error: str = "") -> None:
        """Tell what came of each stack last."""
        clusters = [self._described(outcome) for outcome in self._told.outcomes.values()]
        self._write("end", finished=not error, error=error or None, stacks=clusters)

    def _described(self, outcome: Outcome) -> dict[str, object]:
        described: dict[str, object] = {
            "stack": outcome.stack,
            "state": outcome.state,
            "seconds": round(outcome.seconds, 1),
        }
        if outcome.went_wrong:
            log = self._told.logs.find(outcome.stack)
            described |= {
                "error": outcome.error,
                "blockers": list(outcome.blockers),
                "log": str(log) if log else None,
            }
        return described

    def _write(self, event: str, **facts: object) -> None:
        self._write_line(json.dumps({"event": event, **facts}))


def summarise(outcomes: Collection[Outcome], logs: Logs, console: Console, *, error: str) -> None:
    """Draw how many stacks ended how, and for what went wrong why, and where the engine's output is."""
    console.print()
    for outcome in outcomes:
        if not outcome.went_wrong:
            continue
        console.print(Text.assemble(_MARKS[outcome.state], " ", (outcome.stack, "bold"), f": {outcome.error}"))
        for blocker in outcome.blockers:
            console.print(f"    - {blocker}", markup=False, soft_wrap=True)
        if log := logs.find(outcome.stack):
            console.print(f"    its log: {log}", markup=False, soft_wrap=True)
    counts = Counter(outcome.state for outcome in outcomes)
    listed = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing was to do"
    mark = "[bold red]✗[/]" if error else "[bold green]✓[/]"
    console.print(f"{mark} {listed}." + (f" {error}." if error else ""), soft_wrap=True)


def open_board(console: Console, logs: Logs, *, as_json: bool) -> CommandBoard:
    """Return the board for who reads: a machine, a person at a terminal, or one who reads a log."""
    if as_json:
        return JsonBoard(logs)
    return LiveBoard(console, logs) if console.is_terminal else LinesBoard(console, logs)
