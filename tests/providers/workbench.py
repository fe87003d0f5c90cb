"""A provider's plugin as the engine has it: a process of its own, spoken to by Pulumi's provider protocol."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    provider_pb2,
    provider_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
    status_pb2,
)

from rehearsal.providers.values import plain, properties_from_wire, properties_to_wire
from rehearsal.pulumi.home import find_installed, pinned_version

PLUGIN = Path(__file__).parents[2] / "rehearsal/pulumi/plugin.py"
STAND_IN, REAL = "stand-in", "real"
# A plugin that does not answer is a failure, not a test that never ends.
SECONDS = 120


def kinds_of(provider: str) -> list[str]:
    """Return which plugins of a provider can be tested here: the stand-in, and the real one where it is installed."""
    return [STAND_IN, REAL] if find_installed(provider) else [STAND_IN]


def command_of(provider: str, kind: str) -> list[str]:
    """Return the command of a plugin, which the engine's address follows."""
    if kind == REAL:
        return [str(find_installed(provider))]
    return [sys.executable, str(PLUGIN), provider, pinned_version(provider)]


class Engine(engine_pb2_grpc.EngineServicer):
    """The engine's side, which keeps what plugins log."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.logged: list[tuple[str, str]] = []

    def Log(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: ARG002, N802
        if not request.ephemeral:
            self.logged.append((engine_pb2.LogSeverity.Name(request.severity), request.message))
        return empty_pb2.Empty()

    def SetRootResource(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return engine_pb2.SetRootResourceResponse()

    def warnings(self) -> list[str]:
        return [message for severity, message in self.logged if severity == "WARNING"]


@contextlib.contextmanager
def engine() -> Iterator[tuple[Engine, str]]:
    """Serve an engine; yield it and its address."""
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    served = Engine(server)
    engine_pb2_grpc.add_EngineServicer_to_server(served, server)
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(Monitor(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield served, f"127.0.0.1:{port}"
    server.stop(None)


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """The engine's side for a program, which registers its stack and no more."""

    def SupportsFeature(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return resource_pb2.SupportsFeatureResponse(hasSupport=False)

    def RegisterResource(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return resource_pb2.RegisterResourceResponse(urn=urn(request.type, request.name))

    def RegisterResourceOutputs(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: ARG002, N802
        return empty_pb2.Empty()


class CallError(Exception):
    """A call that the plugin answered with an error.

    `resource` is its report about a resource that exists nevertheless: id, properties, inputs and reasons.
    """

    def __init__(self, error: grpc.RpcError) -> None:
        super().__init__(error.details())
        self.code = error.code().name
        self.message = str(error.details())
        self.resource: Any = None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in status_pb2.Status.FromString(value).details:
                    failed = provider_pb2.ErrorResourceInitFailed()
                    if detail.Unpack(failed):
                        self.resource = {
                            "id": failed.id,
                            "properties": properties_from_wire(failed.properties),
                            "inputs": properties_from_wire(failed.inputs),
                            "reasons": list(failed.reasons),
                        }


@dataclass
class Plugin:
    """A plugin that runs, and the calls of the protocol; properties are those of `rehearsal.providers.values`.

    Attributes:
        process: Its process.
        engine: The engine that it reports to.
        stub: The calls as they are.
        provider: Name of the provider.
        journal: Each call that was answered, by name, with the answer.
    """

    process: Any
    engine: Engine
    stub: Any
    provider: str = ""
    journal: list[tuple[str, Any]] = field(default_factory=list)
    accepts_secrets: bool = False

    def configure(self, **config: Any) -> dict[str, Any]:
        """Configure as the engine does: variables for old plugins, arguments for new ones."""
        variables = {f"{self.provider}:config:{key}": str(value) for key, value in config.items()}
        request = provider_pb2.ConfigureRequest(
            variables=variables,
            args=properties_to_wire(config),
            acceptSecrets=True,
            acceptResources=True,
            sends_old_inputs=True,
            sends_old_inputs_to_delete=True,
        )
        answer = self._call("Configure", request)
        self.accepts_secrets = answer.acceptSecrets
        return self._kept(
            "configure", {"acceptSecrets": answer.acceptSecrets, "supportsPreview": answer.supportsPreview}
        )

    def check_config(self, old: dict[str, Any], new: dict[str, Any]) -> Any:
        return self._checked("CheckConfig", "pulumi:providers:any", "default", old, new)

    def diff_config(self, old: dict[str, Any], new: dict[str, Any], *, ignore: Sequence[str] = ()) -> Any:
        type_ = "pulumi:providers:any"
        request = provider_pb2.DiffRequest(
            id="id",
            urn=urn(type_, "default"),
            type=type_,
            name="default",
            olds=self._wire(old),
            old_inputs=self._wire(old),
            news=self._wire(new),
            ignoreChanges=ignore,
        )
        return self._kept("diff_config", _diff(self._call("DiffConfig", request)))

    def check(self, type_: str, new: dict[str, Any], old: dict[str, Any] | None = None, *, name: str = "it") -> Any:
        """Return the checked inputs; with failures, the failures."""
        return self._checked("Check", type_, name, old or {}, new)

    def diff(
        self,
        type_: str,
        outputs: dict[str, Any],
        old: dict[str, Any],
        new: dict[str, Any],
        *,
        ignore: Sequence[str] = (),
        identity: str = "id",
    ) -> dict[str, Any]:
        request = provider_pb2.DiffRequest(
            id=identity,
            urn=urn(type_, "it"),
            type=type_,
            name="it",
            olds=self._wire(outputs),
            old_inputs=self._wire(old),
            news=self._wire(new),
            ignoreChanges=ignore,
        )
        return self._kept("diff", _diff(self._call("Diff", request)))

    def create(
        self, type_: str, inputs: dict[str, Any], *, preview: bool = False, timeout: float = 0, name: str = "it"
    ) -> tuple[str, dict[str, Any]]:
        request = provider_pb2.CreateRequest(
            urn=urn(type_, name),
            type=type_,
            name=name,
            properties=self._wire(inputs),
            preview=preview,
            timeout=timeout,
        )
        answer = self._call("Create", request)
        made = answer.id, properties_from_wire(answer.properties)
        self._kept("create", {"id": made[0], "properties": made[1]})
        return made

    def update(
        self,
        type_: str,
        identity: str,
        outputs: dict[str, Any],
        old: dict[str, Any],
        new: dict[str, Any],
        *,
        preview: bool = False,
        timeout: float = 0,
        ignore: Sequence[str] = (),
    ) -> dict[str, Any]:
        request = provider_pb2.UpdateRequest(
            id=identity,
            urn=urn(type_, "it"),
            type=type_,
            name="it",
            olds=self._wire(outputs),
            old_inputs=self._wire(old),
            news=self._wire(new),
            preview=preview,
            timeout=timeout,
            ignoreChanges=ignore,
        )
        return self._kept("update", properties_from_wire(self._call("Update", request).properties))

    def delete(
        self, type_: str, identity: str, outputs: dict[str, Any], inputs: dict[str, Any], *, timeout: float = 0
    ) -> None:
        request = provider_pb2.DeleteRequest(
            id=identity,
            urn=urn(type_, "it"),
            type=type_,
            name="it",
            properties=self._wire(outputs),
            old_inputs=self._wire(inputs),
            timeout=timeout,
        )
        self._call("Delete", request)
        self._kept("delete", None)

    def read(
        self, type_: str, identity: str, outputs: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None
    ) -> Any:
        """Return id, properties and inputs; None if the resource is gone. With the id alone it is an import."""
        request = provider_pb2.ReadRequest(
            id=identity,
            urn=urn(type_, "it"),
            type=type_,
            name="it",
            properties=self._wire(outputs or {}),
            inputs=self._wire(inputs or {}),
        )
        answer = self._call("Read", request)
        found = {
            "id": answer.id,
            "properties": properties_from_wire(answer.properties),
            "inputs": properties_from_wire(answer.inputs),
        }
        return self._kept("read", found if answer.id else None)

    def cancel(self) -> None:
        self._call("Cancel", empty_pb2.Empty())

    def version(self) -> str:
        return str(self._call("GetPluginInfo", empty_pb2.Empty()).version)

    def _wire(self, properties: dict[str, Any]) -> Any:
        """Encode properties as the engine does, which shows no secret as one to who does not know them."""
        return properties_to_wire(properties if self.accepts_secrets else plain(properties))

    def _checked(self, call: str, type_: str, name: str, old: dict[str, Any], new: dict[str, Any]) -> Any:
        request = provider_pb2.CheckRequest(
            urn=urn(type_, name),
            type=type_,
            name=name,
            olds=self._wire(old),
            news=self._wire(new),
            randomSeed=b"\x07" * 32,
        )
        answer = self._call(call, request)
        failures = sorted((failure.property, failure.reason) for failure in answer.failures)
        return self._kept(call, failures or properties_from_wire(answer.inputs))

    def _call(self, name: str, request: Any) -> Any:
        try:
            return getattr(self.stub, name)(request, timeout=SECONDS)
        except grpc.RpcError as error:
            failed = CallError(error)
            self._kept(f"{name} fails", {"message": failed.message, "resource": failed.resource})
            raise failed from None

    def _kept(self, name: str, answer: Any) -> Any:
        self.journal.append((name, answer))
        return answer


@contextlib.contextmanager
def running(provider: str, kind: str, environment: dict[str, str] | None = None) -> Iterator[Plugin]:
    """Start a plugin as the engine does, with the engine's address as its last argument; stop it at the end."""
    command = command_of(provider, kind)
    with engine() as (served, address):
        process: Any = subprocess.Popen(
            [*command, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            with process.stdin, process.stdout:
                port = int(process.stdout.readline())
                limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
                with grpc.insecure_channel(f"127.0.0.1:{port}", options=limits) as channel:
                    yield Plugin(process, served, provider_pb2_grpc.ResourceProviderStub(channel), provider)
        finally:
            process.kill()
            process.wait()


def urn(type_: str, name: str) -> str:
    return f"urn:pulumi:dev::bench::{type_}::{name}"


def _diff(answer: Any) -> dict[str, Any]:
    return {
        "changes": provider_pb2.DiffResponse.DiffChanges.Name(answer.changes),
        "diffs": sorted(answer.diffs),
        "replaces": sorted(answer.replaces),
        "deleteBeforeReplace": answer.deleteBeforeReplace,
        "hasDetailedDiff": answer.hasDetailedDiff,
        "detailedDiff": {
            path: f"{provider_pb2.PropertyDiff.Kind.Name(change.kind)}{' (input)' if change.inputDiff else ''}"
            for path, change in sorted(answer.detailedDiff.items())
        },
    }
