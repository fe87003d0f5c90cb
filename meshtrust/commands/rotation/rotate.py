"""`meshtrust rotate` and `meshtrust abort`: a whole rotation or one step of it, and the way back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from meshtrust.commands.options import HERE, Directory, Json, LogDirectory, Verbose, select
from meshtrust.commands.work import run_work
from meshtrust.linkerd.rollout import Limits
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.progress import StackProgress
from meshtrust.stacks.rotator import RotationOptions, TargetOpener, abort_rotation, rotate_stack
from meshtrust.stacks.target import Target, open_target

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
    verbose: Verbose = False,
    log_directory: LogDirectory = None,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Rotate the trust anchor: introduce the new one, switch the signer, retire the old, restarting what must be.

    It edits the stack's file and runs `pulumi up`. Stop it at any moment: the same command goes on. Exit codes: 0 done,
    or the step is; 1 a workload did not get ready; 3 stack or cluster cannot be read or deployed; 4 it has to wait for
    what is listed.
    """
    options = RotationOptions(lazy=lazy, limits=Limits(at_once=at_once, timeout_seconds=timeout_seconds))
    open_stack = _opener(stack, directory)

    async def work(progress: StackProgress) -> bool:
        chosen = to or goal(await open_stack())
        return await rotate_stack(open_stack, chosen, options, progress, once=once)

    run_work(stack, work, as_json=as_json, verbose=verbose, log_directory=log_directory)


def abort(
    *,
    stack: RequiredStack,
    once: Once = False,
    lazy: Lazy = False,
    at_once: AtOnce = 10,
    timeout_seconds: Timeout = 600,
    verbose: Verbose = False,
    log_directory: LogDirectory = None,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Go back to where a rotation began: the signer to the old anchor, then the new one out of the bundle.

    Exit codes: as for rotate; 3 also where no rotation is under way.
    """
    options = RotationOptions(lazy=lazy, limits=Limits(at_once=at_once, timeout_seconds=timeout_seconds))

    async def work(progress: StackProgress) -> bool:
        return await abort_rotation(_opener(stack, directory), options, progress, once=once)

    run_work(stack, work, as_json=as_json, verbose=verbose, log_directory=log_directory)


def _opener(stack: str, directory: Directory) -> TargetOpener:
    async def open_stack() -> Target:
        return await open_target(select(stack, directory))

    return open_stack


def goal(target: Target) -> str:
    """Return the generation to rotate to by default; empty before the first deployment."""
    deployed = target.deployed
    if deployed is None or deployed.trust is None:
        return ""
    return choose_goal(target.stack.configured.anchors if target.stack else (), deployed)


def choose_goal(configured: Sequence[str], deployed: StackOutputs) -> str:
    """Return the generation to rotate to: the oldest one if the goal is set back to it, else as `choose_generation`."""
    if tuple(configured) == deployed.anchors[:1] and len(deployed.anchors) > 1:
        return configured[0]
    return choose_generation(configured, deployed)


def choose_generation(configured: Sequence[str], deployed: StackOutputs) -> str:
    """Return the newest configured generation if a rotation is under way, else a new one for this year.

    Empty before the first deployment, when there is nothing to rotate.
    """
    if not deployed.anchors:
        return ""
    if configured and configured[-1] != deployed.anchors[0]:
        return configured[-1]
    used = {*deployed.anchors, *deployed.retired}
    year = str(datetime.now(UTC).year)
    names = (year, *(f"{year}-{number}" for number in range(2, 1000)))
    return next(name for name in names if name not in used)
