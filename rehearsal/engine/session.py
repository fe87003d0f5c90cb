"""What every command works on: a project, its backend, one stack with its secrets and configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rehearsal.engine import config, secrets, state
from rehearsal.engine.backend import Backend, Workspace
from rehearsal.engine.config import ConfigValue, StackFile
from rehearsal.engine.errors import CliError, StackNotFoundError
from rehearsal.engine.monitor import VERSION
from rehearsal.engine.project import Project
from rehearsal.engine.secrets import Crypter
from rehearsal.engine.state import Snapshot
from rehearsal.engine.values import Properties


@dataclass
class Session:
    """One stack of one project."""

    project: Project
    backend: Backend
    stack: str
    config_file: Path | None = None

    @classmethod
    def open(cls, directory: Path, stack: str, config_file: str = "") -> Session:
        """Open a stack: the given one, else PULUMI_STACK, else the selected one.

        Raises:
            StackNotFoundError: it does not exist.
            CliError: none is named or selected, or the project or the backend cannot be opened.
        """
        project = Project.find(directory)
        backend = Backend.open(project)
        name = (stack or os.environ.get("PULUMI_STACK") or Workspace(project).selected).rsplit("/", 1)[-1]
        if not name:
            raise CliError("no stack selected; please use `pulumi stack select` or `pulumi stack init` to choose one")
        if not backend.exists(name):
            raise StackNotFoundError(f"no stack named '{name}' found")
        return cls(project, backend, name, Path(config_file) if config_file else None)

    @cached_property
    def file(self) -> StackFile:
        """The file of the stack's configuration."""
        return StackFile(self.config_file or self.project.stack_file(self.stack))

    @cached_property
    def crypter(self) -> Crypter:
        """What encrypts the stack's secrets; a stack without a salt gets one, recorded in its file.

        Raises:
            CliError: there is no passphrase, or it is the wrong one.
        """
        salt_text = self.file.salt_text or state.salt_text(self.backend.load(self.stack) or {})
        if salt_text:
            return Crypter.open(secrets.passphrase(), salt_text)
        crypter = Crypter.create(secrets.passphrase())
        self.file.set_salt(crypter.salt_text)
        return crypter

    def config(self, *, validated: bool = True) -> dict[str, ConfigValue]:
        """The configuration that the program gets."""
        cipher = self.crypter if self.file.has_secure() else None
        if validated:
            return config.validated(self.project, self.stack, self.file, cipher)
        return config.resolve(self.project, self.file, cipher)

    def snapshot(self) -> Snapshot:
        """The stack's deployment, which is empty at first."""
        return self.decode(self.backend.load(self.stack))

    def decode(self, deployment: dict[str, Any] | None) -> Snapshot:
        """Read a deployment, with the passphrase where it holds secrets."""
        if deployment is None:
            return Snapshot(salt_text=self.crypter.salt_text)
        snapshot = Snapshot.from_json(deployment, state.decoder(self._decrypter(deployment).decrypt))
        snapshot.salt_text = self.crypter.salt_text
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Write the stack's deployment."""
        self.backend.save(self.stack, snapshot.to_json(state.encoder(self.crypter.encrypt), f"v{VERSION}"))

    def read_stack(self, reference: str) -> Properties:
        """The outputs of the stack that a StackReference names; none before its first deployment.

        Raises:
            CliError: there is no such stack, or it is encrypted with another passphrase.
        """
        deployment = self.backend.load_reference(reference)
        return (self.decode(deployment).stack_outputs() or {}) if deployment else {}

    def _decrypter(self, deployment: dict[str, Any]) -> Crypter:
        salt_text = state.salt_text(deployment)
        if not salt_text or salt_text == self.crypter.salt_text:
            return self.crypter
        return Crypter.open(secrets.passphrase(), salt_text)
