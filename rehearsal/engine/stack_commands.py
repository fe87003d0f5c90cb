"""The commands about stacks and their configuration that run no deployment."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from rehearsal.engine import values
from rehearsal.engine.backend import Backend, Workspace
from rehearsal.engine.config import qualify, resolve
from rehearsal.engine.errors import CliError, StackNotFoundError, UsageError
from rehearsal.engine.monitor import VERSION
from rehearsal.engine.project import Project
from rehearsal.engine.session import Session


def open_session(arguments: Namespace) -> Session:
    """The session that a command line asks for."""
    return Session.open(Path.cwd(), arguments.stack or "", getattr(arguments, "config_file", None) or "")


def stack_show(arguments: Namespace) -> None:
    """`stack`: the current stack, its resources and outputs."""
    session = open_session(arguments)
    snapshot = session.snapshot()
    print(f"Current stack is {session.stack}:")
    print(f"    Managed by {socket.gethostname()}")
    print(f"Current stack resources ({len(snapshot.resources)}):")
    for resource in snapshot.resources:
        print(f"    {resource.type}  {resource.urn.rsplit('::', 1)[-1]}")
    outputs = snapshot.stack_outputs() or {}
    print(f"Current stack outputs ({len(outputs)}):")
    _print_outputs(outputs, show_secrets=arguments.show_secrets, lead="    ")


def stack_init(arguments: Namespace) -> None:
    """`stack init`: create a stack and its secrets provider."""
    project = Project.find(Path.cwd())
    backend = Backend.open(project)
    name = (arguments.name or arguments.stack or "").rsplit("/", 1)[-1]
    if not name:
        raise UsageError("missing stack name: give it as `stack init <name>`")
    if arguments.secrets_provider not in ("", "default", "passphrase"):
        raise UsageError(
            f"the embedded engine serves the passphrase secrets provider only, not {arguments.secrets_provider}"
        )
    backend.create(name)
    try:
        session = Session(project, backend, name, Path(arguments.config_file) if arguments.config_file else None)
        session.save(session.snapshot())
    except CliError:
        backend.remove(name)
        raise
    if not arguments.no_select:
        Workspace(project).select(name)
    print(f"Created stack '{name}'")


def stack_select(arguments: Namespace) -> None:
    """`stack select`: the stack that later commands use."""
    project = Project.find(Path.cwd())
    name = (arguments.name or arguments.stack or "").rsplit("/", 1)[-1]
    if not name:
        raise UsageError("missing stack name: give it as `stack select <name>`")
    if not Backend.open(project).exists(name):
        if not arguments.create:
            raise StackNotFoundError(f"no stack named '{name}' found")
        stack_init(arguments)
    Workspace(project).select(name)


def stack_ls(arguments: Namespace) -> None:
    """`stack ls`: the project's stacks."""
    project = Project.find(Path.cwd())
    backend = Backend.open(project)
    selected = Workspace(project).selected
    rows = []
    for name in backend.stacks():
        deployment = backend.load(name) or {}
        row: dict[str, Any] = {"name": name, "current": name == selected}
        if "resources" in deployment:
            row |= {"lastUpdate": deployment["manifest"]["time"], "resourceCount": len(deployment["resources"])}
        rows.append(row)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'NAME':<20}  {'LAST UPDATE':<28}  RESOURCE COUNT")
    for row in rows:
        name = row["name"] + ("*" if row["current"] else "")
        print(f"{name:<20}  {row.get('lastUpdate', 'n/a'):<28}  {row.get('resourceCount', 'n/a')}")


def stack_rm(arguments: Namespace) -> None:
    """`stack rm`: forget a stack, and unless told otherwise its configuration."""
    if arguments.name:
        arguments.stack = arguments.name
    session = open_session(arguments)
    deployment = session.backend.load(session.stack) or {}
    if deployment.get("resources") and not arguments.force:
        raise CliError(
            f"'{session.stack}' still has resources; removal rejected. Possible actions:\n"
            f"- Make sure that '{session.stack}' is the stack that you want to destroy\n"
            "- Run `pulumi destroy` to delete the resources, then run `pulumi stack rm`\n"
            "- Run `pulumi stack rm --force` to override this error"
        )
    if not arguments.yes:
        raise UsageError("--yes must be passed in to proceed when running in non-interactive mode")
    session.backend.remove(session.stack)
    if not arguments.preserve_config:
        session.file.path.unlink(missing_ok=True)
    print(f"Stack '{session.stack}' has been removed!")


