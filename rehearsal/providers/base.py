"""What the engine asks of a provider: the calls of Pulumi's provider protocol, in process."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from rehearsal.providers.errors import ProviderError
from rehearsal.providers.values import Path, Properties


class CheckError(ProviderError):
    """Inputs that a provider does not accept; `failures` pairs a property (or "") with the reason."""

    def __init__(self, failures: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(reason for _, reason in failures))
        self.failures = failures


@dataclass(frozen=True)
class Operation:
    """The resource a call is about, and what the call may use.

    `timeout` is the custom timeout of the call in seconds, None if the program set none. `cancelled` is set when the
    user interrupts. `ignore_changes` are the paths that the program leaves to others. `status` tells the user what a
    long call waits for; `warn` gives a warning about the resource.
    """

    urn: str
    type: str
    name: str
    preview: bool = False
    timeout: float | None = None
    ignore_changes: tuple[str, ...] = ()
    cancelled: threading.Event = field(default_factory=threading.Event)
    status: Callable[[str], None] = lambda _message: None
    warn: Callable[[str], None] = lambda _message: None


@dataclass(frozen=True)
class Diff:
    """How a resource would change: each changed path with `add`, `delete` or `update`.

    `replace` holds the paths among them that need a replacement.
    """

    changes: dict[Path, str] = field(default_factory=dict)
    replace: frozenset[Path] = frozenset()
    delete_before_replace: bool = False

    def __bool__(self) -> bool:
        return bool(self.changes)


class Provider(abc.ABC):
    """One provider. Inputs may hold secrets, and in a preview values not known yet."""

    @abc.abstractmethod
    def configure(self, config: Properties) -> None:
        """Take the configuration of the provider resource.

        Raises:
            ProviderError: the configuration cannot be used.
        """

    @abc.abstractmethod
    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """How the provider resource itself would change."""

    @abc.abstractmethod
    def serves(self, type_: str) -> bool:
        """Whether the provider knows a resource type."""

    @abc.abstractmethod
    def check(self, operation: Operation, old: Properties | None, new: Properties) -> Properties:
        """Validate new inputs and fill in what the provider decides (names).

        Raises:
            CheckError: the inputs are not acceptable.
        """

    @abc.abstractmethod
    def diff(self, operation: Operation, old: Properties, outputs: Properties, new: Properties) -> Diff:
        """Compare the inputs and outputs of the last deployment with new inputs."""

    @abc.abstractmethod
    def create(self, operation: Operation, inputs: Properties) -> tuple[str, Properties]:
        """Create the resource, or in a preview plan it; returns its id (empty in a preview) and outputs.

        Raises:
            InitError: it exists but did not become ready.
            ProviderError: it could not be created.
        """

    @abc.abstractmethod
    def update(
        self, operation: Operation, resource_id: str, outputs: Properties, old: Properties, new: Properties
    ) -> Properties:
        """Update the resource in place, or in a preview plan it; returns its outputs.

        Raises:
            InitError: it was updated but did not become ready.
            ProviderError: it could not be updated.
        """

    @abc.abstractmethod
    def delete(self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties) -> None:
        """Delete the resource; one that is gone already is deleted.

        Raises:
            ProviderError: it could not be deleted.
        """

    @abc.abstractmethod
    def read(
        self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties
    ) -> tuple[Properties, Properties] | None:
        """The inputs and outputs of the resource as it is now, None if it is gone.

        Raises:
            ProviderError: it could not be read.
        """
