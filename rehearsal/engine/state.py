"""The resources of a deployment, and the deployment file's JSON (Pulumi's deployment version 3)."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from rehearsal.engine import values
from rehearsal.engine.values import Properties, Value

_PLAIN_FIELDS = {
    "urn": "urn",
    "custom": "custom",
    "delete": "delete",
    "id": "id",
    "type": "type",
    "parent": "parent",
    "protect": "protect",
    "external": "external",
    "dependencies": "dependencies",
    "initErrors": "init_errors",
    "provider": "provider",
    "propertyDependencies": "property_dependencies",
    "pendingReplacement": "pending_replacement",
    "additionalSecretOutputs": "additional_secret_outputs",
    "aliases": "aliases",
    "customTimeouts": "custom_timeouts",
    "retainOnDelete": "retain_on_delete",
    "deletedWith": "deleted_with",
    "created": "created",
    "modified": "modified",
    "ignoreChanges": "ignore_changes",
    "replaceOnChanges": "replace_on_changes",
}
_ALWAYS = {"urn", "custom", "type"}
_VALUE_FIELDS = {"inputs", "outputs", "replacementTrigger"}


@dataclass
class ResourceState:
    """One resource: what the program asked for (`inputs`) and what the provider made of it (`outputs`)."""

    urn: str
    type: str
    custom: bool
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)
    parent: str = ""
    provider: str = ""
    protect: bool = False
    external: bool = False
    delete: bool = False
    pending_replacement: bool = False
    retain_on_delete: bool = False
    deleted_with: str = ""
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    init_errors: list[str] = field(default_factory=list)
    additional_secret_outputs: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    replacement_trigger: Value = None
    created: str = ""
    modified: str = ""
    # Fields of the file that only the real CLI uses; kept so that a round trip loses nothing.
    other: dict[str, Any] = field(default_factory=dict)

    def to_json(self, encode: Callable[[Value], Value]) -> dict[str, Any]:
        """The resource as an object of the deployment file; `encode` writes property values."""
        result: dict[str, Any] = {}
        for name, attribute in _PLAIN_FIELDS.items():
            value = getattr(self, attribute)
            if value or name in _ALWAYS:
                result[name] = value
            if name == "type":
                if self.inputs:
                    result["inputs"] = encode(self.inputs)
                if self.outputs:
                    result["outputs"] = encode(self.outputs)
        if self.replacement_trigger is not None:
            result["replacementTrigger"] = encode(self.replacement_trigger)
        return result | self.other

    @classmethod
    def from_json(cls, data: dict[str, Any], decode: Callable[[Value], Value]) -> ResourceState:
        """Read an object of the deployment file."""
        known = {attribute: data[name] for name, attribute in _PLAIN_FIELDS.items() if name in data}
        return cls(
            **known,
            inputs=decode(data.get("inputs") or {}),
            outputs=decode(data.get("outputs") or {}),
            replacement_trigger=decode(data.get("replacementTrigger")),
            other={key: data[key] for key in data.keys() - _PLAIN_FIELDS.keys() - _VALUE_FIELDS},
        )

    def references(self) -> set[str]:
        """The URNs of the resources that must exist as long as this one does."""
        found = set(self.dependencies)
        for urns in self.property_dependencies.values():
            found.update(urns)
        if self.parent:
            found.add(self.parent)
        if self.provider:
            found.add(provider_urn(self.provider))
        if self.deleted_with:
            found.add(self.deleted_with)
        return found

    def renamed(self, names: dict[str, str]) -> ResourceState:
        """A copy whose references follow resources that were given a new URN."""
        if not names or not (self.references() & names.keys()):
            return self

        def follow(urn: str) -> str:
            return names.get(urn, urn)

        provider = self.provider
        if provider:
            urn, _, identity = provider.rpartition("::")
            provider = f"{follow(urn)}::{identity}"
        return replace(
            self,
            parent=follow(self.parent),
            provider=provider,
            deleted_with=follow(self.deleted_with),
            dependencies=[follow(urn) for urn in self.dependencies],
            property_dependencies={
                key: [follow(urn) for urn in urns] for key, urns in self.property_dependencies.items()
            },
        )

    def touch(self, *, created: bool = False) -> None:
        """Record the time of a change."""
        self.modified = now()
        if created or not self.created:
            self.created = self.modified


@dataclass(frozen=True)
class PendingOperation:
    """A step that had begun and was not seen to end: `creating`, `updating`, `deleting` or `reading`."""

    resource: ResourceState
    kind: str


@dataclass
class Snapshot:
    """What a deployment file holds besides its manifest; every resource comes after those it refers to."""

    resources: list[ResourceState] = field(default_factory=list)
    pending: list[PendingOperation] = field(default_factory=list)
    salt_text: str = ""

    def stack_outputs(self) -> Properties | None:
        """The outputs of the stack resource; None before the first deployment."""
        for resource in self.resources:
            if resource.type == "pulumi:pulumi:Stack" and not resource.delete:
                return resource.outputs
        return None

    def to_json(self, encode: Callable[[Value], Value], version: str) -> dict[str, Any]:
        """The deployment object of a deployment file."""
        deployment: dict[str, Any] = {"manifest": {"time": now(), "magic": _magic(version), "version": version}}
        if self.salt_text:
            deployment["secrets_providers"] = {"type": "passphrase", "state": {"salt": self.salt_text}}
        if self.resources:
            deployment["resources"] = [resource.to_json(encode) for resource in self.resources]
        if self.pending:
            deployment["pending_operations"] = [
                {"resource": operation.resource.to_json(encode), "type": operation.kind} for operation in self.pending
            ]
        deployment["metadata"] = {}
        return deployment

    @classmethod
    def from_json(cls, deployment: dict[str, Any], decode: Callable[[Value], Value]) -> Snapshot:
        """Read the deployment object of a deployment file."""
        return cls(
            resources=[ResourceState.from_json(item, decode) for item in deployment.get("resources") or []],
            pending=[
                PendingOperation(ResourceState.from_json(item["resource"], decode), item["type"])
                for item in deployment.get("pending_operations") or []
            ],
            salt_text=salt_text(deployment),
        )


def has_its_magic(deployment: dict[str, Any]) -> bool:
    """Whether a deployment's manifest has the mark that its version gives, by which the real CLI knows damage."""
    manifest = deployment.get("manifest") or {}
    return not manifest or manifest.get("magic") == _magic(str(manifest.get("version", "")))


def salt_text(deployment: dict[str, Any]) -> str:
    """The salt of the deployment's passphrase secrets provider, empty if it has none."""
    provider = deployment.get("secrets_providers") or {}
    return str((provider.get("state") or {}).get("salt", "")) if provider.get("type") == "passphrase" else ""


def encoder(encrypt: Callable[[str], str]) -> Callable[[Value], Value]:
    """The value encoding of a deployment file."""
    return lambda value: values.to_state(value, encrypt)


def decoder(decrypt: Callable[[str], str]) -> Callable[[Value], Value]:
    """The value decoding of a deployment file."""
    return lambda value: values.from_state(value, decrypt)


def provider_urn(reference: str) -> str:
    """The URN in a provider reference `<urn>::<id>`."""
    return reference.rpartition("::")[0]


def dependents(urn: str, resources: Iterable[ResourceState]) -> list[ResourceState]:
    """Every resource that refers to `urn`, directly or through others, in the order given."""
    reached = {urn}
    found = []
    for resource in resources:
        if resource.references() & reached:
            reached.add(resource.urn)
            found.append(resource)
    return found


def now() -> str:
    """The time as a deployment file writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _magic(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()
