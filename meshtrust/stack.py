"""A Pulumi stack as the commands see it: its configuration file, its outputs, and the CLI that deploys it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from meshtrust.rotation import Trust

_PROJECT = "meshtrust"
_Completed = subprocess.CompletedProcess[str]


class StackError(Exception):
    """A stack that cannot be read or deployed; the message says why, and what to do."""


@dataclass(frozen=True)
class Stack:
    """One stack of this project.

    Attributes:
        name: Its name.
        directory: The project's directory, where Pulumi.yaml is.
    """

    name: str
    directory: Path

    @cached_property
    def file(self) -> Path:
        """The stack's configuration file.

        Raises:
            StackError: The directory holds no such stack; the message lists those it holds.
        """
        project = _read_yaml(
            self.directory / "Pulumi.yaml", "Run this in the project's directory, or name it by --cwd."
        )
        directory = self.directory / str(project.get("stackConfigDir") or ".")
        path = directory / f"Pulumi.{self.name}.yaml"
        if not path.is_file():
            there = ", ".join(sorted(entry.name.split(".")[1] for entry in directory.glob("Pulumi.*.yaml"))) or "none"
            msg = f'There is no stack "{self.name}" in {directory} (there are: {there}).'
            raise StackError(msg)
        return path

    def check(self) -> None:
        """Make sure that the stack exists.

        Raises:
            StackError: It does not.
        """
        _ = self.file

    def setting(self, key: str) -> Any:
        """Return a configured value, or the default that Pulumi.yaml has for it.

        Args:
            key: The key without its namespace; with a dot it is a path.

        Raises:
            StackError: The files cannot be read.
        """
        name, _, member = key.partition(".")
        value = (_read_yaml(self.file, "Correct it.").get("config") or {}).get(f"{_PROJECT}:{name}")
        if member:
            value = value.get(member) if isinstance(value, Mapping) else None
        if value is not None:
            return value
        declared = _read_yaml(self.directory / "Pulumi.yaml", "Restore it.").get("config") or {}
        return (declared.get(key) or {}).get("default")

    @property
    def configured(self) -> Trust:
        """What the configuration asks for.

        Raises:
            StackError: It names no anchors.
        """
        anchors = self.setting("anchors")
        if not isinstance(anchors, list) or not anchors:
            msg = f"{self.file} has no meshtrust:anchors. Name the generations of the trust anchor there."
            raise StackError(msg)
        names = tuple(map(str, anchors))
        return Trust(anchors=names, signer=str(self.setting("signer") or names[0]))

    def configure(self, trust: Trust) -> None:
        """Write a state into the configuration file, whole or not at all, and leave all else in it as it is.

        Raises:
            StackError: The file cannot be understood or written.
        """
        editor = YAML()
        editor.preserve_quotes = True
        editor.width = 4096
        try:
            document = editor.load(self.file)
            # In place, so that comments and the style of the list stay; quoted, because names may look like numbers.
            document["config"][f"{_PROJECT}:anchors"][:] = [DoubleQuotedScalarString(name) for name in trust.anchors]
            document["config"][f"{_PROJECT}:signer"] = DoubleQuotedScalarString(trust.signer)
            with tempfile.NamedTemporaryFile("w", dir=self.file.parent, prefix=".draft-", delete=False) as draft:
                editor.dump(document, draft)
            shutil.copymode(self.file, draft.name)
            Path(draft.name).replace(self.file)
        except (YAMLError, OSError, KeyError, AttributeError) as error:
            msg = f"{self.file} cannot be edited: {error}. Set meshtrust:anchors and meshtrust:signer by hand: {trust}."
            raise StackError(msg) from error

    def outputs(self) -> dict[str, Any]:
        """Return the outputs of the last successful deployment; empty before the first.

        Raises:
            StackError: The CLI is not there, or cannot read the stack.
        """
        result = self._run("stack", "output", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if result.returncode:
            msg = f'The outputs of stack "{self.name}" cannot be read: {_reason(result)}'
            raise StackError(msg)
        outputs: dict[str, Any] = json.loads(result.stdout or "{}")
        return outputs

    def up(self, *, quiet: bool = False) -> None:
        """Deploy the stack; what the CLI writes goes to the terminal.

        Args:
            quiet: Send it to standard error, so that standard output is free for machines.

        Raises:
            StackError: It failed; what it wrote says why.
        """
        result = self._run("up", "--yes", "--skip-preview", "--non-interactive", stdout=sys.stderr if quiet else None)
        if result.returncode:
            msg = f'`pulumi up` of stack "{self.name}" failed (exit code {result.returncode}); what it wrote is above.'
            raise StackError(msg)

    def _run(self, *arguments: str, stdout: IO[str] | int | None, stderr: int | None = None) -> _Completed:
        pulumi = shutil.which("pulumi")
        if pulumi is None:
            msg = "There is no pulumi on PATH, and only it knows what a stack has deployed. Install the Pulumi CLI."
            raise StackError(msg)
        return subprocess.run(
            [pulumi, *arguments, "--stack", self.name, "--cwd", str(self.directory)],
            stdout=stdout,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        )


def _reason(result: _Completed) -> str:
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"exit code {result.returncode}"


def _read_yaml(path: Path, fix: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        msg = f"There is no {path}. {fix}"
        raise StackError(msg) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path} cannot be read: {error}. {fix}"
        raise StackError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} is no map of keys. {fix}"
        raise StackError(msg)
    return content
