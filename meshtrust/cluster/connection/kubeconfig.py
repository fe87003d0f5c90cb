"""Kubeconfigs, in files or as content: the one context of theirs that a run is about, by kubectl's rules."""

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meshtrust.files import parse_yaml, read_text

# No path of a kubeconfig has them, and no kubeconfig itself, as YAML or as JSON, is without.
_MARKS = ("\n", "{", "apiVersion")
_WORDS = (b"apiVersion", b"clusters", b"contexts", b"users")
# What in a cluster or a user is the path of a file, relative to the kubeconfig's own directory.
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
# What in a user is a secret itself; an auth-provider has tokens in its map config.
_CREDENTIALS = ("auth-provider", "client-key-data", "password", "token")
# What commands for credentials take a secret by, such as kubelogin --client-secret and AWS_SECRET_ACCESS_KEY.
_SECRET_VARIABLE = re.compile(r"(?i)(secret|token|password|api_?key)(?!.*(file|path|dir|cache))")
_SECRET_OPTION = re.compile(r"--?[-a-z]*(secret|token|password|api-?key)(=.|$)")
# The configuration of a run, decrypted (pulumi sdk/python/cmd/pulumi-language-python/main.go, pulumiConfigVar), and
# what decrypts the state.
_WITHHELD = ("PULUMI_CONFIG", "PULUMI_CONFIG_PASSPHRASE")


@dataclass(frozen=True, kw_only=True)
class Context:
    """One context of a kubeconfig.

    Attributes:
        name: Its name.
        namespace: The namespace that it names.
        cluster: The cluster that it names, as the kubeconfig has it, with absolute paths.
        user: The user that it names, likewise; empty if it names none.
    """

    name: str
    namespace: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]

    @property
    def verifies_server(self) -> bool:
        """Whether whoever answers for the API server has to show a certificate that is trusted."""
        return self.cluster["server"].startswith("https://") and not self.cluster.get("insecure-skip-tls-verify")


class KubeconfigError(Exception):
    """A kubeconfig that cannot be read, or lacks what was named; the message says what to do."""


def is_content(kubeconfig: str) -> bool:
    """Whether a kubeconfig was given itself, in base64 too, where its path belongs: it must not be shown."""
    decoded = b""
    with suppress(ValueError):
        decoded = base64.b64decode(kubeconfig, validate=True)
    return any(mark in kubeconfig for mark in _MARKS) or any(word in decoded for word in _WORDS)


def kubeconfig_files(kubeconfig: str) -> list[Path]:
    """Return the kubeconfig files in force: the one given, else those of KUBECONFIG, else ``~/.kube/config``.

    Raises:
        KubeconfigError: It is the content of one that was given, which the message does not repeat; or one is in a home
            directory that is not known.

    Source: kubectl's loading rules, which the Kubernetes provider of Pulumi shares.
    """
    paths = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    if is_content(paths):
        given = "The kubeconfig that was named (meshtrust:kubeconfig, --kubeconfig)" if kubeconfig else "KUBECONFIG"
        msg = (
            f"{given} is a kubeconfig's content, and has to be its path. Save it as a file that only you can read "
            "(chmod 600 <file>), and name that."
        )
        raise KubeconfigError(msg)
    try:
        return [Path(path).expanduser() for path in paths.split(os.pathsep) if path]
    except RuntimeError as error:
        msg = f'The kubeconfig "{paths}" cannot be found: {error} Name it by its whole path.'
        raise KubeconfigError(msg) from error


def read_context(context: str, kubeconfig: str, named_by: str = "meshtrust:context") -> Context:
    """Return one context of the kubeconfig files in force.

    The file that is first to name a context, a cluster or a user counts (kubectl's rule for merging). A file is read
    again only once it has changed: the kubeconfig of a fleet is asked for every cluster in it.

    Args:
        context: Name of the context; empty for the current one.
        kubeconfig: Path of the kubeconfig; empty for the ambient one.
        named_by: The key or option that names the context.

    Raises:
        KubeconfigError: No kubeconfig can be read, or none has the context whole; the message lists those there are. Or
            it is not a path that was given.
    """
    files = kubeconfig_files(kubeconfig)
    listed = ", ".join(str(path) for path in files)
    return _select([_read(path) for path in files], context, named_by, f"the kubeconfig ({listed})")


