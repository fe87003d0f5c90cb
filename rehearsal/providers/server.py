"""Serves a provider to the engine in a process of its own, by Pulumi's provider protocol (`provider.proto`)."""

import contextlib
import functools
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from rehearsal.providers import values
from rehearsal.providers.base import Diff, Operation, Provider
from rehearsal.providers.errors import CheckError, InitError, ProviderError
from rehearsal.providers.values import properties_from_wire, properties_to_wire

# Several steps run side by side, and each may wait for minutes.
_THREADS = 64
# The time that a step has once its engine was killed. The real providers look after their engine every few minutes
# (sdk/go/common/util/rpcutil/healthcheck.go).
_LAST_SECONDS = 120.0
# The engine's own limit for one message (sdk/go/common/util/rpcutil/serve.go).
_LIMITS = [("grpc.max_receive_message_length", 400 << 20), ("grpc.max_send_message_length", 400 << 20)]
_KINDS = {
    ("add", False): provider_pb2.PropertyDiff.ADD,
    ("add", True): provider_pb2.PropertyDiff.ADD_REPLACE,
    ("delete", False): provider_pb2.PropertyDiff.DELETE,
    ("delete", True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    ("update", False): provider_pb2.PropertyDiff.UPDATE,
    ("update", True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


def load(name: str) -> Provider:
    """Return the provider of a package, loading no other's libraries.

    Args:
        name: `kubernetes`, `random` or `tls`.
    """
    provider: Provider = importlib.import_module(f"rehearsal.providers.{name}").provider()
    return provider


def serve(name: str, version: str, engine: str) -> None:
    """Serve a provider until the engine ends, and print the port, as the engine expects of a plugin.

    What has begun is brought to an end even where the engine was killed, as by the real providers: Helm then finishes a
    release that the state has no record of.

    Args:
        name: Name of its package: `kubernetes`, `random` or `tls`.
        version: Its version, which the engine asks for.
        engine: Address of the engine, to which warnings and progress are sent.
    """
    ended = end_of_engine()
    channel = grpc.insecure_channel(engine, options=_LIMITS)
    threads = ThreadPoolExecutor(max_workers=_THREADS)
    server = grpc.server(threads, options=_LIMITS)
    servicer = ProviderServicer(name, load(name), version, engine_pb2_grpc.EngineStub(channel))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    ended.wait()
    limit = threading.Timer(_LAST_SECONDS, os._exit, [1])
    limit.start()
    threads.shutdown(wait=True)
    os._exit(0)


def end_of_engine() -> threading.Event:
    """Return what is set when the engine interrupts its plugins, or closes standard input by ending, however that ends.

    To be called by the main thread, and no more than once. The signal reaches a thread by a pipe, since a handler in
    Python that sets what the main thread waits for is lost if the signal comes as that begins to wait: the engine then
    waits five seconds for its plugin.
    """
    ended = threading.Event()
    interrupted, interrupt = os.pipe()
    os.set_blocking(interrupt, False)
    signal.set_wakeup_fd(interrupt)
    for number in (signal.SIGINT, signal.SIGTERM):
        # The pipe is written for signals that have a handler.
        signal.signal(number, lambda *_: None)

    def read_to_the_end() -> None:
        # From the descriptor: a thread inside of sys.stdin would keep Python from ending.
        while os.read(sys.stdin.fileno(), 1):
            pass
        ended.set()

    def read_interrupt() -> None:
        os.read(interrupted, 1)
        ended.set()

    for read in (read_to_the_end, read_interrupt):
        threading.Thread(target=read, daemon=True).start()
    return ended


def _answered(call: Callable[["ProviderServicer", Any], Any]) -> Callable[["ProviderServicer", Any, Any], Any]:
    """Answer a failed call with the error, and with the resource if it exists nevertheless."""

    @functools.wraps(call)
    def answer(servicer: "ProviderServicer", request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(servicer, request)
        except InitError as error:
            status = _status_with_resource(error)
        except ProviderError as error:
            status = status_pb2.Status(message=str(error))
        except Exception as error:  # noqa: BLE001 - a fault of this code is reported to the user like any other
            servicer.log(request.urn, engine_pb2.DEBUG, traceback.format_exc())
            status = status_pb2.Status(
                message=f"The stand-in for the provider {servicer.name} failed in {call.__name__} of {request.type} "
                f'"{request.name}" ({type(error).__name__}: {error}). This is a fault of the stand-in, and what it had '
                "begun is not in the state. Report it with what `pulumi up --debug` shows, or install the provider's "
                "own plugin."
            )
        status.code = grpc.StatusCode.UNKNOWN.value[0]
        return context.abort_with_status(
            SimpleNamespace(
                code=grpc.StatusCode.UNKNOWN,
                details=status.message,
                trailing_metadata=(("grpc-status-details-bin", status.SerializeToString()),),
            )
        )

    return answer


def _status_with_resource(error: InitError) -> status_pb2.Status:
    """Return a status by which the engine keeps the resource as one that is not ready (its `rpcerror` package)."""
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.resource_id,
            properties=properties_to_wire(error.outputs),
            reasons=error.reasons,
        )
    )
    return status_pb2.Status(message=str(error), details=[detail])


@dataclass
class ProviderServicer(provider_pb2_grpc.ResourceProviderServicer):
    """The calls of the protocol, each given on to the provider.

    Attributes:
        name: Name of the package.
        provider: The provider.
        version: Its version.
        engine: Where warnings and progress go.
    """

    name: str
    provider: Provider
    version: str
    engine: engine_pb2_grpc.EngineStub

    def __post_init__(self) -> None:
        """Prepare for an interrupt."""
        self._cancelled = threading.Event()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:  # noqa: ARG002, N802
        """Return the version."""
        return plugin_pb2.PluginInfo(version=self.version)

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:  # noqa: ARG002, N802
        """Let each call that waits come to an end."""
        self._cancelled.set()
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:  # noqa: ARG002, N802
        """Take any configuration: `Configure` reports what it cannot use."""
        return provider_pb2.CheckResponse(inputs=request.news)

    @_answered
    def DiffConfig(self, request: Any) -> provider_pb2.DiffResponse:  # noqa: N802
        """Compare two configurations."""
        old = properties_from_wire(request.old_inputs if request.old_inputs.fields else request.olds)
        return _diff_response(self.provider.diff_config(old, properties_from_wire(request.news)))

    @_answered
    def Configure(self, request: Any) -> provider_pb2.ConfigureResponse:  # noqa: N802
        """Take the configuration."""
        self.provider.configure(properties_from_wire(request.args))
        return provider_pb2.ConfigureResponse(acceptSecrets=self.provider.accepts_secrets, supportsPreview=True)

    @_answered
    def Check(self, request: Any) -> provider_pb2.CheckResponse:  # noqa: N802
        """Validate inputs and fill in what the provider decides."""
        operation = self._operation(request)
        if not self.provider.serves(operation.type):
            msg = f"This stand-in does not serve {operation.type}. Install the provider's own plugin for it."
            raise ProviderError(msg)
        old = properties_from_wire(request.olds) if request.olds.fields else None
        try:
            checked = self.provider.check(operation, old, properties_from_wire(request.news))
        except CheckError as error:
            failures = [provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in error.failures]
            return provider_pb2.CheckResponse(inputs=request.news, failures=failures)
        return provider_pb2.CheckResponse(inputs=properties_to_wire(checked))

    @_answered
    def Diff(self, request: Any) -> provider_pb2.DiffResponse:  # noqa: N802
        """Compare a resource's last inputs and outputs with new inputs."""
        return _diff_response(
            self.provider.diff(
                self._operation(request),
                properties_from_wire(request.old_inputs),
                properties_from_wire(request.olds),
                properties_from_wire(request.news),
            )
        )

    @_answered
    def Create(self, request: Any) -> provider_pb2.CreateResponse:  # noqa: N802
        """Create a resource, or plan it."""
        identity, outputs = self.provider.create(self._operation(request), properties_from_wire(request.properties))
        return provider_pb2.CreateResponse(id=identity, properties=properties_to_wire(outputs))

    @_answered
    def Update(self, request: Any) -> provider_pb2.UpdateResponse:  # noqa: N802
        """Update a resource in place, or plan it."""
        outputs = self.provider.update(
            self._operation(request),
            request.id,
            properties_from_wire(request.olds),
            properties_from_wire(request.old_inputs),
            properties_from_wire(request.news),
        )
        return provider_pb2.UpdateResponse(properties=properties_to_wire(outputs))

    @_answered
    def Delete(self, request: Any) -> empty_pb2.Empty:  # noqa: N802
        """Delete a resource."""
        self.provider.delete(
            self._operation(request),
            request.id,
            properties_from_wire(request.old_inputs),
            properties_from_wire(request.properties),
        )
        return empty_pb2.Empty()

    @_answered
    def Read(self, request: Any) -> provider_pb2.ReadResponse:  # noqa: N802
        """Read a resource as it is now; without an id in the answer it is gone."""
        found = self.provider.read(
            self._operation(request),
            request.id,
            properties_from_wire(request.inputs),
            properties_from_wire(request.properties),
        )
        if found is None:
            return provider_pb2.ReadResponse()
        inputs, outputs = found
        return provider_pb2.ReadResponse(
            id=request.id, inputs=properties_to_wire(inputs), properties=properties_to_wire(outputs)
        )

    def _operation(self, request: Any) -> Operation:
        """Return the resource that a call is about; not every call has each of these."""
        return Operation(
            urn=request.urn,
            type=request.type,
            name=request.name,
            preview=getattr(request, "preview", False),
            timeout=getattr(request, "timeout", 0) or None,
            ignore_changes=tuple(getattr(request, "ignoreChanges", ())),
            cancelled=self._cancelled,
            status=lambda message: self.log(request.urn, engine_pb2.INFO, message, ephemeral=True),
            warn=lambda message: self.log(request.urn, engine_pb2.WARNING, message),
        )

    def log(self, urn: str, severity: Any, message: str, *, ephemeral: bool = False) -> None:
        """Show a message to the user, if the engine still runs."""
        with contextlib.suppress(grpc.RpcError):
            self.engine.Log(engine_pb2.LogRequest(urn=urn, severity=severity, message=message, ephemeral=ephemeral))


def _diff_response(diff: Diff) -> provider_pb2.DiffResponse:
    if not diff.decided:
        changes = provider_pb2.DiffResponse.DIFF_UNKNOWN
    elif diff.names or diff.detailed:
        changes = provider_pb2.DiffResponse.DIFF_SOME
    else:
        changes = provider_pb2.DiffResponse.DIFF_NONE
    return provider_pb2.DiffResponse(
        changes=changes,
        diffs=sorted(diff.names),
        replaces=sorted(diff.replaces),
        deleteBeforeReplace=diff.delete_before_replace,
        hasDetailedDiff=diff.detailed is not None,
        detailedDiff={
            values.format_path(path): provider_pb2.PropertyDiff(
                kind=_KINDS[change.kind, change.replaces], inputDiff=change.of_inputs
            )
            for path, change in (diff.detailed or {}).items()
        },
    )
