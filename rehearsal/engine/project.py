"""The project file `Pulumi.yaml`: where it is, what it says about the program and its configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rehearsal.engine.errors import CliError


class Loader(yaml.SafeLoader):
    """YAML as Pulumi reads it: a date is text, not a point in time."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is an object.

    Raises:
        CliError: the file cannot be read, is not YAML, or is not an object.
    """
    try:
        data = yaml.load(path.read_text(), Loader)  # noqa: S506 - a subclass of SafeLoader
    except OSError as error:
        raise CliError(f"could not read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise CliError(f"could not unmarshal '{path}': invalid YAML file: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise CliError(f"could not unmarshal '{path}': expected an object at the top level")
    return data


@dataclass(frozen=True)
class Project:
    """What the engine needs of `Pulumi.yaml`."""

    name: str
    directory: Path
    program: Path
    virtualenv: Path | None
    stack_config_directory: Path
    schema: dict[str, dict[str, Any]] = field(default_factory=dict)
    backend_url: str = ""

    @classmethod
    def find(cls, start: Path) -> Project:
        """Read the project of a directory, or of the nearest parent that has one.

        Raises:
            CliError: there is none, or it is not a Python project.
        """
        for directory in (start, *start.parents):
            for name in ("Pulumi.yaml", "Pulumi.yml"):
                if (directory / name).is_file():
                    return cls.load(directory / name)
        raise CliError(
            "no Pulumi.yaml project file found (searching upwards from "
            f"{start}). If you have not created a project yet, use `pulumi new` to do so"
        )

    @classmethod
    def load(cls, path: Path) -> Project:
        """Read a project file."""
        data = load_yaml(path)
        name = data.get("name")
        if not isinstance(name, str) or not name:
            raise CliError(f"could not validate '{path}': project is missing a 'name' attribute")
        described = data.get("runtime")
        options: dict[str, Any] = {}
        runtime = described
        if isinstance(described, dict):
            runtime, options = described.get("name"), described.get("options") or {}
        if runtime != "python":
            raise CliError(f"'{path}' has runtime {runtime!r}: the embedded engine runs Python programs only")
        directory = path.parent
        schema = data.get("config") or {}
        if not isinstance(schema, dict):
            raise CliError(f"could not validate '{path}': 'config' must be an object of configuration keys")
        return cls(
            name=name,
            directory=directory,
            program=directory / str(data.get("main") or ""),
            virtualenv=directory / options["virtualenv"] if options.get("virtualenv") else None,
            stack_config_directory=directory / str(data.get("stackConfigDir") or ""),
            schema={key: _declaration(path, key, value) for key, value in schema.items()},
            backend_url=_backend_url(data.get("backend")),
        )

    def stack_file(self, stack: str) -> Path:
        """The file of a stack's configuration."""
        return self.stack_config_directory / f"Pulumi.{stack}.yaml"


def _backend_url(backend: object) -> str:
    return str(backend.get("url", "")) if isinstance(backend, dict) else ""


def _declaration(path: Path, key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        # `key: value` is short for a default.
        return {"default": value, "type": _inferred_type(value)}
    if "default" in value and "value" in value:
        raise CliError(f"could not validate '{path}': '{key}' has both 'default' and 'value'")
    declaration = dict(value)
    declared = declaration.get("type")
    if declared == "array" and "items" not in declaration:
        raise CliError(
            f"could not validate '{path}': The configuration key '{key}' declares an array but does not "
            "specify the underlying type via the 'items' attribute"
        )
    if declared and "default" in declaration and not matches(declared, declaration, declaration["default"]):
        raise CliError(
            f"could not validate '{path}': The default value specified for configuration key '{key}' is not "
            f"of the expected type '{type_name(declaration)}'"
        )
    return declaration


def _inferred_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "integer" if isinstance(value, int) else "string"


def type_name(declaration: dict[str, Any]) -> str:
    """A declared type as an error names it: `array<string>`."""
    items = declaration.get("items")
    return f"array<{type_name(items)}>" if items else str(declaration["type"])


def matches(declared: str, declaration: dict[str, Any], value: object) -> bool:
    """Whether a value is of a declared type, by the rules of the real CLI.

    Scalars of a stack file arrive as text, so a text that reads as an integer or a boolean is one
    (pulumi/pulumi: sdk/go/common/workspace/project.go, ValidateConfigValue).
    """
    if declared == "string":
        return isinstance(value, str)
    if declared == "integer":
        if isinstance(value, str):
            return value.removeprefix("-").isdigit()
        return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    if declared == "boolean":
        return isinstance(value, bool) or value in ("true", "false")
    if declared == "object":
        return isinstance(value, dict)
    items: dict[str, Any] = declaration.get("items") or {}
    return isinstance(value, list) and bool(items) and all(matches(items["type"], items, item) for item in value)


def scalar_text(value: object) -> str:
    """A YAML scalar as the text that configuration holds."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, float) else str(value)
