"""Property values, and how they are encoded for the engine.

On the wire Pulumi marks special values by a signature key inside an object, and those that are not known by a text
(sdk/go/common/resource/plugin/rpc.go). In memory a secret is a `Secret`, a value not known before the update is
`UNKNOWN`, the rest is plain JSON.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf import struct_pb2

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET_SIGNATURE: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a protocol constant
_UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Value: TypeAlias = Any
Properties: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Secret:
    """A value that is encrypted in the state and never displayed."""

    value: Value

    def __repr__(self) -> str:
        return "[secret]"


class Unknown:
    """The type of `UNKNOWN`: a value that only the update will produce."""

    def __repr__(self) -> str:
        return "[unknown]"


UNKNOWN: Final = Unknown()


def from_wire(value: struct_pb2.Value) -> Value:
    """Decode one value."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        properties = properties_from_wire(value.struct_value)
        return Secret(properties["value"]) if properties.get(_SIGNATURE) == _SECRET_SIGNATURE else properties
    if kind == "list_value":
        return [from_wire(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return UNKNOWN if value.string_value == _UNKNOWN_TEXT else value.string_value
    if kind == "bool_value":
        return value.bool_value
    return None


def properties_from_wire(struct: struct_pb2.Struct) -> Properties:
    """Decode a property map."""
    return {key: from_wire(value) for key, value in struct.fields.items()}


def to_wire(value: Value) -> struct_pb2.Value:
    """Encode one value."""
    result = struct_pb2.Value()
    if isinstance(value, Secret):
        result.struct_value.CopyFrom(
            struct_pb2.Struct(
                fields={
                    _SIGNATURE: struct_pb2.Value(string_value=_SECRET_SIGNATURE),
                    "value": to_wire(value.value),
                }
            )
        )
    elif value is UNKNOWN:
        result.string_value = _UNKNOWN_TEXT
    elif isinstance(value, dict):
        result.struct_value.CopyFrom(properties_to_wire(value))
    elif isinstance(value, list):
        result.list_value.CopyFrom(struct_pb2.ListValue(values=[to_wire(item) for item in value]))
    elif isinstance(value, bool):
        result.bool_value = value
    elif isinstance(value, int | float):
        result.number_value = value
    elif value is None:
        result.null_value = struct_pb2.NULL_VALUE
    else:
        result.string_value = str(value)
    return result


def properties_to_wire(properties: Mapping[str, Value]) -> struct_pb2.Struct:
    """Encode a property map."""
    return struct_pb2.Struct(fields={key: to_wire(value) for key, value in properties.items()})


def plain(value: Value) -> Value:
    """Return a value without any secret marks."""
    if isinstance(value, Secret):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _any(value: Value, test: Callable[[Value], bool]) -> bool:
    if test(value):
        return True
    if isinstance(value, Secret):
        return _any(value.value, test)
    if isinstance(value, dict):
        return any(_any(item, test) for item in value.values())
    return isinstance(value, list) and any(_any(item, test) for item in value)


def has_unknowns(value: Value) -> bool:
    """Return whether any part of a value is not known yet."""
    return _any(value, lambda item: item is UNKNOWN)


def has_secrets(value: Value) -> bool:
    """Return whether any part of a value is secret."""
    return _any(value, lambda item: isinstance(item, Secret))


def known(value: Value) -> Value:
    """Return a copy without the parts that are not known yet."""
    if isinstance(value, Secret):
        return Secret(known(value.value))
    if isinstance(value, dict):
        return {key: known(item) for key, item in value.items() if item is not UNKNOWN}
    if isinstance(value, list):
        return [known(item) for item in value if item is not UNKNOWN]
    return value


Path: TypeAlias = tuple[str | int, ...]

_PATH_PART = re.compile(r'\.?([^.\["\]]+)|\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]')


def parse_path(text: str) -> Path:
    """Parse a property path such as `metadata.labels["app.kubernetes.io/name"]` or `spec.ports[0]`.

    Raises:
        ValueError: the text is not a property path.
    """
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PATH_PART.match(text, position)
        if match is None:
            raise ValueError(f'"{text}" is not a property path: see its part "{text[position:]}"')
        name, quoted, index = match.groups()
        if name is not None:
            parts.append(name)
        elif quoted is not None:
            parts.append(quoted.replace('\\"', '"'))
        else:
            parts.append(int(index))
        position = match.end()
    return tuple(parts)


def format_path(path: Path) -> str:
    """Write a property path as Pulumi displays it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif any(letter in part for letter in '."[]'):
            text += '["' + part.replace('"', '\\"') + '"]'
        else:
            text += f".{part}" if text else part
    return text


def diff(old: Value, new: Value, path: Path = ()) -> dict[Path, str]:
    """Return every difference between two values: its path, and `add`, `delete` or `update`."""
    old, new = _reveal(old), _reveal(new)
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[Path, str] = {}
        for key in {**old, **new}:
            if key not in new:
                found[(*path, key)] = "delete"
            elif key not in old:
                found[(*path, key)] = "add"
            else:
                found |= diff(old[key], new[key], (*path, key))
        return found
    if isinstance(old, list) and isinstance(new, list):
        found = {}
        for index in range(max(len(old), len(new))):
            if index >= len(new):
                found[(*path, index)] = "delete"
            elif index >= len(old):
                found[(*path, index)] = "add"
            else:
                found |= diff(old[index], new[index], (*path, index))
        return found
    return {} if old is not UNKNOWN and new is not UNKNOWN and old == new else {path: "update"}


def _reveal(value: Value) -> Value:
    return value.value if isinstance(value, Secret) else value
