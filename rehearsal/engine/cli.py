"""The command line: the real CLI's commands and flags, for the subset that rehearsals and tests use."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from rehearsal.engine import operations, stack_commands
from rehearsal.engine.display import NOTICE
from rehearsal.engine.errors import BailError, CliError, UsageError
from rehearsal.engine.operations import Options
from rehearsal.engine.render import Painter
from rehearsal.engine.session import Session

Commands: TypeAlias = "_SubParsersAction[_Parser]"
Handler: TypeAlias = Callable[[Namespace], None]
Operation: TypeAlias = Callable[[Session, Options], None]


class _Parser(ArgumentParser):
    """Reports a command line it does not understand as one error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (the embedded engine serves part of the Pulumi CLI; see --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of the real CLI for its outcome."""
    arguments = Namespace(color="auto")
    try:
        arguments = _parser().parse_args(argv, arguments)
        print(NOTICE, file=sys.stderr if arguments.data else sys.stdout, flush=True)
        if arguments.cwd:
            _change_directory(arguments.cwd)
        handler: Handler = arguments.handler
        handler(arguments)
    except BailError as error:
        return error.exit_code
    except CliError as error:
        paint = Painter(enabled=_colored(arguments.color, sys.stderr.isatty()))
        print(f"{paint('error', 'error:')} {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _change_directory(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise UsageError(f"unable to change to directory {directory}: {error.strerror}") from error


def _parser() -> _Parser:
    parser = _Parser(prog="pulumi", description=NOTICE, parents=[_global_flags()])
    commands: Commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_operation(commands, "up", operations.up, "create or update the resources of a stack", ["update"])
    _add_operation(commands, "preview", operations.preview, "show what up would do", ["pre"])
    _add_operation(commands, "refresh", operations.refresh, "adopt the present state of the resources", [])
    _add_operation(commands, "destroy", operations.destroy, "delete every resource of a stack", ["down", "dn"])
    _add_stack_commands(commands)
    _add_config_commands(commands)
    _add_state_commands(commands)
    stop = _add(commands, "cancel", stack_commands.cancel, "remove the lock of a run that died")
    stop.add_argument("name", nargs="?")
    stop.add_argument("-y", "--yes", action="store_true")
    _add(commands, "version", stack_commands.version, "print the CLI version that is followed")
    _add(commands, "whoami", stack_commands.whoami, "print the user")
    return parser


def _global_flags() -> _Parser:
    # Every command takes these too, before or after its name, so none may overwrite what was given before.
    flags = _Parser(add_help=False)
    flags.add_argument("-C", "--cwd", default=SUPPRESS)
    flags.add_argument("--color", choices=["always", "never", "raw", "auto"], default=SUPPRESS)
    flags.add_argument("--non-interactive", action="store_true", default=SUPPRESS)
    flags.set_defaults(cwd="", non_interactive=False)
    return flags


def _add(commands: Commands, name: str, handler: Handler, summary: str, aliases: Sequence[str] = ()) -> _Parser:
    command = commands.add_parser(
        name, help=summary, description=summary, aliases=list(aliases), parents=[_command_flags()]
    )
    command.set_defaults(handler=handler, data=True)
    return command


def _command_flags() -> _Parser:
    flags = _Parser(add_help=False)
    flags.add_argument("-C", "--cwd", default=SUPPRESS)
    flags.add_argument("--color", choices=["always", "never", "raw", "auto"], default=SUPPRESS)
    flags.add_argument("--non-interactive", action="store_true", default=SUPPRESS)
    flags.add_argument("-s", "--stack", default=SUPPRESS)
    flags.set_defaults(stack=None)
    return flags


def _add_operation(commands: Commands, name: str, operation: Operation, summary: str, aliases: Sequence[str]) -> None:
    def handle(arguments: Namespace) -> None:
        session = stack_commands.open_session(arguments)
        interactive = sys.stdin.isatty() and sys.stdout.isatty() and not arguments.non_interactive
        operation(
            session,
            Options(
                yes=getattr(arguments, "yes", False),
                skip_preview=getattr(arguments, "skip_preview", False),
                preview_only=getattr(arguments, "preview_only", False),
                interactive=interactive,
                json=arguments.data,
                detailed=arguments.diff,
                expect_no_changes=getattr(arguments, "expect_no_changes", False),
                refresh=getattr(arguments, "refresh", False),
                color=_colored(arguments.color, sys.stdout.isatty()),
                parallel=arguments.parallel,
            ),
        )

    command = _add(commands, name, handle, summary, aliases)
    command.set_defaults(data=False)
    command.add_argument("-m", "--message", default="", help="recorded by the real CLI")
    command.add_argument("-p", "--parallel", type=int, default=0)
    command.add_argument("--config-file")
    command.add_argument("--diff", action="store_true")
    if name != "preview":
        command.add_argument("-y", "--yes", action="store_true")
        command.add_argument("-f", "--skip-preview", action="store_true")
        command.add_argument("--preview-only", action="store_true")
    else:
        command.add_argument("-j", "--json", action="store_true", dest="data")
    if name != "destroy":
        command.add_argument("--expect-no-changes", action="store_true")
    if name in ("up", "preview"):
        command.add_argument("-r", "--refresh", action="store_true")


def _add_stack_commands(commands: Commands) -> None:
    stack = _add(commands, "stack", stack_commands.stack_show, "manage stacks")
    stack.add_argument("--show-secrets", action="store_true")
    inner: Commands = stack.add_subparsers(metavar="COMMAND", parser_class=_Parser)

    init = _add(inner, "init", stack_commands.stack_init, "create a stack")
    init.add_argument("--no-select", action="store_true")
    select = _add(inner, "select", stack_commands.stack_select, "choose the stack of later commands")
    select.add_argument("-c", "--create", action="store_true")
    select.set_defaults(no_select=False)
    for command in (init, select):
        command.add_argument("name", nargs="?")
        command.add_argument("--secrets-provider", default="")
        command.add_argument("--config-file")

    listing = _add(inner, "ls", stack_commands.stack_ls, "list the project's stacks")
    listing.add_argument("-j", "--json", action="store_true")

    remove = _add(inner, "rm", stack_commands.stack_rm, "remove a stack and its configuration")
    remove.add_argument("name", nargs="?")
    remove.add_argument("-y", "--yes", action="store_true")
    remove.add_argument("-f", "--force", action="store_true")
    remove.add_argument("--preserve-config", action="store_true")

    output = _add(inner, "output", stack_commands.stack_output, "show the stack's outputs")
    output.add_argument("name", nargs="?")
    output.add_argument("-j", "--json", action="store_true")
    output.add_argument("--show-secrets", action="store_true", default=SUPPRESS)

    export = _add(inner, "export", stack_commands.stack_export, "write the deployment as JSON")
    export.add_argument("--file")
    export.add_argument("--show-secrets", action="store_true", default=SUPPRESS)
    importing = _add(inner, "import", stack_commands.stack_import, "replace the deployment by an exported one")
    importing.add_argument("--file")
    importing.add_argument("-f", "--force", action="store_true")


def _add_state_commands(commands: Commands) -> None:
    edit = _add(commands, "state", stack_commands.stack_show, "edit a stack's state")
    inner: Commands = edit.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    unprotect = _add(inner, "unprotect", stack_commands.state_unprotect, "let resources be deleted")
    unprotect.add_argument("urn", nargs="?")
    unprotect.add_argument("--all", action="store_true")
    unprotect.add_argument("-y", "--yes", action="store_true")


def _add_config_commands(commands: Commands) -> None:
    listing = _add(commands, "config", stack_commands.config_list, "manage configuration")
    listing.add_argument("-j", "--json", action="store_true")
    listing.add_argument("--show-secrets", action="store_true")
    listing.add_argument("--config-file")
    inner: Commands = listing.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    get = _add(inner, "get", stack_commands.config_get, "print one value")
    get.add_argument("-j", "--json", action="store_true")
    change = _add(inner, "set", stack_commands.config_set, "set one value; without VALUE it is read from stdin")
    change.add_argument("--secret", action="store_true")
    change.add_argument("--plaintext", action="store_true")
    change.add_argument("--type", choices=("string", "int", "bool", "float"))
    remove = _add(inner, "rm", stack_commands.config_rm, "remove one value")
    for command in (get, change, remove):
        command.add_argument("key")
        command.add_argument("--path", action="store_true")
        command.add_argument("--config-file", default=SUPPRESS)
    change.add_argument("value", nargs="?")


def _colored(choice: str, terminal: bool) -> bool:
    return choice == "always" or (choice == "auto" and terminal and "NO_COLOR" not in os.environ)
