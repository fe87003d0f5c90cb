"""Serves a provider to the engine in a process of its own, by Pulumi's provider protocol (`provider.proto`)."""

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from rehearsal.providers import values
from rehearsal.providers.base import CheckError, Diff, Operation, Provider
from rehearsal.providers.errors import InitError, ProviderError
from rehearsal.providers.values import Properties, properties_from_wire, properties_to_wire

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


def serve(provider: Provider, version: str, engine: str) -> None:
    """Serve a provider until the engine ends, and print the port, as the engine expects of a plugin.

    What has begun is brought to an end even where the engine was killed, as by the real providers: Helm then finishes a
    release that the state has no record of.

    Args:
        provider: The provider.
        version: Its version, which the engine asks for.
        engine: Address of the engine, to which warnings and progress are sent.
    """
    channel = grpc.insecure_channel(engine, options=_LIMITS)
    threads = ThreadPoolExecutor(max_workers=_THREADS)
    server = grpc.server(threads, options=_LIMITS)
    servicer = ProviderServicer(provider, version, engine_pb2_grpc.EngineStub(channel))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    wait_for_end_of_engine()
    limit = threading.Timer(_LAST_SECONDS, os._exit, [1])
    limit.start()
    threads.shutdown(wait=True)
    os._exit(0)


def wait_for_end_of_engine() -> None:
    """Wait until the engine closes standard input, which it does by ending, however that ends."""
    # Read from the descriptor: a thread inside of sys.stdin would keep Python from ending.
    while os.read(sys.stdin.fileno(), 1):
        pass


@dataclass
class ProviderServicer(provider_pb2_grpc.ResourceProviderServicer):
    """The calls of the protocol, each given on to the provider.

    Attributes:
        provider: The provider.
        version: Its version.
        engine: Where warnings and progress go.
    """

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
        """Take any configuration: `Configure` says what it cannot use."""
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:  # noqa: N802
        """Compare two configurations."""
        with _answered(context):
            old = properties_from_wire(request.old_inputs if request.old_inputs.fields else request.olds)
            return _diff_response(self.provider.diff_config(old, properties_from_wire(request.news)))
        raise AssertionError

    def Configure(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ConfigureResponse:  # noqa: N802
        """Take the configuration."""
        with _answered(context):
            self.provider.configure(properties_from_wire(request.args))
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:  # noqa: N802
        """Validate inputs and fill in what the provider decides."""
        with _answered(context):
            operation = self._operation(request)
            if not self.provider.serves(operation.type):
                msg = f"This stand-in does not serve {operation.type}. Install the real provider's plugin for it."
                raise ProviderError(msg)
            old = properties_from_wire(request.olds) if request.olds.fields else None
            try:
                checked = self.provider.check(operation, old, properties_from_wire(request.news))
            except CheckError as error:
                failures = [provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in error.failures]
                return provider_pb2.CheckResponse(inputs=request.news, failures=failures)
        return provider_pb2.CheckResponse(inputs=properties_to_wire(checked))

    def Diff(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:  # noqa: N802
        """Compare a resource's last inputs and outputs with new inputs."""
        with _answered(context):
            return _diff_response(
                self.provider.diff(
                    self._operation(request),
                    properties_from_wire(request.old_inputs),
                    properties_from_wire(request.olds),
                    properties_from_wire(request.news),
                )
            )
        raise AssertionError

    def Create(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:  # noqa: N802
        """Create a resource, or plan it."""
        inputs = properties_from_wire(request.properties)
        with _answered(context, inputs):
            identity, outputs = self.provider.create(self._operation(request), inputs)
        return provider_pb2.CreateResponse(id=identity, properties=_outputs(outputs, inputs))

    def Update(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:  # noqa: N802
        """Update a resource in place, or plan it."""
        inputs = properties_from_wire(request.news)
        with _answered(context, inputs):
            outputs = self.provider.update(
                self._operation(request),
                request.id,
                properties_from_wire(request.olds),
                properties_from_wire(request.old_inputs),
                inputs,
            )
        return provider_pb2.UpdateResponse(properties=_outputs(outputs, inputs))

    def Delete(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:  # noqa: N802
        """Delete a resource."""
        with _answered(context):
            self.provider.delete(
                self._operation(request),
                request.id,
                properties_from_wire(request.old_inputs),
                properties_from_wire(request.properties),
            )
        return empty_pb2.Empty()

    def Read(self, request: Any, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:  # noqa: N802
        """Read a resource as it is now; without an id in the answer it is gone."""
        with _answered(context):
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
            id=request.id, inputs=properties_to_wire(inputs), properties=_outputs(outputs, inputs)
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
            status=lambda message: self._log(request.urn, engine_pb2.INFO, message, ephemeral=True),
            warn=lambda message: self._log(request.urn, engine_pb2.WARNING, message),
        )

    def _log(self, urn: str, severity: Any, message: str, *, ephemeral: bool = False) -> None:
        self.engine.Log(engine_pb2.LogRequest(urn=urn, severity=severity, message=message, ephemeral=ephemeral))


def _outputs(outputs: Properties, inputs: Properties) -> Any:
    """Encode outputs, secret where they repeat a secret input, as pulumi-kubernetes and the Terraform bridge do."""
    return properties_to_wire(values.mark_secrets(outputs, inputs, ()))


def _diff_response(diff: Diff) -> provider_pb2.DiffResponse:
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if diff else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=sorted({str(path[0]) for path in diff.changes}),
        replaces=sorted({str(path[0]) for path in diff.replace}),
        deleteBeforeReplace=diff.delete_before_replace,
        hasDetailedDiff=True,
        detailedDiff={
            values.format_path(path): provider_pb2.PropertyDiff(kind=_KINDS[kind, path in diff.replace], inputDiff=True)
            for path, kind in diff.changes.items()
        },
    )


@contextlib.contextmanager
def _answered(context: grpc.ServicerContext, inputs: Properties | None = None) -> Iterator[None]:
    """Answer with the message of what went wrong, and for a resource that is there all the same with its outputs."""
    try:
        yield
    except InitError as error:
        _abort_with_resource(context, error, inputs or {})
    except ProviderError as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _abort_with_resource(context: grpc.ServicerContext, error: InitError, inputs: Properties) -> NoReturn:
    """End a call so that the engine keeps the resource as one that is not ready (its `rpcerror` package)."""
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.resource_id,
            inputs=properties_to_wire(inputs),
            properties=_outputs(error.outputs, inputs),
            reasons=error.reasons,
        )
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error), details=[detail])
    context.abort_with_status(
        SimpleNamespace(
            code=grpc.StatusCode.UNKNOWN,
            details=str(error),
            trailing_metadata=(("grpc-status-details-bin", status.SerializeToString()),),
        )
    )
    raise AssertionError
