"""Resources that exist only in state: made once from their inputs, replaced when those change.

This is how the Terraform providers behind pulumi-tls and pulumi-random work: nearly every input forces replacement,
and a default that is spelled out is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rehearsal.providers import values
from rehearsal.providers.base import CheckError, Diff, Operation, Provider
from rehearsal.providers.errors import ProviderError
from rehearsal.providers.values import UNKNOWN, Path, Properties, Value


@dataclass(frozen=True)
class Kind:
    """One resource type.

    `generate` makes the id and the computed outputs from plain inputs. `defaults` are those of the real provider.
    `in_place` inputs change without replacement, `kept` ones keep their old value when they are left out.
    `outdated` tells from the outputs whether the resource needs replacing although no input changed: it names the
    output that says so, or is empty.
    """

    generate: Callable[[dict[str, Any]], tuple[str, Properties]]
    computed: tuple[str, ...]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    secret: tuple[str, ...] = ()
    in_place: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    validate: Callable[[dict[str, Any]], list[tuple[str, str]]] = lambda _inputs: []
    outdated: Callable[[dict[str, Any]], str] = lambda _outputs: ""


class GeneratedProvider(Provider):
    """A provider made of such resource types."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds

    def configure(self, config: Properties) -> None:
        """Accept any configuration: nothing that is served depends on it."""

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Another version of the provider, which the package sets, is no change."""
        return Diff(values.diff({**old, "version": ""}, {**new, "version": ""}))

    def serves(self, type_: str) -> bool:
        """Whether the provider knows a resource type."""
        return type_ in self._kinds

    def check(self, operation: Operation, old: Properties | None, new: Properties) -> Properties:  # noqa: ARG002
        """Refuse missing, unknown and unacceptable inputs."""
        kind = self._kinds[operation.type]
        failures = [
            (name, f'Missing required argument. The argument "{name}" is required, but no definition was found.')
            for name in kind.required
            if name not in new
        ]
        allowed = {*kind.required, *kind.optional, *kind.defaults}
        failures += [
            (name, f"this stand-in does not serve the argument {name} of {operation.type}.")
            for name in new
            if name not in allowed
        ]
        if not failures:
            failures = kind.validate({k: v for k, v in values.plain(new).items() if not values.has_unknowns(v)})
        if failures:
            raise CheckError(failures)
        return new

    def diff(self, operation: Operation, old: Properties, outputs: Properties, new: Properties) -> Diff:
        """Compare against the outputs, which hold the defaults."""
        kind = self._kinds[operation.type]
        changes: dict[Path, str] = {}
        for name in {**old, **new}:
            if name not in new and name in kind.kept:
                continue
            before = values.plain(outputs.get(name))
            after = values.plain(new.get(name, kind.defaults.get(name)))
            if after is UNKNOWN or before != after:
                changes[(name,)] = "add" if before is None else "delete" if after is None else "update"
        replace = frozenset(path for path in changes if path[0] not in kind.in_place)
        outdated = kind.outdated(values.plain(outputs))
        if outdated:
            changes[(outdated,)] = "update"
            replace |= {(outdated,)}
        return Diff(changes, replace)

    def create(self, operation: Operation, inputs: Properties) -> tuple[str, Properties]:
        """Generate the resource."""
        kind = self._kinds[operation.type]
        settled = {**kind.defaults, **inputs}
        if operation.preview:
            return "", self._with_secrets(kind, settled | dict.fromkeys((*kind.computed, "id"), UNKNOWN))
        identity, computed = kind.generate(values.plain(settled))
        return identity, self._with_secrets(kind, {**settled, **computed, "id": identity})

    def update(
        self,
        operation: Operation,
        resource_id: str,  # noqa: ARG002
        outputs: Properties,
        old: Properties,  # noqa: ARG002
        new: Properties,
    ) -> Properties:
        """Record the inputs that change in place."""
        kind = self._kinds[operation.type]
        if not kind.in_place:
            raise ProviderError(f"{operation.type} cannot be updated in place")
        return self._with_secrets(kind, {**outputs, **kind.defaults, **new})

    def delete(self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties) -> None:
        """Do nothing: such a resource exists in the state only."""

    def read(
        self,
        operation: Operation,  # noqa: ARG002
        resource_id: str,  # noqa: ARG002
        inputs: Properties,
        outputs: Properties,
    ) -> tuple[Properties, Properties] | None:
        """Return what the state holds: such a resource exists nowhere else."""
        return inputs, outputs

    @staticmethod
    def _with_secrets(kind: Kind, outputs: Properties) -> Properties:
        return values.mark_secrets(outputs, {}, [name for name in kind.secret if name in outputs])
