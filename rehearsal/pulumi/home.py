"""A PULUMI_HOME of the rehearsal's, with the plugins that the program needs."""

import os
import shlex
import shutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path

PROVIDERS = ("kubernetes", "random", "tls")
_LANGUAGE = "language-python-v0.0.0"
_PLUGIN = Path(__file__).with_name("plugin.py")


def write_home(home: Path) -> None:
    """Make a PULUMI_HOME: the user's real plugins of the pinned versions where installed, else the rehearsal's own.

    Args:
        home: Where to make it.
    """
    (home / "plugins").mkdir(parents=True)
    for provider in PROVIDERS:
        directory = home / "plugins" / plugin_directory(provider)
        installed = find_installed(provider)
        if installed:
            # The engine passes over a directory that is a link.
            directory.mkdir()
            for entry in installed.parent.iterdir():
                (directory / entry.name).symlink_to(entry)
        else:
            _write_plugin(directory, _executable(provider), provider, pinned_version(provider))
    # Any version serves: the engine asks for none.
    _write_plugin(home / "plugins" / _LANGUAGE, "pulumi-language-python", "language")


def plugin_directory(provider: str) -> str:
    """Return the name of the directory in which Pulumi keeps the plugin of the version that the program uses."""
    return f"resource-{provider}-v{pinned_version(provider)}"


def describe_plugins() -> str:
    """Return which of the providers are real, and which stand in."""
    real = [provider for provider in PROVIDERS if find_installed(provider)]
    standing_in = [provider for provider in PROVIDERS if provider not in real]
    parts = [("real", real), ("stand-ins", standing_in)]
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts if names)


def find_installed(provider: str) -> Path | None:
    """Return Pulumi's own plugin of a provider: the one on PATH, which the engine prefers, or the user's; else None."""
    on_path = shutil.which(_executable(provider))
    if on_path:
        return Path(on_path)
    installed = _users_home() / "plugins" / plugin_directory(provider) / _executable(provider)
    return installed if installed.exists() else None


def _executable(provider: str) -> str:
    return f"pulumi-resource-{provider}"


def pinned_version(provider: str) -> str:
    """Return the version of a provider that the program uses."""
    return version_of(f"pulumi-{provider}")


def _users_home() -> Path:
    """Return the user's own PULUMI_HOME, also in a shell that was given a rehearsal's."""
    own = Path(os.environ.get("PULUMI_HOME") or "")
    return Path.home() / ".pulumi" if own == Path() or (own / "plugins" / _LANGUAGE).exists() else own


def _write_plugin(directory: Path, name: str, *arguments: str) -> None:
    directory.mkdir(parents=True)
    script = directory / name
    command = shlex.join([sys.executable, str(_PLUGIN), *arguments])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
