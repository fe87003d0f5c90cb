"""Resources that exist only in state: made once from their inputs, replaced when those change.

So work the Terraform providers behind pulumi-tls and pulumi-random, which are served by Pulumi's bridge
(pulumi-terraform-bridge pkg/pf/tfbridge): the bridge compares the last outputs with what is planned, in which a default
that is spelled out is not a change, and names the properties that change, without their values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rehearsal.providers import values
from rehearsal.providers.base import Change, Diff, Operation, Provider
from rehearsal.providers.errors import CheckError, ProviderError
from rehearsal.providers.values import UNKNOWN, Properties, Secret


@dataclass(frozen=True)
class Kind:
    """One resource type.

    Attributes:
        generate: Makes the id and the computed outputs from the inputs and defaults.
        computed: Names of the outputs that are not known before.
        required: Names of inputs that must be given.
        optional: Names of inputs without a default.
        defaults: Inputs with a default.
        secret: Names of inputs and outputs that are secret.
        in_place: Names of inputs that change without a replacement.
        kept: Names of inputs that keep their old value when they are left out.
        recomputed: Whether a change of any input counts as one of each computed output.
        validate: Returns what is wrong with the inputs that are known: pairs of a property's path and a reason.
        planned: Makes outputs that follow from inputs alone, which may be unknown.
        outdated: Name of the output that is set when the resource needs replacing although no input changed, by the
            outputs; otherwise empty.
        warning: Returns a warning about inputs, or an empty text.
        import_error: The error of an import.
    """

    generate: Callable[[dict[str, Any]], tuple[str, Properties]]
    computed: tuple[str, ...]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    secret: tuple[str, ...] = ()
    in_place: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    recomputed: bool = False
    validate: Callable[[dict[str, Any]], list[tuple[str, str]]] = lambda _inputs: []
    planned: Callable[[dict[str, Any]], Properties] = lambda _inputs: {}
    outdated: Callable[[dict[str, Any]], str] = lambda _outputs: ""
    warning: Callable[[dict[str, Any]], str] = lambda _inputs: ""
    import_error: str = "This stand-in imports nothing. Install the real provider's plugin for it."


class GeneratedProvider(Provider):
    """A provider made of such resource types. Like the bridge it leaves secrets among inputs to the engine."""

    accepts_secrets = False

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds

    def configure(self, config: Properties) -> None:
        """Accept any configuration: nothing that is served depends on it."""

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Say how the configuration changes, and leave it to the engine whether that matters."""
        changes = {path: Change(kind, of_inputs=True) for path, kind in values.diff(old, new).items()}
        return Diff(detailed=changes, decided=False)

    def serves(self, type_: str) -> bool:
        """Return whether the provider knows a resource type."""
        return type_ in self._kinds

    def check(self, operation: Operation, old: Properties | None, new: Properties) -> Properties:  # noqa: ARG002
        """Refuse missing and unacceptable inputs, and those that this stand-in does not know."""
        kind = self._kinds[operation.type]
        allowed = {*kind.required, *kind.optional, *kind.defaults}
        unserved = sorted(set(new) - allowed)
        if unserved:
            msg = f"This stand-in does not serve {', '.join(unserved)} of {operation.type}. Install the real provider."
            raise ProviderError(msg)
        known = {name: value for name, value in new.items() if not values.has_unknowns(value)}
        reasons = [f"Missing required property '{name}'" for name in kind.required if name not in new]
        reasons += [f"{reason} Examine values at '{operation.name}.{path}'." for path, reason in kind.validate(known)]
        if reasons:
            raise CheckError([("", reason) for reason in reasons])
        return _with_secrets(kind, new)

    def diff(self, operation: Operation, old: Properties, outputs: Properties, new: Properties) -> Diff:  # noqa: ARG002
        """Compare what is planned with the outputs."""
        kind = self._kinds[operation.type]
        given = {**{name: outputs[name] for name in kind.kept if name in outputs}, **new}
        planned = _planned(kind, given)
        names = {
            name
            for name in {*kind.required, *kind.optional, *planned}
            if values.has_unknowns(planned.get(name)) or planned.get(name) != outputs.get(name)
        }
        replaces = names - kind.in_place - set(kind.planned(planned))
        outdated = kind.outdated({**outputs, **planned})
        if outdated:
            names.add(outdated)
            replaces.add(outdated)
        if names and kind.recomputed:
            names |= {*kind.computed, "id"}
        return Diff(names=frozenset(names), replaces=frozenset(replaces))

    def create(self, operation: Operation, inputs: Properties) -> tuple[str, Properties]:
        """Generate the resource."""
        kind = self._kinds[operation.type]
        planned = _planned(kind, inputs)
        if operation.preview:
            unknown = dict.fromkeys((*kind.computed, *kind.kept, "id"), UNKNOWN)
            return "", _with_secrets(kind, unknown | planned)
        warning = kind.warning(planned)
        if warning:
            operation.warn(warning)
        identity, computed = kind.generate(planned)
        return identity, _with_secrets(kind, {**planned, **computed, "id": identity})

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
        updated = {**outputs, **_planned(kind, new)}
        outdated = kind.outdated(updated)
        return _with_secrets(kind, {**updated, outdated: UNKNOWN} if outdated else updated)

    def delete(self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties) -> None:
        """Do nothing: such a resource exists in the state only."""

    def read(
        self,
        operation: Operation,
        resource_id: str,  # noqa: ARG002
        inputs: Properties,
        outputs: Properties,
    ) -> tuple[Properties, Properties] | None:
        """Return what the state holds, and whether it is outdated by now: such a resource exists nowhere else."""
        kind = self._kinds[operation.type]
        if not outputs:
            raise ProviderError(kind.import_error)
        outdated = kind.outdated(outputs)
        return _with_secrets(kind, inputs), _with_secrets(kind, {**outputs, **({outdated: True} if outdated else {})})


def _planned(kind: Kind, inputs: Properties) -> Properties:
    settled = {**kind.defaults, **inputs}
    return {**settled, **kind.planned(settled)}


def _with_secrets(kind: Kind, properties: Properties) -> Properties:
    return {
        name: Secret(value) if name in kind.secret and value is not UNKNOWN else value
        for name, value in properties.items()
    }
