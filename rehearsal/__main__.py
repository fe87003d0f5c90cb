"""Rehearsals: see a stack's plan without a cluster, or run it on one that is made for it and thrown away."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rehearsal.cluster.waiting_times import BY_NAME, WaitingTimesName
from rehearsal.errors import RehearsalError
from rehearsal.plan import make_plan, show_plan
from rehearsal.prepare import ensure_programs
from rehearsal.rehearse import Rehearsal
from rehearsal.rehearse_fleet import FleetRehearsal
from rehearsal.rehearse_rotation import RotationRehearsal

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
console = Console()
Stack = Annotated[str, typer.Argument(help="Name of a stack in stacks/.")]

Keep = Annotated[bool, typer.Option("--keep", help="Leave the cluster and what was deployed on it.")]
Charts = Annotated[
    Path | None,
    typer.Option(help="A directory with Linkerd's charts; without one, stand-ins.", exists=True, file_okay=False),
]
Waits = Annotated[
    WaitingTimesName,
    typer.Option(
        "--waiting-times", help="Time that pods take to start: none, that of real nodes, or of nodes with serial pulls."
    ),
]


@app.command()
def build() -> None:
    """Build what rehearsals run, unless the cache has it: the cluster, and the Pulumi CLI if none is on PATH."""
    console.print(f"Ready: the rehearsal cluster; {ensure_programs()}.", soft_wrap=True, highlight=False)


@app.command()
def rehearse(
    stack: Stack = "dev",
    keep: Keep = False,
    charts: Charts = None,
    waiting_times: Waits = "none",
) -> None:
    """Run a stack's whole life on a cluster of its own: deploy, renew, verify, deploy again, destroy."""
    waits = BY_NAME[waiting_times]
    Rehearsal(stack, console, linkerd_charts=charts, keep=keep, waiting_times=waits).run()


@app.command("rotation")
def rehearse_rotation(
    stack: Stack = "dev",
    keep: Keep = False,
    charts: Charts = None,
    workloads: Annotated[int, typer.Option(min=2, help="Applications, with a pod each.")] = 50,
    picture: Annotated[Path, typer.Option(help="File for the picture of the rotation, as SVG.")] = Path("rotation.svg"),
) -> None:
    """Set a goal and run `pulumi up` in a loop, under load: no failed handshake, and two restarts of each workload."""
    RotationRehearsal(stack, console, linkerd_charts=charts, keep=keep, workloads=workloads, picture=picture).run()


@app.command("fleet")
def rehearse_fleet(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters, each with a stack of its own.")] = 3,
    charts: Charts = None,
    seed: Annotated[int, typer.Option(help="Seed of the times at which stacks are run and killed.")] = 0,
) -> None:
    """Rotate a fleet by a goal alone: each stack is run by a loop of its own, and killed at random."""
    FleetRehearsal(console, clusters=clusters, linkerd_charts=charts, seed=seed).run()


@app.command()
def preview(stack: Stack = "dev") -> None:
    """Show what a stack would make. Nothing is changed, and no cluster is needed or asked."""
    show_plan(make_plan(stack), stack, console)


def main() -> None:
    """Run a command; what went wrong is one message, and the exit code is 1."""
    try:
        app()
    except RehearsalError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
