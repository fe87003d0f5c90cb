"""Kubeconfig files: the one context of theirs that a run is about, by kubectl's rules."""

import copy
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from meshtrust.files import read_text

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# No path of a kubeconfig has them, and no kubeconfig itself, as YAML or as JSON, is without.
_MARKS = ("\n", "{", "apiVersion")
# What in a cluster or a user is the path of a file, relative to the kubeconfig's own directory.
_PATHS = ("certificate-authority", "client-certificate", "client-key")
# The configuration of a run, decrypted (pulumi sdk/python/cmd/pulumi-language-python/main.go, pulumiConfigVar), and
# what decrypts the state.
_WITHHELD = ("PULUMI_CONFIG", "PULUMI_CONFIG_PASSPHRASE")


class KubeconfigError(Exception):
    """A kubeconfig that cannot be read, or lacks what was named; the message says what to do."""


def is_content(kubeconfig: str) -> bool:
    """Whether a kubeconfig was given itself, credentials and all, where its path belongs: it must not be shown."""
    return any(mark in kubeconfig for mark in _MARKS)


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


def read_context(context: str, kubeconfig: str, named_by: str = "meshtrust:context") -> dict[str, Any]:
    """Return a kubeconfig that has one context and nothing else, its paths absolute.

    The file that is first to name a context, a cluster or a user counts (kubectl's rule for merging). A file is read
    again only once it has changed: the kubeconfig of a fleet is asked for every cluster in it.

    Args:
        context: Name of the context.
        kubeconfig: Path of the kubeconfig; empty for the ambient one.
        named_by: The key or option that names the context.

    Raises:
        KubeconfigError: No kubeconfig can be read, or none has the context whole; the message lists those there are. Or
            it is no path that was given.
    """
    files = kubeconfig_files(kubeconfig)
    found = _find(files, "contexts", context)
    if found is None:
        listed = ", ".join(str(path) for path in files)
        names = [name for path in files for name in _read(path).get("contexts", {})]
        fix = (
            "Run: pulumi config set context <name>" if named_by.startswith("meshtrust:") else "Name one that there is."
        )
        there = f"It has {', '.join(names)}." if names else "It has no context, or there is no such file."
        msg = f'{named_by} is "{context}", and the kubeconfig ({listed}) has no context of that name. {there} {fix}'
        raise KubeconfigError(msg)
    whole: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": context}
    whole["contexts"] = [{"name": context, "context": found}]
    for kind, one in (("clusters", "cluster"), ("users", "user")):
        name = str(found.get(one) or "")
        entry = _find(files, kind, name)
        if entry is None:
            msg = (
                f'Context "{context}" of the kubeconfig names the {one} "{name}", which is not in it. Write the '
                f"context anew: kubectl config set-context {context} --{one} <name>"
            )
            raise KubeconfigError(msg)
        whole[kind] = [{"name": name, one: entry}]
    # The client keeps in it what it was given for a user.
    whole = copy.deepcopy(whole)
    _withhold_secrets(whole["users"][0]["user"])
    return whole


def _withhold_secrets(user: dict[str, Any]) -> None:
    """Have a user's command for credentials started without what decrypts a stack, unless it asks for that itself.

    A command inherits the environment of whoever starts it, with changes that the kubeconfig lists (Kubernetes' kind
    ExecConfig); to take a variable out of it is not among them.
    """
    command = user.get("exec")
    if isinstance(command, dict):
        listed = list(command.get("env") or [])
        named = {entry.get("name") for entry in listed if isinstance(entry, dict)}
        withheld = [name for name in _WITHHELD if name in os.environ and name not in named]
        command["env"] = [*listed, *({"name": name, "value": ""} for name in withheld)]


def _find(files: list[Path], kind: str, name: str) -> dict[str, Any] | None:
    return next((entries[name] for path in files if name in (entries := _read(path).get(kind, {}))), None)


def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return a file's contexts, clusters and users, each by name; nothing where there is no such file."""
    try:
        status = path.stat()
        return _parse(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"The kubeconfig {path} cannot be read: {error}. Correct it, or set meshtrust:kubeconfig to another."
        raise KubeconfigError(msg) from error


@lru_cache(maxsize=256)
def _parse(path: Path, _changed: int, _size: int) -> dict[str, dict[str, Any]]:
    # libyaml is ten times as fast. Through JSON, because the client takes nothing else: a date becomes text.
    content = yaml.load(read_text(path), Loader=_LOADER)  # noqa: S506 both loaders are safe
    config = json.loads(json.dumps(content, default=str))
    if not isinstance(config, dict):
        return {}
    kinds = {"contexts": "context", "clusters": "cluster", "users": "user"}
    return {kind: _by_name(config.get(kind), one, path.parent) for kind, one in kinds.items()}


def _by_name(listed: Any, one: str, directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get(one), dict):
            content = entry[one]
            paths = {key: str(directory.absolute() / content[key]) for key in _PATHS if content.get(key)}
            found.setdefault(str(entry.get("name")), {**content, **paths})
    return found
