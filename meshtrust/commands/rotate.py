"""`meshtrust rotate` and `meshtrust abort`: the whole of a rotation, or a step of it, forwards and back."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from meshtrust.commands.display.reporter import ConsoleReporter, JsonReporter
from meshtrust.commands.options import HERE, Directory, Json, console, select
from meshtrust.linkerd.rollout import Limits
from meshtrust.stacks import rotator as rotation
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import Reporter
from meshtrust.stacks.target import Selection, Target, open_target

RequiredStack = Annotated[str, typer.Option("--stack", "-s", help="Stack whose trust anchor is rotated.")]
Once = Annotated[bool, typer.Option("--step", help="Take one step, then stop.")]
Lazy = Annotated[
    bool, typer.Option("--lazy", help="Restart nothing: wait for pods and leaves to be replaced by themselves.")
]
AtOnce = Annotated[int, typer.Option(min=1, help="Workloads to restart at a time.")]
Timeout = Annotated[int, typer.Option(min=1, help="Seconds that one workload may take to be ready again.")]


def rotate(
    *,
    stack: RequiredStack,
    to: Annotated[str, typer.Option(help="Generation to rotate to. Default: the one under way, or this year's.")] = "",
    once: Once = False,
    lazy: Lazy = False,
    at_once: AtOnce = 10,
    timeout_seconds: Timeout = 600,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Rotate the trust anchor: introduce the new one, switch the signer, retire the old, restarting what must be.

    It edits the stack's file and runs `pulumi up`. Stop it at any moment: the same command goes on. Exit codes: 0 done,
    or the step is; 1 a workload did not get ready; 3 stack or cluster cannot be read or deployed; 4 it has to wait for
    what is listed.
    """

    async def run(open_: rotation.Open, way: rotation.Way, reporter: Reporter) -> bool:
        target = await open_()
        return await rotation.rotate(open_, to or goal(target), way, reporter, once=once)

    _run(run, select(stack, directory), _way(lazy, at_once, timeout_seconds, as_json=as_json), as_json=as_json)


def abort(
    *,
    stack: RequiredStack,
    once: Once = False,
    lazy: Lazy = False,
    at_once: AtOnce = 10,
    timeout_seconds: Timeout = 600,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Go back to where a rotation began: the signer to the old anchor, then the new one out of the bundle.

    Exit codes: as for rotate; 3 also where no rotation is under way.
    """

    async def run(open_: rotation.Open, way: rotation.Way, reporter: Reporter) -> bool:
        return await rotation.abort(open_, way, reporter, once=once)

    _run(run, select(stack, directory), _way(lazy, at_once, timeout_seconds, as_json=as_json), as_json=as_json)


def _way(lazy: bool, at_once: int, timeout_seconds: int, *, as_json: bool) -> rotation.Way:
    def write(line: str) -> None:
        # Standard output is for machines then.
        typer.echo(line, err=as_json)

    return rotation.Way(lazy=lazy, limits=Limits(at_once=at_once, timeout_seconds=timeout_seconds), write=write)


def _run(
    work: Callable[[rotation.Open, rotation.Way, Reporter], Coroutine[Any, Any, bool]],
    selection: Selection,
    way: rotation.Way,
    *,
    as_json: bool,
) -> None:
    reporter = JsonReporter() if as_json else ConsoleReporter(console())

    async def open_() -> Target:
        return await open_target(selection)

    finished = asyncio.run(work(open_, way, reporter))
    if isinstance(reporter, JsonReporter):
        reporter.done(finished=finished)
    else:
        console().print(
            "[bold green]Done.[/]" if finished else "[bold]The step is taken.[/] Run the same command for the next."
        )


def goal(target: Target) -> str:
    """Return the generation to rotate to where none is named: the newest trusted one, else a new one for this year."""
    deployed = target.deployed
    if deployed is None or deployed.trust is None:
        return ""
    return choose_generation(target.stack.configured.anchors if target.stack else (), deployed)


def choose_generation(configured: Sequence[str], deployed: StackOutputs) -> str:
    """Return the newest of the configured generations where a rotation is under way, else a new one for this year.

    Before the first deployment there is none to rotate from, and none to rotate to.
    """
    if not deployed.anchors:
        return ""
    if configured and configured[-1] != deployed.anchors[0]:
        return configured[-1]
    used = {*deployed.anchors, *deployed.retired}
    year = str(datetime.now(UTC).year)
    names = (year, *(f"{year}-{number}" for number in range(2, 1000)))
    return next(name for name in names if name not in used)
