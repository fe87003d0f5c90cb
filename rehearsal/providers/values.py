"""Property values as the engine holds them, and their three encodings.

On the wire and in a deployment file Pulumi marks special values by a signature key inside an object; the
signatures are part of the protocol (https://www.pulumi.com/docs, `deploymentMigration` and `resource.proto`).
In memory a secret is a `Secret`, a value not known before the update is `UNKNOWN`, the rest is plain JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf import struct_pb2

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a protocol constant
UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Value: TypeAlias = Any
Properties: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Secret:
    """A value that is encrypted at rest and never displayed."""

    value: Value

    def __repr__(self) -> str:
        return "[secret]"


class Unknown:
    """The type of `UNKNOWN`: a value that only the update will produce."""

    def __repr__(self) -> str:
        return "[unknown]"


UNKNOWN: Final = Unknown()


def from_wire(value: struct_pb2.Value) -> Value:
    """Decode one protobuf value of the SDK's protocol."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _from_object(properties_from_wire(value.struct_value), lambda inner: inner, "value")
    if kind == "list_value":
        return [from_wire(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return UNKNOWN if value.string_value == UNKNOWN_TEXT else value.string_value
    if kind == "bool_value":
        return value.bool_value
    return None


def properties_from_wire(struct: struct_pb2.Struct) -> Properties:
    """Decode a property map of the SDK's protocol."""
    return {key: from_wire(value) for key, value in struct.fields.items()}


def to_wire(value: Value) -> struct_pb2.Value:
    """Encode one value for the SDK, which accepts strongly typed secrets."""
    result = struct_pb2.Value()
    if isinstance(value, Secret):
        result.struct_value.CopyFrom(
            struct_pb2.Struct(
                fields={
                    SIGNATURE: struct_pb2.Value(string_value=SECRET_SIGNATURE),
                    "value": to_wire(value.value),
                }
            )
        )
    elif value is UNKNOWN:
        result.string_value = UNKNOWN_TEXT
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
    """Encode a property map for the SDK."""
    return struct_pb2.Struct(fields={key: to_wire(value) for key, value in properties.items()})


def to_state(value: Value, encrypt: Callable[[str], str]) -> Value:
    """Encode for a deployment file; a secret becomes its JSON text, encrypted."""
    if isinstance(value, Secret):
        plaintext = json.dumps(to_state(value.value, encrypt), separators=(",", ":"))
        return {SIGNATURE: SECRET_SIGNATURE, "ciphertext": encrypt(plaintext)}
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    if isinstance(value, dict):
        return {key: to_state(item, encrypt) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [to_state(item, encrypt) for item in value]
    return value


def from_state(value: Value, decrypt: Callable[[str], str]) -> Value:
    """Decode from a deployment file."""
    if isinstance(value, dict):
        decoded = {key: from_state(item, decrypt) for key, item in value.items()}
        return _from_object(
            decoded, lambda ciphertext: from_state(json.loads(decrypt(ciphertext)), decrypt), "ciphertext"
        )
    if isinstance(value, list):
        return [from_state(item, decrypt) for item in value]
    return UNKNOWN if value == UNKNOWN_TEXT else value


def _from_object(properties: Properties, reveal: Callable[[Value], Value], field: str) -> Value:
    if properties.get(SIGNATURE) != SECRET_SIGNATURE:
        return properties
    if field in properties:
        return Secret(reveal(properties[field]))
    # `stack export --show-secrets` writes the JSON text in the clear under this name.
    return Secret(json.loads(properties["plaintext"]))


def plain(value: Value) -> Value:
    """The value without any secret marks, as a provider needs it."""
    if isinstance(value, Secret):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def masked(value: Value) -> Value:
    """The value for display: every secret is the text `[secret]`."""
    if isinstance(value, Secret):
        return "[secret]"
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    if isinstance(value, dict):
        return {key: masked(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [masked(item) for item in value]
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
    """Whether any part of the value is not known yet."""
    return _any(value, lambda item: item is UNKNOWN)


def has_secrets(value: Value) -> bool:
    """Whether any part of the value is secret."""
    return _any(value, lambda item: isinstance(item, Secret))


def known(value: Value) -> Value:
    """A copy without the parts that are not known yet."""
    if isinstance(value, Secret):
        return Secret(known(value.value))
    if isinstance(value, dict):
        return {key: known(item) for key, item in value.items() if item is not UNKNOWN}
    if isinstance(value, list):
        return [known(item) for item in value if item is not UNKNOWN]
    return value


def mark_secrets(outputs: Properties, inputs: Mapping[str, Value], additional: Iterable[str]) -> Properties:
    """Outputs of which those are secret that echo a secret input or that the program names.

    The rule of the real engine: secretness of an input property extends to the output of the same name.
    """
    names = {key for key, value in inputs.items() if isinstance(value, Secret)} | set(additional)
    result: Properties = {}
    for key, value in outputs.items():
        given = inputs.get(key)
        if key in names:
            result[key] = value if isinstance(value, Secret) else Secret(plain(value))
        elif isinstance(value, dict) and isinstance(given, dict):
            result[key] = mark_secrets(value, given, ())
        else:
            result[key] = value
    return result


Path: TypeAlias = tuple[str | int, ...]

_PATH_PART = re.compile(r'\.?([^.\["\]]+)|\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]')


def parse_path(text: str) -> Path:
    """Parse a property path such as `metadata.labels["app.kubernetes.io/name"]`, `spec.ports[0]` or `a[*]`.

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
            parts.append(index if index == "*" else int(index))
        position = match.end()
    return tuple(parts)


def format_path(path: Path) -> str:
    """Write a property path as Pulumi displays it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_$][\w$-]*", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def reset_path(path: Path, old: Value, new: Value) -> Value:
    """`new` with the value at `path` put back to what it was in `old` (the rule of `ignoreChanges`)."""
    if isinstance(new, Secret):
        return Secret(reset_path(path, plain(old), new.value))
    if isinstance(old, Secret):
        return reset_path(path, old.value, new)
    head, rest = path[0], path[1:]
    if isinstance(new, dict):
        old_items = old if isinstance(old, dict) else {}
        result = dict(new)
        for key in {**old_items, **new} if head == "*" else [str(head)]:
            if not rest and key in old_items:
                result[key] = old_items[key]
            elif not rest:
                result.pop(key, None)
            elif key in result:
                result[key] = reset_path(rest, old_items.get(key), result[key])
        return result
    if isinstance(new, list):
        indices = range(len(new)) if head == "*" else [head]
        items = list(new)
        old_list = old if isinstance(old, list) else []
        for index in indices:
            if not isinstance(index, int) or index >= len(items):
                continue
            old_item = old_list[index] if index < len(old_list) else None
            if rest:
                items[index] = reset_path(rest, old_item, items[index])
            elif index < len(old_list):
                items[index] = old_item
        return items
    return new


def diff(old: Value, new: Value, path: Path = ()) -> dict[Path, str]:
    """Every difference between two values: its path, and `add`, `delete` or `update`."""
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
