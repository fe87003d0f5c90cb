"""The deployment file while steps run: after every step it describes exactly what exists."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from rehearsal.engine.state import PendingOperation, ResourceState, Snapshot


class Journal:
    """Collects the outcome of steps over a base snapshot and saves after each.

    Resources that the steps have made or confirmed come first, in the order they ended; those of the base that no
    step has reached yet follow. Nothing is saved without a `save` function (previews).
    """

    def __init__(self, base: Snapshot, save: Callable[[Snapshot], None] | None) -> None:
        self._base = list(base.resources)
        self._new: list[ResourceState] = []
        # What was being created when an earlier run died is in doubt until a refresh settles it.
        self._pending: list[PendingOperation] = [item for item in base.pending if item.kind == "creating"]
        self._salt_text = base.salt_text
        self._renamed: dict[str, str] = {}
        self._save = save
        self._lock = threading.Lock()

    @property
    def remaining(self) -> list[ResourceState]:
        """The resources of the base that no step has reached."""
        with self._lock:
            return list(self._base)

    def begin(self, kind: str, resource: ResourceState) -> PendingOperation:
        """Record that an operation (`creating`, `updating`, `deleting`, `reading`) is about to run."""
        operation = PendingOperation(resource, kind)
        with self._lock:
            self._pending.append(operation)
            self._write()
        return operation

    def commit(
        self,
        operation: PendingOperation | None = None,
        *,
        add: ResourceState | None = None,
        drop: ResourceState | None = None,
        persist: bool = True,
    ) -> None:
        """Record an outcome: a resource that now exists as `add`, one of the base that no longer counts."""
        with self._lock:
            if operation is not None:
                self._pending.remove(operation)
            if drop is not None:
                self._base = [item for item in self._base if item is not drop]
                if add is not None and add.urn != drop.urn:
                    self._renamed[drop.urn] = add.urn
            if add is not None:
                # A creation that an earlier run did not see end is settled by this one.
                self._pending = [item for item in self._pending if item.resource.urn != add.urn or item is operation]
                self._new.append(add)
            if persist:
                self._write()

    def mark(self, resource: ResourceState, **changes: bool) -> ResourceState:
        """Change a resource of the base that stays for now (`delete`, `pending_replacement`); returns the new one."""
        changed = replace(resource, **changes)  # type: ignore[arg-type]
        with self._lock:
            self._base = [changed if item is resource else item for item in self._base]
            self._write()
        return changed

    def save(self) -> None:
        """Save what was recorded without saving."""
        with self._lock:
            self._write()

    def snapshot(self) -> Snapshot:
        """The deployment as recorded so far."""
        with self._lock:
            return self._merged()

    def forget_pending(self) -> None:
        """Drop every operation that an earlier run left in doubt."""
        with self._lock:
            self._pending.clear()

    def _merged(self) -> Snapshot:
        base = [item.renamed(self._renamed) for item in self._base]
        return Snapshot([*self._new, *base], list(self._pending), self._salt_text)

    def _write(self) -> None:
        if self._save is not None:
            self._save(self._merged())
