"""A stack's configuration: the file `Pulumi.<stack>.yaml`, and what the program gets to see of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from rehearsal.engine import project as projects
from rehearsal.engine.errors import CliError
from rehearsal.engine.project import Project
from rehearsal.engine.values import Value


class Cipher(Protocol):
    """What encrypts and decrypts the secure values."""

    def encrypt(self, plaintext: str) -> str:
        """Encrypt a text."""

    def decrypt(self, ciphertext: str) -> str:
        """Decrypt a text."""


@dataclass(frozen=True)
class ConfigValue:
    """One decrypted value: its text, or the JSON text of an object or list."""

    text: str
    secret: bool = False
    structured: bool = False


class StackFile:
    """The file of one stack's configuration. Edits touch one entry and leave comments as they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = projects.load_yaml(path) if path.is_file() else {}
        self.salt_text = str(data.get("encryptionsalt") or "")
        self._entries: dict[str, Any] = data.get("config") or {}
        if not isinstance(self._entries, dict):
            raise CliError(f"could not unmarshal '{path}': 'config' must be an object")
        for key in self._entries:
            if ":" not in str(key):
                raise CliError(
                    f"could not unmarshal '{path}': could not parse {key} as a configuration key "
                    "(configuration keys should be of the form `<namespace>:<name>`)"
                )

    def values(self, cipher: Cipher | None) -> dict[str, ConfigValue]:
        """Every entry, decrypted; without a cipher the secure ones are masked."""
        return {key: self._value(value, cipher) for key, value in self._entries.items()}

    def has_secure(self) -> bool:
        """Whether reading the file needs the passphrase."""
        return any(_secure(value) for value in self._entries.values())

    def set_salt(self, salt_text: str) -> None:
        """Record the salt of the stack's passphrase."""
        self.salt_text = salt_text
        line = f"encryptionsalt: {salt_text}\n"
        text = self._text()
        changed, count = re.subn(r"(?m)^encryptionsalt:.*\n?", line, text)
        self._write(changed if count else (text if text.endswith("\n") or not text else text + "\n") + line)

    def set(self, key: str, value: object) -> None:
        """Set one entry to a plain YAML value."""
        self._entries[key] = value
        rendered = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=10_000)
        self._replace_entry(key, "".join(f"  {line}\n" for line in rendered.splitlines()))

    def get_raw(self, key: str) -> object:
        """One entry as the file has it, None if absent."""
        return self._entries.get(key)

    def remove(self, key: str) -> None:
        """Remove one entry."""
        self._entries.pop(key, None)
        self._replace_entry(key, "")
        if not self._entries:
            self._write(re.sub(r"(?m)^config:[ \t]*\n", "", self._text()))

    def _value(self, value: object, cipher: Cipher | None) -> ConfigValue:
        secret = _secure(value)
        return _config_value(_reveal(value, cipher), secret)

    def _replace_entry(self, key: str, rendered: str) -> None:
        text = self._text()
        head = re.search(r"(?m)^config:[ \t]*(?:\{\}[ \t]*)?(#.*)?\n", text)
        if head is None:
            text += "" if text.endswith("\n") or not text else "\n"
            self._write(f"{text}config:\n{rendered}" if rendered else text)
            return
        end = re.compile(r"(?m)^(?=[^\s#])").search(text, head.end())
        block = text[head.end() : end.start() if end else len(text)]
        names = "|".join(re.escape(form) for form in (key, f'"{key}"', f"'{key}'"))
        # An entry runs to the next line that is not indented deeper, or that is a comment at its own level; the blank
        # lines of a text of several lines are in it.
        deeper = r"(?P=indent)(?:[ \t]+\S|- )"
        blank = rf"[ \t]*\n(?=(?:[ \t]*\n)*{deeper})"
        entry = re.compile(rf"(?m)^(?P<indent>[ \t]+)(?:{names})[ \t]*:.*\n?(?:{deeper}.*\n?|{blank})*")
        found = entry.search(block)
        block = block[: found.start()] + rendered + block[found.end() :] if found else _with_newline(block) + rendered
        tail = text[end.start() :] if end else ""
        self._write(f"{text[: head.start()]}config:{' ' + head[1] if head[1] else ''}\n{block}{tail}")

    def _text(self) -> str:
        return self.path.read_text() if self.path.is_file() else ""

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text)


