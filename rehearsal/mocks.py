"""The program under Pulumi's own mocks: its registrations and messages, without an engine or a cluster."""

import asyncio
import json
import logging
import runpy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pulumi
import yaml
from google.protobuf import json_format
from pulumi.runtime import mocks, settings
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import run_in_stack, run_pulumi_func
from pulumi.runtime.sync_await import _sync_await

from rehearsal.workspace import REPOSITORY

# The engine's function by which the program reads a stack's outputs.
READ_OUTPUTS = "pulumi:pulumi:readStackOutputs"
# The SDK marks a secret by these (sdk/python/lib/pulumi/runtime/rpc.py).
_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"


@dataclass(frozen=True)
class Secret:
    """A value that was registered as a secret."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One registered resource."""

    urn: str
    type: str
    name: str
    is_custom: bool
    inputs: dict[str, Any]
    parent: str
    protect: bool
    depends_on: frozenset[str]
    ignore_changes: tuple[str, ...]
    retain_on_delete: bool
    deleted_with: str
    provider: str


@dataclass
class Recording:
    """Registrations of a run, in order, with the stack's outputs and the program's messages.

    Attributes:
        resources: The resources.
        outputs: The stack's outputs.
        messages: Each message with its level (`logging.WARNING` and its like).
    """

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[int, str]] = field(default_factory=list)

    def of_type(self, type_: str) -> list[Registered]:
        """Return the resources of a type."""
        return [resource for resource in self.resources if resource.type == type_]

    def named(self, name: str, type_: str | None = None) -> Registered:
        """Return the one resource of a name, and of a type if one is given."""
        [found] = [entry for entry in self.resources if entry.name == name and type_ in (None, entry.type)]
        return found

    def depends(self, resource: Registered) -> set[str]:
        """Return the names of what a resource waits for."""
        return {entry.name for entry in self.resources if entry.urn in resource.depends_on}

    def parent(self, resource: Registered) -> str:
        """Return the name of a resource's parent."""
        return next((entry.name for entry in self.resources if entry.urn == resource.parent), "")


def plain(value: Any) -> Any:
    """Turn a registered property into plain data, secrets marked as such."""
    if isinstance(value, Mapping):
        if value.get(_SIGNATURE) == _SECRET:
            return Secret(plain(value["value"]))
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value


def unwrapped(value: Any) -> Any:
    """Return a registered value without the mark of a secret."""
    value = plain(value)
    return value.value if isinstance(value, Secret) else value


class _Recorder(mocks.MockMonitor):
    def __init__(self, providers: mocks.Mocks, recording: Recording) -> None:
        super().__init__(providers)
        self._recording = recording

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802 the protocol's name
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type != "pulumi:pulumi:Stack":
            self._recording.resources.append(
                Registered(
                    urn=response.urn,
                    type=request.type,
                    name=request.name,
                    is_custom=request.custom,
                    inputs=plain(json_format.MessageToDict(request.object)),
                    parent=request.parent,
                    protect=request.protect,
                    depends_on=frozenset(request.dependencies),
                    ignore_changes=tuple(request.ignoreChanges),
                    retain_on_delete=request.retainOnDelete,
                    deleted_with=request.deletedWith,
                    provider=request.provider,
                )
            )
        return response

    def RegisterResourceOutputs(  # noqa: N802 the protocol's name
        self, request: resource_pb2.RegisterResourceOutputsRequest
    ) -> Any:
        if "::pulumi:pulumi:Stack::" in request.urn:
            self._recording.outputs = plain(json_format.MessageToDict(request.outputs))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


class _Messages(logging.Handler):
    def __init__(self, messages: list[tuple[int, str]]) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append((record.levelno, record.getMessage()))


def record(
    run: Callable[[], Any], providers: mocks.Mocks, *, stack: str, preview: bool = False, in_stack: bool = False
) -> Recording:
    """Run a function that declares resources, until all of them are registered.

    Args:
        run: The function.
        providers: Makes the outputs of what is registered.
        stack: Name of the stack.
        preview: Whether it is a preview.
        in_stack: Whether the function is a whole program, whose outputs are kept.
    """
    recording = Recording()
    log, messages = logging.getLogger("program"), _Messages(recording.messages)
    log.setLevel(logging.DEBUG)
    log.addHandler(messages)
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(
        providers,
        project="meshtrust",
        stack=stack,
        organization="organization",
        preview=preview,
        logger=log,
        monitor=_Recorder(providers, recording),
    )
    settings.SETTINGS.rpc_manager.clear()
    settings.SETTINGS.outputs.clear()
    try:
        if in_stack:
            settings.set_root_resource(cast("pulumi.Resource", None))
            _sync_await(run_in_stack(run))
        else:
            _sync_await(run_pulumi_func(run))
    finally:
        log.removeHandler(messages)
    return recording


def run_program(
    config: Mapping[str, Any],
    providers: mocks.Mocks,
    *,
    stack: str,
    preview: bool = True,
    secret_keys: Collection[str] = (),
) -> Recording:
    """Run the whole program with a configuration.

    Args:
        config: The configuration, without the defaults of Pulumi.yaml.
        providers: Makes the outputs of what is registered.
        stack: Name of the stack.
        preview: Whether it is a preview.
        secret_keys: Keys of the configuration that are encrypted.

    Raises:
        pulumi.RunError: The program has refused the run.
    """
    pulumi.runtime.set_all_config(engine_config(config), [*secret_keys])
    # The executor that runs the program has the same, for programs end before all of their tasks do.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    def run() -> None:
        runpy.run_path(str(REPOSITORY / "__main__.py"), run_name="__main__")

    try:
        return record(run, providers, stack=stack, preview=preview, in_stack=True)
    except SystemExit as ended:
        # It ends so after it has reported its refusal to the engine, which is missing here.
        if isinstance(ended.__context__, pulumi.RunError):
            raise ended.__context__ from None
        raise


def engine_config(values: Mapping[str, Any]) -> dict[str, str]:
    """Return configuration as the engine hands it to a program: the defaults of Pulumi.yaml below, structures as JSON.

    As in Pulumi.yaml, a key with a dot is a path: `meshtrust:issuer.mode` is a member of the map `meshtrust:issuer`.
    """
    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    config: dict[str, Any] = {}
    for key, declared in project["config"].items():
        if "default" in declared:
            _put(config, f"meshtrust:{key}", declared["default"])
    for key, value in values.items():
        _put(config, key, value)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    name, _, member = key.partition(".")
    if member:
        section = config.setdefault(name, {})
        if value is None:
            section.pop(member, None)
        else:
            section[member] = value
    elif isinstance(value, dict) and isinstance(config.get(name), dict):
        config[name] = {**config[name], **value}
    elif value is None:
        config.pop(name, None)
    else:
        config[name] = value
