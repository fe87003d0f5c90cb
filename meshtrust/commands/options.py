"""Options that commands share."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from meshtrust.stacks.target import Selection

Stack = Annotated[str, typer.Option("--stack", "-s", help="Stack that deploys the mesh; its context is used.")]
Directory = Annotated[
    Path, typer.Option("--cwd", "-C", help="The project's directory.", exists=True, file_okay=False, resolve_path=True)
]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig, for an installation without a stack.")]
Kubeconfig = Annotated[
    str, typer.Option(help="Path of the kubeconfig. Default: the stack's, KUBECONFIG, ~/.kube/config.")
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of Linkerd's control plane.")]
IssuerHours = Annotated[
    int, typer.Option(min=0, max=876_000, help="Hours of life that an identity issuer must have left.")
]
AnchorDays = Annotated[int, typer.Option(min=0, max=36_500, help="Days of life that each trust anchor must have left.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show all that the engine writes, too.")]
LogDirectory = Annotated[
    Path | None,
    typer.Option(
        help="Directory for what the engine writes, a file per stack. Default: a temporary one, kept if a stack fails."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for machines.")]


class Until(StrEnum):
    """State that a command waits for."""

    converged = "converged"


UntilState = Annotated[
    Until | None,
    typer.Option(
        help="Wait until the last run reports that the goal in the stack's file is reached. Asks no cluster, and shows "
        "nothing else."
    ),
]
WaitTimeout = Annotated[
    int | None, typer.Option("--timeout", min=0, help="Seconds to wait with --until. Default: 3600.")
]
_WAIT_SECONDS = 3600

HERE = Path()


def select(stack: str, directory: Path, context: str = "", kubeconfig: str = "", namespace: str = "") -> Selection:
    """Return the installation that the options name."""
    return Selection(stack=stack, directory=directory, context=context, kubeconfig=kubeconfig, namespace=namespace)


def choose_wait(until: Until | None, timeout: int | None, **others: object) -> int | None:
    """Return the seconds to wait for a state; None to wait for none.

    Args:
        until: The state.
        timeout: The seconds, as given.
        **others: Values of the options that do not go with the state, by name.

    Raises:
        typer.BadParameter: Options do not go together.
    """
    if until is None:
        if timeout is not None:
            msg = "is for --until. Give that too: --until converged"
            raise typer.BadParameter(msg, param_hint="--timeout")
        return None
    for name, value in others.items():
        if value:
            msg = f"waits by the outputs of stacks, and does not go with --{name}. Leave one of them out"
            raise typer.BadParameter(msg, param_hint="--until")
    return _WAIT_SECONDS if timeout is None else timeout


def console() -> Console:
    """Return a console for the present standard output."""
    return Console(highlight=False)


def write_json(data: Mapping[str, Any] | list[Any]) -> None:
    """Write plain data to standard output."""
    typer.echo(json.dumps(data, indent=2))
