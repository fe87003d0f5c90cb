"""The project in a directory of its own, so that a run of it touches neither the checkout nor the user's state."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from meshtrust.stacks.outputs import flatten
from rehearsal.cluster.pki import write_secret
from rehearsal.errors import RehearsalError
from rehearsal.pulumi.cli import PulumiCli, find_cli
from rehearsal.pulumi.home import describe_plugins, write_home

REPOSITORY = Path(__file__).parent.parent
# Files of the program; the tests, the documents and the rehearsal itself do not belong to it.
_PROGRAM = (
    "Pulumi.yaml",
    "requirements.txt",
    "components",
    "meshtrust",
    "program",
    *(p.name for p in REPOSITORY.glob("*.py")),
)


@dataclass(frozen=True)
class Workspace:
    """A project directory with one stack, and the Pulumi CLI that runs it.

    Attributes:
        directory: Where it is: links to the program's files, a stack file, and the state.
        stack: Name of the stack.
        cli: The Pulumi CLI.
        environment: What the CLI is given beyond this process's environment.
    """

    directory: Path
    stack: str
    cli: PulumiCli
    environment: Mapping[str, str] = field(repr=False)

    @property
    def home(self) -> Path:
        """The PULUMI_HOME, with the plugins."""
        return self.directory / "home"

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of one of the CLI's commands on this stack."""
        return [str(self.cli.path), *arguments, "--stack", self.stack, "--cwd", str(self.directory)]

    def describe_engine(self) -> str:
        """Return which CLI and which plugins run the stack."""
        return f"{self.cli} ({describe_plugins()})"

    def capture(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command and keep what it writes; it reads what is given as its input."""
        return subprocess.run(
            self.command(*arguments),
            env=self.full_environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            input=stdin,
        )

    def capture_meshtrust(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of meshtrust in the project's directory, and keep what it writes.

        Args:
            arguments: The command and its arguments.
            environment: Environment variables beside the workspace's.
        """
        return subprocess.run(
            [sys.executable, "-m", "meshtrust", *arguments],
            env={**self.command_environment, **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *arguments: str) -> int:
        """Run a command, its output going to the terminal; return its exit code."""
        return subprocess.run(
            self.command(*arguments), env=self.full_environment, cwd=REPOSITORY, check=False
        ).returncode

    def file(self, stack: str) -> Path:
        """Return the configuration file of a stack of this project."""
        return self.directory / "stacks" / f"Pulumi.{stack}.yaml"

    def write_stack(self, stack: str, config: Mapping[str, Any]) -> None:
        """Write the configuration file of a stack of this project; a key without a namespace is the program's."""
        named = {key if ":" in key else f"meshtrust:{key}": value for key, value in config.items()}
        self.file(stack).write_text(yaml.safe_dump({"config": named}))

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Set keys of the program in the stack's file."""
        document = yaml.safe_load(self.file(self.stack).read_text())
        document["config"] |= {f"meshtrust:{key}": value for key, value in settings.items()}
        self.file(self.stack).write_text(yaml.safe_dump(document))

    def init(self) -> None:
        """Make the stack.

        Raises:
            RehearsalError: The CLI cannot make it.
        """
        result = self.capture("stack", "init")
        if result.returncode:
            msg = f"The stack cannot be made: {result.stderr.strip()}"
            raise RehearsalError(msg)

    def of(self, stack: str) -> "Workspace":
        """Return the same project, about another of its stacks."""
        return replace(self, stack=stack)

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, those of its memory beside the others.

        Raises:
            RehearsalError: They cannot be read.
        """
        result = self.capture("stack", "output", "--json")
        if result.returncode:
            msg = f"The stack's outputs cannot be read: {result.stderr.strip()}"
            raise RehearsalError(msg)
        return flatten(json.loads(result.stdout))

    @property
    def command_environment(self) -> dict[str, str]:
        """The environment of a command of this project, which calls the CLI by its name."""
        return {**self.full_environment, "PYTHONPATH": str(REPOSITORY)}

    @property
    def full_environment(self) -> dict[str, str]:
        """The whole environment of the CLI."""
        # One of the user's own would go before the file, and would be of another stack.
        ambient = {name: value for name, value in os.environ.items() if name != "PULUMI_CONFIG_PASSPHRASE"}
        return {**ambient, **self.environment}


@contextlib.contextmanager
def workspace(
    stack: str,
    *,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    init: bool = True,
) -> Iterator[Workspace]:
    """Make a workspace for a stack of stacks/.

    Args:
        stack: Name of the stack.
        settings: Configuration laid over the stack's own: a map by key of the project's namespace.
        environment: Environment of the CLI, beyond what a file backend and its passphrase need.
        directory: Where to make it; it is left there. Without one it is made somewhere and removed at the end.
        init: Make the stack; otherwise only its file is there.

    Raises:
        RehearsalError: The stack does not exist, or the CLI is missing or cannot make it.
    """
    cli = find_cli()
    config = stack_config(stack)
    for key, value in (settings or {}).items():
        config[f"meshtrust:{key}"] = _laid_over(config.get(f"meshtrust:{key}"), value)
    with contextlib.ExitStack() as cleanup:
        if directory is None:
            directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="meshtrust-")))
        _write_project(directory)
        write_home(directory / "home")
        made = Workspace(
            directory=directory,
            stack=stack,
            cli=cli,
            environment={
                # A command of this project calls the CLI by its name.
                "PATH": f"{cli.path.parent}{os.pathsep}{os.environ.get('PATH', '')}",
                "PULUMI_HOME": str(directory / "home"),
                "PULUMI_BACKEND_URL": f"file://{directory / 'state'}",
                "PULUMI_CONFIG_PASSPHRASE_FILE": str(directory / "passphrase"),
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                # What the home does not have is an error that names it, not a download.
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
                **(environment or {}),
            },
        )
        made.write_stack(stack, config)
        if init:
            made.init()
            for name in _referred_to(config):
                # A preview reads what these have deployed, which is nothing.
                made.write_stack(name, stack_config(name))
                made.of(name).init()
        yield made


def _referred_to(config: Mapping[str, Any]) -> list[str]:
    """Return the stacks of a fleet that a stack reads the outputs of."""
    anchor = config.get("meshtrust:anchorStack")
    return [*config.get("meshtrust:clusters", ()), *([anchor] if anchor else [])]


def _write_project(directory: Path) -> None:
    for name in (".", "state", "stacks"):
        (directory / name).mkdir(exist_ok=True)
    for entry in _PROGRAM:
        (directory / entry).symlink_to(REPOSITORY / entry)
    (directory / ".venv").symlink_to(sys.prefix)
    write_secret(directory / "passphrase", secrets.token_hex())


def stack_config(stack: str) -> dict[str, Any]:
    """Return the configuration of a stack of stacks/.

    Raises:
        RehearsalError: The stack does not exist; the message names the existing ones.
    """
    path = REPOSITORY / "stacks" / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(entry.name.split(".")[1] for entry in path.parent.glob("Pulumi.*.yaml")))
        msg = f'Stack "{stack}" is not in stacks/. Use one of: {there}.'
        raise RehearsalError(msg)
    config: dict[str, Any] = yaml.safe_load(path.read_text())["config"]
    return config


def _laid_over(below: Any, value: Any) -> Any:
    return {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
