"""How a rotation is told: to a person line by line, or to a machine as JSON lines."""

import json
from collections.abc import Sequence

import typer
from rich.console import Console

from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.steps import Step

_NAMED = 5


class ConsoleReporter:
    """Tells a person, and each thing that is waited for only when it changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting: tuple[str, ...] = ()

    def step(self, step: Step) -> None:
        """Tell that a step begins."""
        self._console.rule(f"[bold]{step}[/]", align="left", style="dim")

    def note(self, text: str, **_: object) -> None:
        """Tell of something that happened."""
        self._console.print(f"[dim]·[/] {text}", soft_wrap=True)

    def blocked(self, blockers: Sequence[Blocker]) -> None:
        """Tell what is being waited for."""
        lines = tuple(map(str, blockers))
        if lines == self._waiting:
            return
        self._waiting = lines
        self._console.print(f"[yellow]·[/] {len(lines)} to go", soft_wrap=True)
        for line in lines[:_NAMED]:
            self._console.print(f"    {line}", style="dim", soft_wrap=True, markup=False)
        if len(lines) > _NAMED:
            self._console.print(f"    and {len(lines) - _NAMED} more", style="dim")


class JsonReporter:
    """Tells a machine: one JSON object a line, each with its event."""

    def step(self, step: Step) -> None:
        """Tell that a step begins."""
        self._write("step", step=step.kind, generations=step.generations)

    def note(self, text: str, **facts: object) -> None:
        """Tell of something that happened."""
        self._write("note", text=text, **facts)

    def blocked(self, blockers: Sequence[Blocker]) -> None:
        """Tell what is being waited for."""
        self._write("waiting", blockers=[{"subject": entry.subject, "reason": entry.reason} for entry in blockers])

    def done(self, *, finished: bool) -> None:
        """Tell that the command ends."""
        self._write("end", finished=finished)

    def _write(self, event: str, **facts: object) -> None:
        typer.echo(json.dumps({"event": event, **facts}))
