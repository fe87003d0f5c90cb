"""Interface between the server, which speaks the engine's protocol, and the providers."""

import abc
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rehearsal.providers.values import Path, Properties


@dataclass(frozen=True)
class Operation:
    """The resource that a call is about, and what the call may use.

    Attributes:
        urn: Its URN.
        type: Its type.
        name: Its name in the program.
        preview: Whether nothing may be changed.
        timeout: The custom timeout of the call in seconds, None if the program set none.
        ignore_changes: Paths that the program leaves to others.
        cancelled: Set when the user interrupts.
        status: Tells the user what a long call waits for.
        warn: Gives a warning about the resource.
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
class Change:
    """The change of one path.

    Attributes:
        kind: `add`, `delete` or `update`.
        replaces: Whether the resource needs a replacement for it.
        of_inputs: Whether it is a difference of inputs, and not of what the resource is now.
    """

    kind: str
    replaces: bool = False
    of_inputs: bool = False


@dataclass(frozen=True, kw_only=True)
class Diff:
    """The changes of a resource.

    Attributes:
        names: The properties that change.
        replaces: The properties or paths that need a replacement.
        detailed: Each path that changes; None leaves it to the engine to find them.
        delete_before_replace: Whether the old resource goes first.
        decided: Whether the provider has decided; otherwise the engine does.
    """

    names: frozenset[str] = frozenset()
    replaces: frozenset[str] = frozenset()
    detailed: Mapping[Path, Change] | None = None
    delete_before_replace: bool = False
    decided: bool = True


class Provider(abc.ABC):
    """One provider. Inputs may hold values that are not known yet, and secrets where it accepts them.

    Attributes:
        accepts_secrets: Whether the engine is to mark secrets among the inputs; otherwise it marks the outputs itself.
    """

    accepts_secrets = True

    @abc.abstractmethod
    def configure(self, config: Properties) -> None:
        """Take the configuration of the provider resource.

        Raises:
            ProviderError: The configuration cannot be used.
        """

    @abc.abstractmethod
    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Return how the provider resource itself would change."""

    @abc.abstractmethod
    def serves(self, type_: str) -> bool:
        """Return whether the provider knows a resource type."""

    @abc.abstractmethod
    def check(self, operation: Operation, old: Properties | None, new: Properties) -> Properties:
        """Validate new inputs and fill in what the provider decides (names).

        Raises:
            CheckError: The inputs are not acceptable.
        """

    @abc.abstractmethod
    def diff(self, operation: Operation, old: Properties, outputs: Properties, new: Properties) -> Diff:
        """Compare the inputs and outputs of the last deployment with new inputs."""

    @abc.abstractmethod
    def create(self, operation: Operation, inputs: Properties) -> tuple[str, Properties]:
        """Create the resource, or in a preview plan it; return its id (empty in a preview) and outputs.

        Raises:
            InitError: It exists but did not become ready.
            ProviderError: It could not be created.
        """

    @abc.abstractmethod
    def update(
        self, operation: Operation, resource_id: str, outputs: Properties, old: Properties, new: Properties
    ) -> Properties:
        """Update the resource in place, or in a preview plan it; return its outputs.

        Raises:
            InitError: It was updated but did not become ready.
            ProviderError: It could not be updated.
        """

    @abc.abstractmethod
    def delete(self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties) -> None:
        """Delete the resource; one that is gone already is deleted.

        Raises:
            ProviderError: It could not be deleted.
        """

    @abc.abstractmethod
    def read(
        self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties
    ) -> tuple[Properties, Properties] | None:
        """Return the inputs and outputs of the resource as it is now, None if it is gone.

        Args:
            operation: The resource.
            resource_id: Its id.
            inputs: Its last inputs, empty for an import.
            outputs: Its last outputs, empty for an import.

        Raises:
            ProviderError: It could not be read.
        """
