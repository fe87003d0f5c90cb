"""`meshtrust fleet`: all the clusters that share a trust anchor, with one command."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from meshtrust.commands.display.files import writing
from meshtrust.commands.display.fleet_table import show_cluster_findings, show_fleet, show_links
from meshtrust.commands.display.renderers import open_progress
from meshtrust.commands.options import (
    HERE,
    AnchorDays,
    Directory,
    IssuerHours,
    Json,
    LogDirectory,
    UntilState,
    Verbose,
    WaitTimeout,
    choose_wait,
    console,
    write_json,
)
from meshtrust.commands.rotation.rotate import AtOnce, Lazy, Timeout, choose_goal
from meshtrust.commands.work import wait_for_goals
from meshtrust.files import ENCODING
from meshtrust.fleet.inspection import inspect_fleet
from meshtrust.fleet.members import find_fleet
from meshtrust.fleet.page import draw_page
from meshtrust.fleet.rotation_waves import FleetRotationOptions, rotate_fleet
from meshtrust.fleet.state import read_state
from meshtrust.fleet.up import deploy_fleet
from meshtrust.fleet.view import FleetView
from meshtrust.fleet.waves import FleetError
from meshtrust.linkerd.rollout import Limits
from meshtrust.stacks.inspection import MinimumLifetimes
from meshtrust.stacks.progress import Progress

AnchorStack = Annotated[str, typer.Option(help="Stack that owns the trust anchor. Default: the only one there is.")]
Parallel = Annotated[int, typer.Option(min=1, help="Clusters to work on at a time.")]

app = typer.Typer(
    help="All the clusters that share a trust anchor: see them, deploy them, rotate their anchor.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def up(
    *,
    anchor_stack: AnchorStack = "",
    parallel: Parallel = 4,
    secrets_provider: Annotated[
        str, typer.Option(help="What encrypts a stack that has to be made, as `pulumi stack init` takes it.")
    ] = "",
    verbose: Verbose = False,
    log_directory: LogDirectory = None,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Deploy the anchor stack and every cluster, from nothing if need be; clusters in waves of 1, a tenth, the rest.

    The first failure ends it after the clusters that are under way; the same command goes on. Exit codes: 0 all are
    deployed; 1 one is not; 3 the fleet cannot be read.
    """
    fleet = find_fleet(directory, anchor_stack)

    async def work(progress: Progress) -> None:
        await deploy_fleet(fleet, parallel=parallel, progress=progress, secrets_provider=secrets_provider)

    run(work, parallel, as_json=as_json, verbose=verbose, log_directory=log_directory)


@app.command()
def rotate(
    *,
    to: Annotated[str, typer.Option(help="Generation to rotate to. Default: the one under way, or this year's.")] = "",
    anchor_stack: AnchorStack = "",
    parallel: Parallel = 4,
    lazy: Lazy = False,
    at_once: AtOnce = 10,
    timeout_seconds: Timeout = 600,
    verbose: Verbose = False,
    log_directory: LogDirectory = None,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Rotate the trust anchor over the fleet: all trust the new one, then all switch to it, then all retire the old.

    Clusters go in waves of 1, a tenth, the rest. Stop it at any moment: the same command goes on. Exit codes: 0 done;
    1 a cluster failed; 3 the fleet cannot be read; 4 clusters have to wait for what is listed.
    """
    fleet = find_fleet(directory, anchor_stack)
    limits = Limits(at_once=at_once, timeout_seconds=timeout_seconds)
    options = FleetRotationOptions(parallel=parallel, lazy=lazy, limits=limits)

    async def work(progress: Progress) -> None:
        chosen = to or choose_goal(fleet.anchor.configured.anchors, (await read_state(fleet, parallel)).anchor)
        await rotate_fleet(fleet, chosen, options, progress)

    run(work, parallel, as_json=as_json, verbose=verbose, log_directory=log_directory)


@app.command()
def status(
    *,
    anchor_stack: AnchorStack = "",
    parallel: Parallel = 8,
    html: Annotated[
        Path | None, typer.Option(help="File to write the fleet to as one static page.", dir_okay=False)
    ] = None,
    until: UntilState = None,
    timeout: WaitTimeout = None,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Show the fleet's anchors, each cluster's phase, goal, issuer and proxies, their Links, and what needs attention.

    A cluster that cannot be read is shown as such. With --until, wait for the goals of all stacks instead. Exit codes:
    0 shown, whatever it is, or all goals are reached; 3 the fleet cannot be read, or the page not written; 4 the time
    is over, and what is waited for is listed.
    """
    seconds = choose_wait(until, timeout, html=html)
    if seconds is not None:
        wait_for_goals(find_fleet(directory, anchor_stack).stacks, seconds, as_json=as_json, parallel=parallel)
        return
    view = _look(directory, anchor_stack, parallel, MinimumLifetimes())
    if html:
        with writing("the page", html):
            html.write_text(draw_page(view), encoding=ENCODING)
    if as_json:
        write_json(view.as_json())
        return
    show_fleet(view, console())
    if html:
        console().print(f"The page is in {html}.", markup=False, soft_wrap=True)


@app.command()
def verify(
    *,
    anchor_stack: AnchorStack = "",
    parallel: Parallel = 8,
    issuer_hours: IssuerHours = 24,
    anchor_days: AnchorDays = 60,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Judge every cluster's served credentials, whether the clusters trust each other, and both ends of each Link.

    Exit codes: 0 no error; 1 an error, or a cluster that cannot be read, each of which is listed; 3 the fleet cannot be
    read.
    """
    budget = MinimumLifetimes(issuer=timedelta(hours=issuer_hours), anchor=timedelta(days=anchor_days))
    view = _look(directory, anchor_stack, parallel, budget)
    failed = any(cluster.has_errors for cluster in view.clusters)
    if as_json:
        clusters = {cluster.stack: cluster.as_json() for cluster in view.clusters}
        shown = {
            stack: {key: found[key] for key in ("error", "phase", "links", "findings")}
            for stack, found in clusters.items()
        }
        links = [link.as_json() for link in view.links]
        write_json({"anchorStack": view.anchor_stack, "ok": not failed, "clusters": shown, "links": links})
    else:
        for cluster in view.clusters:
            show_cluster_findings(cluster, console())
        show_links(view, console())
    if failed:
        raise typer.Exit(1)


def _look(directory: Path, anchor_stack: str, parallel: int, budget: MinimumLifetimes) -> FleetView:
    fleet = find_fleet(directory, anchor_stack)

    async def look() -> FleetView:
        _widen(parallel)
        return await inspect_fleet(fleet, budget, parallel)

    return asyncio.run(look())


def _widen(parallel: int) -> None:
    """Give the event loop a thread for each run of the CLI, and some more in which host names are resolved."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=parallel + 8))


def run(
    work: Callable[[Progress], Coroutine[Any, Any, None]],
    parallel: int,
    *,
    as_json: bool,
    verbose: bool = False,
    log_directory: Path | None = None,
) -> None:
    """Run work on a fleet, and show its progress and its end.

    Raises:
        StackError: The engine's output cannot be kept in the directory that was named.
        typer.Exit: With the command's exit code, if the work failed or has to wait.
    """

    async def widely(progress: Progress) -> None:
        _widen(parallel)
        await work(progress)

    with open_progress(console(), as_json=as_json, verbose=verbose, log_directory=log_directory) as progress:
        try:
            asyncio.run(widely(progress))
        except FleetError as error:
            progress.end(finished=False, error=str(error))
            raise typer.Exit(error.exit_code) from None
        progress.end("Nothing was to do.", finished=True)
