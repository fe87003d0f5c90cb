"""The command line: the list of commands, and the exit code of each error."""

import sys

import typer
from rich.console import Console

from meshtrust.cluster.api import ClusterError
from meshtrust.commands.adopt import adopt
from meshtrust.commands.chain import chain
from meshtrust.commands.display.renderers import WorkInterruptedError
from meshtrust.commands.display.terminal import accept_every_text
from meshtrust.commands.export import export
from meshtrust.commands.fleet import app as fleet
from meshtrust.commands.heal import heal
from meshtrust.commands.lint import lint
from meshtrust.commands.rotation.due import DUE, due
from meshtrust.commands.rotation.goal import goal
from meshtrust.commands.rotation.plan import plan
from meshtrust.commands.rotation.rotate import abort, rotate
from meshtrust.commands.status import status, verify
from meshtrust.linkerd.rollout import RolloutError
from meshtrust.rotation.steps import IllegalStepError
from meshtrust.stacks.progress import BlockedError
from meshtrust.stacks.stack import StackError

EXIT_CODES = {
    0: "it is done, or all is well",
    1: "something is wrong, or was not finished",
    2: "wrong usage",
    3: "the stack or the cluster cannot be read, or they do not belong together",
    4: "a step has to wait for what is listed",
    DUE: "a trust anchor has to be rotated (`due`)",
    130: "interrupted; the same command goes on",
}

app = typer.Typer(
    help="The TLS credentials of a Linkerd mesh: see them, judge them, rotate the trust anchor.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (status, verify, plan, rotate, abort, goal, due, heal, chain, export, adopt, lint):
    app.command()(command)
app.add_typer(fleet, name="fleet")


def main() -> None:
    """Run a command; an error is one message and an exit code."""
    code = 0
    accept_every_text()
    try:
        app()
    except BlockedError as error:
        _show(error)
        code = 4
    except (StackError, ClusterError, IllegalStepError) as error:
        _show(error)
        code = 3
    except RolloutError as error:
        _show(error)
        code = 1
    except WorkInterruptedError as error:
        _show(error)
        code = 130
    sys.exit(code)


def _show(error: Exception) -> None:
    """Write an error, and the notes of the command that raised it."""
    console = Console(stderr=True, highlight=False)
    console.print("error: ", style="red", end="")
    console.print(str(error), soft_wrap=True, markup=False)
    for line in getattr(error, "__notes__", []):
        console.print(f"  {line}", soft_wrap=True, markup=False)