def resolve(project: Project, file: StackFile, cipher: Cipher | None) -> dict[str, ConfigValue]:
    """The stack's values over the project's defaults, without checking them."""
    result = file.values(cipher)
    for name, declaration in project.schema.items():
        given = declaration.get("value", declaration.get("default"))
        if given is not None and _at(project, result, name) is None:
            key, path = _path(project, name)
            secret = result[key].secret if key in result else False
            result[key] = _config_value(_with(_content(result.get(key)), path, given), secret)
    return result


def validated(project: Project, stack: str, file: StackFile, cipher: Cipher | None) -> dict[str, ConfigValue]:
    """The stack's values over the project's defaults.

    Raises:
        CliError: a declared key has no value, a value is not of its declared type, or one that is declared secret is
            not encrypted - in the words of the real CLI.
    """
    result = resolve(project, file, cipher)
    missing = sorted(
        name
        for name in project.schema
        if qualify(project, name).startswith(f"{project.name}:") and _at(project, result, name) is None
    )
    if missing:
        names = [f"'{name}'" for name in missing]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        plural = "value" if len(names) == 1 else "values"
        raise CliError(f"validating stack config: Stack '{stack}' is missing configuration {plural} {listed}")
    for name, declaration in sorted(project.schema.items()):
        declared = declaration.get("type")
        content = _at(project, result, name)
        if not declared or content is None:
            continue
        about = f"validating stack config: Stack '{stack}' with configuration key '{name}'"
        if declaration.get("secret") and not result[_path(project, name)[0]].secret:
            raise CliError(f"{about} must be encrypted as it's secret")
        if not projects.matches(declared, declaration, content):
            raise CliError(f"{about} must be of type '{projects.type_name(declaration)}'")
    return result


def _path(project: Project, name: str) -> tuple[str, list[str]]:
    """The qualified key and the path below it: the real CLI reads a declared name with dots as a property path."""
    key, *path = name.split(".")
    return qualify(project, key), path


def _content(value: ConfigValue | None) -> Any:
    if value is None:
        return None
    return json.loads(value.text) if value.structured else value.text


def _config_value(content: object, secret: bool) -> ConfigValue:
    if isinstance(content, dict | list):
        return ConfigValue(json.dumps(content, separators=(",", ":")), secret, structured=True)
    return ConfigValue(projects.scalar_text(content), secret)


def _at(project: Project, values: dict[str, ConfigValue], name: str) -> Any:
    key, path = _path(project, name)
    content = _content(values.get(key))
    for member in path:
        content = content.get(member) if isinstance(content, dict) else None
    return content


def _with(content: Any, path: list[str], given: object) -> Any:
    if not path:
        return given
    if content is not None and not isinstance(content, dict):
        return content
    below = content or {}
    return {**below, path[0]: _with(below.get(path[0]), path[1:], given)}


def qualify(project: Project, key: str) -> str:
    """The key with its namespace; without one it is the project's."""
    return key if ":" in key else f"{project.name}:{key}"


def _with_newline(text: str) -> str:
    return text if text.endswith("\n") or not text else text + "\n"


def _is_envelope(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"secure"} and isinstance(value["secure"], str)


def _secure(value: object) -> bool:
    if _is_envelope(value):
        return True
    if isinstance(value, dict):
        return any(_secure(item) for item in value.values())
    return isinstance(value, list) and any(_secure(item) for item in value)


def _reveal(value: Value, cipher: Cipher | None) -> Value:
    if _is_envelope(value):
        return cipher.decrypt(value["secure"]) if cipher else "[secret]"
    if isinstance(value, dict):
        return {key: _reveal(item, cipher) for key, item in value.items()}
    if isinstance(value, list):
        return [_reveal(item, cipher) for item in value]
    return value