def parse_context(content: str, context: str, named_by: str) -> Context:
    """Return one context of a kubeconfig's content, whose paths are relative to the working directory.

    Args:
        content: YAML or JSON.
        context: Name of the context; empty for the current one.
        named_by: The key or option that names the context.

    Raises:
        KubeconfigError: It is not YAML, or does not have the context whole. The message does not repeat it.
    """
    try:
        found = _parse(content, Path())
    except ValueError as error:
        msg = f"The kubeconfig of {named_by} is not YAML."
        raise KubeconfigError(msg) from error
    return _select([found], context, named_by, "the kubeconfig that was given")


def keep_current_context(value: Any) -> str:
    """Return a kubeconfig with its current context alone, its entries sorted, as JSON.

    So another order or another context's credentials make no difference, and those reach nobody.

    Args:
        value: A kubeconfig as text (YAML or JSON, or either in base64, as the API of AKS has it), or as a map, as the
            stacks for EKS have it.

    Raises:
        KubeconfigError: It is none, or lacks what its current context names. The message is a predicate of it, and
            repeats none of it.
    """
    config = _load(value) if isinstance(value, str) else _as_json(value)
    if config in ({}, "", None):
        msg = "is empty: it has not been deployed yet, or this run cannot decrypt it (another passphrase or key)"
        raise KubeconfigError(msg)
    if not isinstance(config, Mapping):
        kind = "is text that is no map in YAML or JSON" if isinstance(value, str) else f"is of type {_kind(value)}"
        msg = f"is no kubeconfig: it {kind}"
        raise KubeconfigError(msg)
    name = config.get("current-context")
    if not name:
        msg = "is no kubeconfig that can be used: it has no current-context"
        raise KubeconfigError(msg)
    context = _entry(config, "context", name, "its current-context")
    cluster = _entry(config, "cluster", context.get("cluster"), "its current context's cluster")
    user = _entry(config, "user", context.get("user"), "its current context's user")
    if mistake := _find_mistake(cluster, user):
        msg = f"is no kubeconfig that can be used: {mistake}"
        raise KubeconfigError(msg)
    named = {"context": (name, context), "cluster": (context["cluster"], cluster), "user": (context["user"], user)}
    kept = {f"{kind}s": [{"name": of, kind: entry}] for kind, (of, entry) in named.items()}
    return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": name, **kept}, sort_keys=True)


def with_variables(user: Mapping[str, Any], variables: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a kubeconfig's user whose command for credentials has more environment variables; its own count first."""
    command = user.get("exec")
    if not isinstance(command, dict) or not variables:
        return user
    more = [{"name": name, "value": value} for name, value in variables.items() if name not in _WITHHELD]
    return {**user, "exec": {**command, "env": [*more, *(command.get("env") or [])]}}


def holds_credentials(context: Context) -> bool:
    """Whether a context holds a secret itself, and not only the way to one: a file, or a command without any."""
    command = context.user.get("exec") or {}
    variables = (entry["name"] for entry in command.get("env") or [] if entry.get("value"))
    addresses = (context.cluster["server"], context.cluster.get("proxy-url", ""))
    return (
        any(context.user.get(key) for key in _CREDENTIALS)
        or any(_SECRET_VARIABLE.search(name) for name in variables)
        or any(_SECRET_OPTION.match(argument) for argument in command.get("args") or [])
        or any(urlsplit(address).password for address in addresses)
    )


def _load(text: str) -> Any:
    """Return what a text is in YAML or JSON, or in either in base64; the text itself if it is neither."""
    with suppress(ValueError):
        config = _read_yaml(text)
        if not isinstance(config, str):
            return config
        # An error of base64 is a ValueError, too.
        return _read_yaml(base64.b64decode("".join(text.split()), validate=True).decode())
    return text


def _entry(config: Mapping[str, Any], kind: str, name: Any, what: str) -> Mapping[str, Any]:
    """Return the entry of a kubeconfig's list that a name is of.

    Raises:
        KubeconfigError: There is none.
    """
    if name and not isinstance(name, str):
        msg = f"is no kubeconfig that can be used: {what} is not text; put it in quotes"
        raise KubeconfigError(msg)
    listed = config.get(f"{kind}s")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, Mapping) and name and entry.get("name") == name and isinstance(entry.get(kind), Mapping):
            content: Mapping[str, Any] = entry[kind]
            return content
    msg = f"is no kubeconfig that can be used: {what} is not in its {kind}s"
    raise KubeconfigError(msg)


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", list: "list", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _read_yaml(text: str) -> Any:
    """Return what a text is in YAML, as JSON has it.

    Raises:
        ValueError: It is not YAML, or nothing that JSON can have.
    """
    try:
        return _as_json(parse_yaml(text))
    # A date is no key in JSON.
    except TypeError as error:
        raise ValueError(str(error)) from error


