"""`python -m rehearsal.cluster`: start, stop and list rehearsal clusters."""

from typing import Annotated

import typer
from rich.console import Console

from rehearsal.cluster import Cluster, ClusterError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
console = Console()
Name = Annotated[str, typer.Argument(help="Name of the cluster.")]


@app.command()
def start(name: Name) -> None:
    """Start a cluster that runs until it is stopped, and print its kubeconfig."""
    console.print(f"export KUBECONFIG={Cluster.start(name, keep=True).kubeconfig}", soft_wrap=True)


@app.command()
def stop(name: Name) -> None:
    """Stop a cluster."""
    Cluster.attach(name).stop()


@app.command("list")
def list_() -> None:
    """List the clusters that run, with their kubeconfigs."""
    for cluster in Cluster.running():
        console.print(f"{cluster.name}\t{cluster.kubeconfig}", soft_wrap=True)


def main() -> None:
    """Run a command; what cannot be done is one message, and the exit code is 1."""
    try:
        app()
    except ClusterError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
