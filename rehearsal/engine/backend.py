"""The file backend, in the layout of the real CLI: `<DIR>/.pulumi/stacks/<project>/<stack>.json`.

Every write is complete or not made (temporary file, fsync, rename), so that a process killed at any moment leaves
the last checkpoint readable (layout: pulumi/pulumi, pkg/backend/diy).
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

from rehearsal.engine import state
from rehearsal.engine.errors import CliError, StackNotFoundError
from rehearsal.engine.project import Project

_ORGANIZATION = "organization"


class Backend:
    """The stacks of one project in one directory."""

    def __init__(self, root: Path, project: str) -> None:
        self.root = root
        self.project = project
        self.url = f"file://{root}"
        self._bookkeeping = root / ".pulumi"

    @classmethod
    def open(cls, project: Project) -> Backend:
        """The backend that PULUMI_BACKEND_URL names, or else `backend.url` of the project.

        Raises:
            CliError: there is none, it is not a file backend, or its directory does not exist.
        """
        url = os.environ.get("PULUMI_BACKEND_URL") or project.backend_url
        if not url:
            raise CliError("PULUMI_BACKEND_URL must be set: the embedded engine keeps its state in file://<directory>")
        parsed = urlparse(url)
        if parsed.scheme != "file":
            raise CliError(f"the embedded engine serves file:// backends only, not {url}")
        path = unquote(parsed.netloc + parsed.path)
        root = Path(path).expanduser()
        root = (root if root.is_absolute() else Path.cwd() / root).resolve()
        if not root.is_dir():
            raise CliError(f"unable to open bucket {url}: {root} is not a directory; create it first")
        backend = cls(root, project.name)
        backend._ensure_layout()
        return backend

    def stack_path(self, stack: str) -> Path:
        """The deployment file of a stack."""
        return self._bookkeeping / "stacks" / self.project / f"{stack}.json"

    def exists(self, stack: str) -> bool:
        """Whether the stack was created."""
        return self.stack_path(stack).is_file()

    def stacks(self) -> list[str]:
        """The project's stacks."""
        return sorted(path.stem for path in (self._bookkeeping / "stacks" / self.project).glob("*.json"))

    def create(self, stack: str) -> None:
        """Create a stack without resources.

        Raises:
            CliError: it exists.
        """
        if self.exists(stack):
            raise CliError(f"stack '{self.fully_qualified(stack)}' already exists")
        self.save(stack, None)

    def remove(self, stack: str) -> None:
        """Forget a stack and its history."""
        self.stack_path(stack).unlink()
        self.stack_path(stack).with_suffix(".json.bak").unlink(missing_ok=True)

    def load(self, stack: str) -> dict[str, Any] | None:
        """The deployment object of a stack, None before its first deployment.

        Raises:
            StackNotFoundError: there is no such stack.
            CliError: its file cannot be read.
        """
        path = self.stack_path(stack)
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise StackNotFoundError(f"no stack named '{stack}' found") from error
        except (OSError, ValueError) as error:
            former = f" The checkpoint before it is {path}.bak." if path.with_suffix(".json.bak").is_file() else ""
            raise CliError(f"failed to load checkpoint: {path}: {error}.{former}") from error
        if data.get("version") != 3:
            raise CliError(f"{path} has checkpoint version {data.get('version')}: the embedded engine reads version 3")
        latest: dict[str, Any] | None = data["checkpoint"].get("latest")
        if latest and not state.has_its_magic(latest):
            raise CliError(
                f"snapshot integrity failure; refusing to use it: {path}: magic cookie mismatch; possible "
                f"tampering/corruption detected. The checkpoint before it is {path}.bak."
            )
        return latest

    def save(self, stack: str, deployment: dict[str, Any] | None) -> None:
        """Write a stack's deployment."""
        checkpoint: dict[str, Any] = {"stack": f"{_ORGANIZATION}/{self.project}/{stack}"}
        if deployment is not None:
            checkpoint["latest"] = deployment
        path = self.stack_path(stack)
        text = json.dumps({"version": 3, "checkpoint": checkpoint}, indent=4)
        try:
            if path.is_file():
                write_atomically(path.with_suffix(".json.bak"), path.read_text())
            write_atomically(path, text)
        except OSError as error:
            raise CliError(
                f"the checkpoint {path} cannot be saved: {error.strerror}. It is as it was before. Put that right, and "
                "run again"
            ) from error

    def load_reference(self, reference: str) -> dict[str, Any] | None:
        """The deployment of the stack that a StackReference names: `stack` or `organization/project/stack`.

        Raises:
            CliError: no such stack is in this backend.
        """
        parts = reference.split("/")
        if len(parts) == 3 and parts[0] == _ORGANIZATION:
            other = Backend(self.root, parts[1])
        elif len(parts) == 1:
            other = self
        else:
            raise CliError(
                f'the stack reference "{reference}" is neither <stack> nor {_ORGANIZATION}/<project>/<stack>, '
                "as a file backend names its stacks"
            )
        if not other.exists(parts[-1]):
            raise CliError(f'unknown stack "{reference}"')
        return other.load(parts[-1])

    def fully_qualified(self, stack: str) -> str:
        """The stack's name as StackReferences to other projects write it."""
        return f"{_ORGANIZATION}/{self.project}/{stack}"

    @contextlib.contextmanager
    def lock(self, stack: str) -> Iterator[None]:
        """Hold the stack's lock.

        Raises:
            CliError: another process holds it; the message names that process.
        """
        directory = self._lock_directory(stack)
        mine = directory / f"{uuid.uuid4()}.json"
        self._refuse_if_locked(stack, mine)
        content = {
            "pid": os.getpid(),
            "username": getpass.getuser(),
            "hostname": socket.gethostname(),
            "timestamp": state.now(),
        }
        write_atomically(mine, json.dumps(content))
        try:
            # Two processes may both have seen no lock: whoever sees the other's now gives way.
            self._refuse_if_locked(stack, mine)
            yield
        finally:
            mine.unlink(missing_ok=True)

    def cancel(self, stack: str) -> int:
        """Remove every lock of the stack; returns how many there were."""
        locks = list(self._lock_directory(stack).glob("*.json"))
        for lock in locks:
            lock.unlink(missing_ok=True)
        return len(locks)

    def _lock_directory(self, stack: str) -> Path:
        return self._bookkeeping / "locks" / _ORGANIZATION / self.project / stack

    def _refuse_if_locked(self, stack: str, mine: Path) -> None:
        locks = [lock for lock in sorted(self._lock_directory(stack).glob("*.json")) if lock != mine]
        if not locks:
            return
        lines = [
            f"the stack is currently locked by {len(locks)} lock(s). Either wait for the other process(es) to end "
            "or delete the lock file with `pulumi cancel`."
        ]
        for lock in locks:
            with contextlib.suppress(OSError, ValueError):
                held = json.loads(lock.read_text())
                lines.append(
                    f"  file://{lock}: created by {held['username']}@{held['hostname']} (pid {held['pid']}) "
                    f"at {held['timestamp']}"
                )
        raise CliError("\n".join(lines))

    def _ensure_layout(self) -> None:
        meta = self._bookkeeping / "meta.yaml"
        if not meta.is_file():
            write_atomically(meta, "version: 1\n")
            return
        version = (yaml.safe_load(meta.read_text()) or {}).get("version")
        if version != 1:
            raise CliError(f"{meta} says version {version}: the embedded engine serves project-scoped stacks (1)")


class Workspace:
    """Which stack is selected, kept per project file under PULUMI_HOME as the real CLI does."""

    def __init__(self, project: Project) -> None:
        home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
        digest = hashlib.sha1(str(project.directory / "Pulumi.yaml").encode()).hexdigest()  # noqa: S324 - a file name
        self._path = home / "workspaces" / f"{project.name}-{digest}-workspace.json"

    @property
    def selected(self) -> str:
        """The selected stack, empty if none is."""
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads(self._path.read_text()).get("stack", "")).rsplit("/", 1)[-1]
        return ""

    def select(self, stack: str) -> None:
        """Select a stack."""
        write_atomically(self._path, json.dumps({"stack": stack}))


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        # On a full disk even a part of it is in the way.
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