def _as_json(config: Any) -> Any:
    # Credentials are handed on in JSON: a date becomes text. To Kubernetes, what is null is not there.
    def present(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in members if value is not None}

    return json.loads(json.dumps(config, default=str), object_pairs_hook=present)


def _find_mistake(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> str:
    # It takes as long to import as all else here together.
    from meshtrust.cluster.connection.kubeconfig_fields import find_mistake  # noqa: PLC0415

    return find_mistake(cluster, user)


def _select(files: Sequence[Mapping[str, Any]], context: str, named_by: str, where: str) -> Context:
    name = context or next((file["current-context"] for file in files if file.get("current-context")), "")
    found = _find(files, "contexts", name)
    if found is None:
        names = [known for file in files for known in file.get("contexts", {})]
        fix = (
            "Run: pulumi config set context <name>" if named_by.startswith("meshtrust:") else "Name one that there is."
        )
        there = f"It has {', '.join(names)}." if names else "It has no context, or there is no such file."
        msg = f'{named_by} is "{context}", and {where} has no context of that name. {there} {fix}'
        raise KubeconfigError(msg)

    def entry(kinds: str, kind: str) -> dict[str, Any]:
        named = str(found.get(kind) or "")
        held = _find(files, kinds, named)
        if held is None:
            msg = (
                f'Context "{name}" of the kubeconfig names the {kind} "{named}", which is not in it. Correct the '
                f"context: kubectl config set-context {name} --{kind} <name>"
            )
            raise KubeconfigError(msg)
        return held

    cluster, user = entry("clusters", "cluster"), entry("users", "user")
    if mistake := _find_mistake(cluster, user):
        msg = f'Context "{name}" of {where} cannot be used: {mistake}. Correct it there.'
        raise KubeconfigError(msg)
    namespace = str(found.get("namespace") or "default")
    return Context(name=name, namespace=namespace, cluster=cluster, user=_without_secrets(user))


def _without_secrets(user: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user whose command for credentials starts without what decrypts a stack, unless it asks for that itself.

    A command inherits the environment of whoever starts it, with changes that the kubeconfig lists (Kubernetes' kind
    ExecConfig); to take a variable out of it is not among them.
    """
    command = user.get("exec")
    if not isinstance(command, dict):
        return dict(user)
    listed = list(command.get("env") or [])
    named = {entry.get("name") for entry in listed if isinstance(entry, dict)}
    withheld = [{"name": name, "value": ""} for name in _WITHHELD if name in os.environ and name not in named]
    return {**user, "exec": {**command, "env": [*listed, *withheld]}}


def _find(files: Sequence[Mapping[str, Any]], kinds: str, name: str) -> dict[str, Any] | None:
    return next((file[kinds][name] for file in files if name in file.get(kinds, {})), None)


def _read(path: Path) -> Mapping[str, Any]:
    """Return a file's contexts, clusters and users, each by name, and its current context; empty without a file."""
    try:
        status = path.stat()
        return _read_version(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"The kubeconfig {path} cannot be read: {error}. Correct it, or set meshtrust:kubeconfig to another."
        raise KubeconfigError(msg) from error


@lru_cache(maxsize=256)
def _read_version(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    return _parse(read_text(path), path.parent)


def _parse(content: str, directory: Path) -> dict[str, Any]:
    config = _read_yaml(content)
    if not isinstance(config, dict):
        return {}
    kinds = {"contexts": "context", "clusters": "cluster", "users": "user"}
    found = {kind: _by_name(config.get(kind), one, directory) for kind, one in kinds.items()}
    return {**found, "current-context": str(config.get("current-context") or "")}


def _by_name(listed: Any, one: str, directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get(one), dict):
            content = entry[one]
            paths = {key: str(directory.absolute() / content[key]) for key in _PATHS if _is_text(content.get(key))}
            found.setdefault(str(entry.get("name")), {**content, **paths, **_command(content, directory)})
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _command(user: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Return a user's command for credentials with its path: one with a slash is relative to the kubeconfig."""
    command = user.get("exec")
    if not isinstance(command, dict) or "/" not in str(command.get("command")):
        return {}
    return {"exec": {**command, "command": str(directory.absolute() / command["command"])}}