def stack_output(arguments: Namespace) -> None:
    """`stack output`: the stack's outputs, or one of them."""
    session = open_session(arguments)
    outputs = session.snapshot().stack_outputs() or {}
    shown: dict[str, Any] = values.plain(outputs) if arguments.show_secrets else values.masked(outputs)
    if arguments.name is None:
        if arguments.json:
            print(json.dumps(shown, indent=2, sort_keys=True, ensure_ascii=False))
        else:
            print(f"Current stack outputs ({len(shown)}):")
            _print_outputs(outputs, show_secrets=arguments.show_secrets, lead="    ")
        return
    if arguments.name not in shown:
        raise CliError(f"current stack does not have output property '{arguments.name}'")
    value = shown[arguments.name]
    print(json.dumps(value, indent=2, ensure_ascii=False) if arguments.json else _text(value))


def stack_export(arguments: Namespace) -> None:
    """`stack export`: the deployment as JSON, secrets encrypted unless asked for."""
    session = open_session(arguments)
    deployment = session.backend.load(session.stack) or {}
    if arguments.show_secrets:
        snapshot = session.snapshot()
        deployment = snapshot.to_json(_reveal, f"v{VERSION}")
    text = json.dumps({"version": 3, "deployment": deployment}, indent=4, ensure_ascii=False)
    if arguments.file:
        Path(arguments.file).write_text(text + "\n")
    else:
        print(text)


def stack_import(arguments: Namespace) -> None:
    """`stack import`: replace the deployment by an exported one."""
    session = open_session(arguments)
    text = Path(arguments.file).read_text() if arguments.file else sys.stdin.read()
    try:
        data = json.loads(text)
        deployment = data["deployment"]
    except (ValueError, TypeError, KeyError) as error:
        raise CliError(f"could not deserialize deployment: {error}") from error
    if data.get("version") != 3:
        raise CliError(f"could not deserialize deployment: version {data.get('version')} is not 3")
    snapshot = session.decode(deployment)
    foreign = [
        item.urn
        for item in snapshot.resources
        if not item.urn.startswith(f"urn:pulumi:{session.stack}::{session.project.name}::")
    ]
    if foreign and not arguments.force:
        raise CliError(f"resource '{foreign[0]}' does not belong to this stack; pass --force to import it all the same")
    snapshot.pending.clear()
    session.save(snapshot)
    print("Import complete.")


def state_unprotect(arguments: Namespace) -> None:
    """Take the protection off one resource, or off all.

    Raises:
        UsageError: neither is named.
        CliError: there is no such resource.
    """
    session = open_session(arguments)
    if not arguments.all and not arguments.urn:
        raise UsageError("name a resource's URN, or give --all")
    with session.backend.lock(session.stack):
        snapshot = session.snapshot()
        chosen = [item for item in snapshot.resources if arguments.all or item.urn == arguments.urn]
        if not chosen:
            raise CliError(f"No such resource {arguments.urn!r} exists in the current state")
        for resource in chosen:
            resource.protect = False
        session.save(snapshot)
    print("All resources unprotected" if arguments.all else "Resource unprotected")


def config_list(arguments: Namespace) -> None:
    """`config`: every value."""
    session = open_session(arguments)
    cipher = session.crypter if arguments.show_secrets else None
    found = resolve(session.project, session.file, cipher)
    if arguments.json:
        listed = {}
        for key, value in sorted(found.items()):
            entry: dict[str, Any] = {"value": value.text, "secret": value.secret}
            if value.structured:
                entry = {"value": value.text, "objectValue": json.loads(value.text), "secret": value.secret}
            if value.secret and not arguments.show_secrets:
                entry = {"secret": True}
            listed[key] = entry
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    width = max([len("KEY"), *(len(_short(session, key)) for key in found)])
    print(f"{'KEY':<{width}}  VALUE")
    for key, value in sorted(found.items()):
        text = "[secret]" if value.secret and not arguments.show_secrets else value.text
        print(f"{_short(session, key):<{width}}  {text}")


def config_get(arguments: Namespace) -> None:
    """`config get`: one value, decrypted."""
    session = open_session(arguments)
    key, path = _key(session, arguments)
    found = session.config(validated=False).get(key)
    content: object = None
    if found is not None:
        content = json.loads(found.text) if found.structured and path else found.text
        for part in path:
            content = _step_into(content, part)
    if content is None or found is None:
        raise CliError(f"configuration key '{arguments.key}' not found for stack '{session.stack}'")
    text = _text(content)
    if arguments.json:
        print(json.dumps({"value": text, "secret": found.secret}, indent=2, ensure_ascii=False))
    else:
        print(text)


