"""Runs the program, or parts of it, against Pulumi's mock monitor and keeps what was registered as plain data."""

import asyncio
import atexit
import gc
import json
import logging
import runpy
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml
from cryptography import x509
from google.protobuf import json_format
from pulumi.runtime import mocks, settings
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import run_in_stack, run_pulumi_func
from pulumi.runtime.sync_await import _sync_await

from tests.certificates import Pair, make_certificate, make_request

REPOSITORY = Path(__file__).parent.parent
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
SIGNATURE = "4dabf18193072939515e22adb298388d"
STACK_REFERENCE = "pulumi:pulumi:StackReference"


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
    inputs: dict[str, Any]
    parent: str
    protect: bool
    depends_on: frozenset[str]
    ignore_changes: tuple[str, ...]
    retain_on_delete: bool
    provider: str


@dataclass
class Recording:
    """What a run registered, in order, and the stack's outputs."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of_type(self, type_: str) -> list[Registered]:
        return [resource for resource in self.resources if resource.type == type_]

    def named(self, name: str, type_: str | None = None) -> Registered:
        found = [entry for entry in self.resources if entry.name == name and type_ in (None, entry.type)]
        assert len(found) == 1, f"{len(found)} resources named {name}: {[entry.name for entry in self.resources]}"
        return found[0]

    def depends(self, resource: Registered) -> set[str]:
        """Return the names of what a resource waits for."""
        return {entry.name for entry in self.resources if entry.urn in resource.depends_on}

    def parent(self, resource: Registered) -> str:
        """Return the name of a resource's parent."""
        return next((entry.name for entry in self.resources if entry.urn == resource.parent), "")


def plain(value: Any) -> Any:
    """Turn a registered property into plain data, secrets marked as such."""
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) == SECRET_SIGNATURE:
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
        response = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            self._recording.resources.append(
                Registered(
                    urn=response.urn,
                    type=request.type,
                    name=request.name,
                    inputs=plain(json_format.MessageToDict(request.object)),
                    parent=request.parent,
                    protect=request.protect,
                    depends_on=frozenset(request.dependencies),
                    ignore_changes=tuple(request.ignoreChanges),
                    retain_on_delete=request.retainOnDelete,
                    provider=request.provider,
                )
            )
        return response

    def RegisterResourceOutputs(  # noqa: N802 the protocol's name
        self, request: resource_pb2.RegisterResourceOutputsRequest
    ) -> Any:
        if "::pulumi:pulumi:Stack::" in request.urn:
            self._recording.outputs = plain(json_format.MessageToDict(request.outputs))
        return super().RegisterResourceOutputs(request)


class _Providers(mocks.Mocks):
    """Stands in for the tls and random providers, whose outputs the program needs; all others echo their inputs."""

    def __init__(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        self._outputs = outputs
        self._pairs: dict[str, Pair] = {}

    def call(self, _: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        return {}, None

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        state = dict(args.inputs)
        if args.typ == STACK_REFERENCE:
            state["outputs"] = dict(self._outputs.get(args.inputs["name"].rpartition("/")[2], {}))
        elif args.typ == "random:index/randomId:RandomId":
            state["hex"] = "c0ffee00"
        elif args.typ == "tls:index/privateKey:PrivateKey":
            pair = make_certificate(args.name)
            self._pairs[pair.key_pem] = pair
            state["privateKeyPem"] = pair.key_pem
        elif args.typ == "tls:index/selfSignedCert:SelfSignedCert":
            state["certPem"] = self._pairs[unwrapped(args.inputs["privateKeyPem"])].pem
        elif args.typ == "tls:index/certRequest:CertRequest":
            pair = self._pairs[unwrapped(args.inputs["privateKeyPem"])]
            state["certRequestPem"] = make_request(pair.key, **args.inputs["subject"])
        elif args.typ == "tls:index/locallySignedCert:LocallySignedCert":
            # An issuer that was brought along is no pair of this stand-in's making.
            issuer = Pair.of(args.inputs["caCertPem"], unwrapped(args.inputs["caPrivateKeyPem"]))
            asked = x509.load_pem_x509_csr(args.inputs["certRequestPem"].encode()).public_key()
            state["certPem"] = make_certificate(args.name, issuer=issuer, public_key=asked).pem
        return f"{args.name}-id", state


def _record(
    run: Callable[[], Any], *, outputs: Mapping[str, Mapping[str, Any]], stack: str, preview: bool, in_stack: bool
) -> Recording:
    recording = Recording()
    asyncio.set_event_loop(asyncio.new_event_loop())
    providers = _Providers(outputs)
    pulumi.runtime.set_mocks(
        providers,
        project="meshtrust",
        stack=stack,
        organization="organization",
        preview=preview,
        monitor=_Recorder(providers, recording),
    )
    settings.SETTINGS.rpc_manager.clear()
    settings.SETTINGS.outputs.clear()
    if in_stack:
        settings.set_root_resource(cast("pulumi.Resource", None))
        _sync_await(run_in_stack(run))
    else:
        _sync_await(run_pulumi_func(run))
    return recording


def build(declare: Callable[[], Any]) -> Recording:
    """Run a function that declares resources, until all of them are registered."""

    def run() -> None:
        declare()

    return _record(run, outputs={}, stack="test", preview=False, in_stack=False)


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


def stack_config(stack: str) -> dict[str, Any]:
    """Return what a file in stacks/ says."""
    return dict(yaml.safe_load((REPOSITORY / "stacks" / f"Pulumi.{stack}.yaml").read_text())["config"])


def run_program(
    config: Mapping[str, Any],
    *,
    last_outputs: Mapping[str, Any] | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    stack: str = "test",
    preview: bool = True,
    secret_keys: Collection[str] = (),
) -> Recording:
    """Run the whole program with a configuration, as a preview unless told otherwise.

    Args:
        config: The configuration.
        last_outputs: What the stack has deployed last.
        others: What other stacks have deployed last, by name.
        stack: Name of the stack.
        preview: Whether it is a preview.
        secret_keys: Keys of the configuration that are encrypted.

    Raises:
        pulumi.RunError: The program has refused the run.
    """
    pulumi.runtime.set_all_config(engine_config(config), [*secret_keys])

    def run() -> None:
        # The program answers an interrupt, and collects no garbage, as a process of its own, which the tests are not.
        answer = signal.getsignal(signal.SIGINT)
        try:
            runpy.run_path(str(REPOSITORY / "__main__.py"), run_name="__main__")
        finally:
            signal.signal(signal.SIGINT, answer)
            gc.enable()
            atexit.unregister(gc.freeze)

    outputs = {**(others or {}), stack: last_outputs or {}}
    # The executor that runs the program has the same, for programs end before all of their tasks do.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        return _record(run, outputs=outputs, stack=stack, preview=preview, in_stack=True)
    except SystemExit as ended:
        # It ends so when it has told its refusal to the engine, of which there is none here.
        if isinstance(ended.__context__, pulumi.RunError):
            raise ended.__context__ from None
        raise
