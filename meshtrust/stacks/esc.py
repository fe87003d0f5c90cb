"""Pulumi ESC environments that a stack's file lists: the variables and files that `pulumi up` would have of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshtrust.stacks.stack import Stack, StackError

_KUBECONFIG = "KUBECONFIG"


@dataclass(frozen=True, kw_only=True)
class OpenedEnvironment:
    """The environments of a stack, opened and merged.

    Attributes:
        variables: The environment variables, by name.
        files: The contents of the files, by the environment variable that has a file's path: secrets.
    """

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def kubeconfig(self) -> str:
        """The content of the kubeconfig, if it is one of the files; or empty."""
        return self.files.get(_KUBECONFIG, "")

    @property
    def kubeconfig_path(self) -> str:
        """The path of the kubeconfig, if it is a variable alone; or empty."""
        return "" if self.kubeconfig else self.variables.get(_KUBECONFIG, "")


def open_environments(stack: Stack) -> OpenedEnvironment:
    """Open the environments that a stack's file lists, in their order; the last one to have a name counts.

    The CLI opens them itself only for commands that run the program. It sets the variables, and for each file one with
    the path of a temporary file, which is another in each run (pulumi ``pkg/cmd/pulumi/config/io.go``; pulumi/esc
    ``cmd/esc/cli/prepare.go``). Here their contents stay in memory.

    Raises:
        StackError: They cannot be read from the stack's file, or opened.
    """
    variables: dict[str, str] = {}
    files: dict[str, str] = {}
    for name in _listed(stack):
        variables |= _texts(stack.open_environment(name, "environmentVariables"))
        files |= _texts(stack.open_environment(name, "files"))
    return OpenedEnvironment(variables=variables, files=files)


def _listed(stack: Stack) -> list[str]:
    """Return the names of the environments whose values a stack gets, by the format of ESC's key ``imports``.

    Raises:
        StackError: The file defines variables or files itself, which the CLI opens for no command but its own.
    """
    given = stack.environment
    if isinstance(given, Mapping):
        values = given.get("values")
        own = [key for key in ("environmentVariables", "files") if isinstance(values, Mapping) and key in values]
        if own:
            msg = (
                f"{stack.file} has an environment with {own[0]} of its own, which only the CLI's commands open. Move "
                "them into an environment of Pulumi ESC, and list that in the file: pulumi config env add <environment>"
            )
            raise StackError(msg)
        given = given.get("imports")
    return [name for entry in given or () if (name := _name(entry))]


def _name(entry: Any) -> str:
    """Return the name of an environment that is imported; empty if it only lends its values to others."""
    if not isinstance(entry, Mapping):
        return str(entry)
    [(name, options)] = entry.items() or [("", None)]
    return "" if isinstance(options, Mapping) and options.get("merge") is False else str(name)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items() if isinstance(value, str | int | float)}


def _text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