def config_set(arguments: Namespace) -> None:
    """`config set`: one value, from the command line or standard input."""
    session = open_session(arguments)
    if arguments.secret and arguments.plaintext:
        raise UsageError("only one of --secret and --plaintext may be set")
    text = arguments.value if arguments.value is not None else sys.stdin.read().removesuffix("\n")
    key, path = _key(session, arguments)
    value: object = {"secure": session.crypter.encrypt(text)} if arguments.secret else text
    if path:
        plain = text if arguments.type == "string" else _scalar(text)
        value = _with_value(session.file.get_raw(key), list(path), value if arguments.secret else plain)
    session.file.set(key, value)


def config_rm(arguments: Namespace) -> None:
    """`config rm`: forget one value."""
    session = open_session(arguments)
    key, path = _key(session, arguments)
    current = session.file.get_raw(key)
    if not path:
        session.file.remove(key)
    elif current is not None:
        session.file.set(key, _without(current, list(path)))


def cancel(arguments: Namespace) -> None:
    """`cancel`: remove the locks of a run that did not end by itself."""
    if arguments.name:
        arguments.stack = arguments.name
    session = open_session(arguments)
    session.backend.cancel(session.stack)
    print(f"The currently running update for '{session.stack}' has been canceled!")


def version(_arguments: Namespace) -> None:
    """`version`: the CLI version whose behaviour the engine follows."""
    print(f"v{VERSION}")


def whoami(_arguments: Namespace) -> None:
    """`whoami`: the user of a file backend is that of the machine."""
    print(os.environ.get("USER") or getpass.getuser())


def _reveal(value: values.Value) -> values.Value:
    if isinstance(value, values.Secret):
        return {values.SIGNATURE: values.SECRET_SIGNATURE, "plaintext": json.dumps(_reveal(value.value))}
    if isinstance(value, dict):
        return {key: _reveal(item) for key, item in value.items()}
    return [_reveal(item) for item in value] if isinstance(value, list) else value


def _print_outputs(outputs: dict[str, Any], *, show_secrets: bool, lead: str) -> None:
    if not outputs:
        print(f"{lead}No output values currently in this stack")
        return
    shown = values.plain(outputs) if show_secrets else values.masked(outputs)
    width = max(len("OUTPUT"), *(len(key) for key in shown))
    print(f"{lead}{'OUTPUT':<{width}}  VALUE")
    for key in sorted(shown):
        first, *rest = _text(shown[key]).split("\n")
        print(f"{lead}{key:<{width}}  {first}")
        for line in rest:
            print(f"{lead}{'':<{width}}  {line}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _short(session: Session, key: str) -> str:
    return key.removeprefix(f"{session.project.name}:")


def _key(session: Session, arguments: Namespace) -> tuple[str, values.Path]:
    if not arguments.path:
        return qualify(session.project, arguments.key), ()
    namespace, colon, rest = arguments.key.rpartition(":")
    try:
        head, *path = values.parse_path(rest)
    except ValueError as error:
        raise UsageError(f"invalid configuration key: {error}") from error
    return qualify(session.project, f"{namespace}{colon}{head}"), tuple(path)


def _scalar(text: str) -> object:
    """A value at a path is typed by how it reads, as the real CLI has it."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() and str(int(text)) == text else text


def _step_into(value: object, part: str | int) -> object:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _with_value(current: object, path: list[str | int], value: object) -> object:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(head, int):
        items = list(current) if isinstance(current, list) else []
        if head > len(items):
            raise UsageError(f"array index {head} is out of range: the list has {len(items)} items")
        items[head : head + 1] = [_with_value(_step_into(items, head), rest, value)]
        return items
    entries = dict(current) if isinstance(current, dict) else {}
    entries[head] = _with_value(entries.get(head), rest, value)
    return entries


def _without(current: object, path: list[str | int]) -> object:
    head, rest = path[0], path[1:]
    if isinstance(current, dict) and head in current:
        if rest:
            return {**current, head: _without(current[head], rest)}
        return {key: item for key, item in current.items() if key != head}
    if isinstance(current, list) and isinstance(head, int) and head < len(current):
        replaced = [_without(current[head], rest)] if rest else []
        return [*current[:head], *replaced, *current[head + 1 :]]
    return current
