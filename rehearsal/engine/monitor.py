"""The two gRPC services that a Pulumi program talks to: ResourceMonitor and Engine.

The protocol is the SDK's own (stubs: `pulumi.runtime.proto`). What the engine does not serve is answered with one
sentence, or not advertised, so that the SDK refuses it itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from rehearsal.engine import values
from rehearsal.engine.aliases import Alias
from rehearsal.engine.deployment import Deployment, Goal, ShutdownError
from rehearsal.engine.errors import CliError, ProviderError
from rehearsal.engine.hooks import Hook
from rehearsal.engine.steps import Diagnostic

VERSION = "3.272.0"
_MESSAGE_LIMIT = 1024 * 1024 * 400
_SUPPORTED = {
    "secrets": resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    "resourceReferences": resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    "aliasSpecs": resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    "replacementTrigger": resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACEMENT_TRIGGER,
    "deletedWith": resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
    "resourceHooks": resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS,
}
_SEVERITIES = {
    engine_pb2.DEBUG: "debug",
    engine_pb2.INFO: "info",
    engine_pb2.WARNING: "warning",
    engine_pb2.ERROR: "error",
}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# What the SDK logs of its own accord after the engine has refused it; the reason is already displayed.
_ECHO = "Resource monitor has terminated, shutting down"

_Answer = TypeVar("_Answer")


@contextmanager
def serve(deployment: Deployment, parallel: int) -> Iterator[str]:
    """Serve a deployment on a free port of 127.0.0.1; gives the address."""
    # A registration holds its thread until its step has ended, so there must be more threads than steps.
    executor = ThreadPoolExecutor(max_workers=max(parallel * 8, 64), thread_name_prefix="monitor")
    server = grpc.server(
        executor,
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
            ("grpc.max_send_message_length", _MESSAGE_LIMIT),
            ("grpc.so_reuseport", 0),
        ],
    )
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(_Monitor(deployment, parallel), server)
    engine_pb2_grpc.add_EngineServicer_to_server(_Engine(deployment), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=1).wait()
        executor.shutdown(wait=True)


class _Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """Turns registrations into goals of the deployment."""

    def __init__(self, deployment: Deployment, parallel: int) -> None:
        self._deployment = deployment
        self._parallel = parallel

    def GetDeploymentInfo(self, request: Any, context: Any) -> resource_pb2.DeploymentInfo:  # noqa: ARG002, N802
        """What is deployed, and what the engine supports."""
        target = self._deployment.target
        return resource_pb2.DeploymentInfo(
            project=target.project,
            stack=target.stack,
            organization="organization",
            config={key: value.text for key, value in target.config.items()},
            configSecretKeys=[key for key, value in target.config.items() if value.secret],
            dryRun=self._deployment.preview,
            parallel=self._parallel,
            supportedFeatures=list(_SUPPORTED.values()),
        )

    def SupportsFeature(self, request: Any, context: Any) -> resource_pb2.SupportsFeatureResponse:  # noqa: ARG002, N802
        """Whether the engine supports one feature."""
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in _SUPPORTED)

    def RegisterResource(self, request: Any, context: Any) -> resource_pb2.RegisterResourceResponse:  # noqa: N802
        """Register a resource and answer when its step has ended."""

        def register() -> resource_pb2.RegisterResourceResponse:
            state = self._deployment.register(_goal(request))
            return resource_pb2.RegisterResourceResponse(
                urn=state.urn,
                id="" if state.id == values.UNKNOWN_TEXT else state.id,
                object=values.properties_to_wire(state.outputs if state.custom else state.inputs),
            )

        return self._answer(context, register)

    def RegisterResourceOutputs(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        """Record the outputs of a component."""

        def register() -> empty_pb2.Empty:
            self._deployment.register_outputs(request.urn, values.properties_from_wire(request.outputs))
            return empty_pb2.Empty()

        return self._answer(context, register)

    def ReadResource(self, request: Any, context: Any) -> resource_pb2.ReadResourceResponse:  # noqa: N802
        """Read a resource that the program does not manage."""

        def read() -> resource_pb2.ReadResourceResponse:
            goal = Goal(
                type=request.type,
                name=request.name,
                custom=True,
                parent=request.parent,
                inputs=values.properties_from_wire(request.properties),
                provider=request.provider,
                version=request.version,
                dependencies=tuple(request.dependencies),
                additional_secret_outputs=tuple(request.additionalSecretOutputs),
            )
            state = self._deployment.read(goal, request.id)
            return resource_pb2.ReadResourceResponse(urn=state.urn, properties=values.properties_to_wire(state.outputs))

        return self._answer(context, read)

    def Invoke(self, request: Any, context: Any) -> resource_pb2.ResourceInvokeResponse:  # noqa: N802
        """Refuse: no provider here serves functions."""
        self._refuse(context, f"the embedded engine does not serve the function {request.tok}")

    def Call(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse: no provider here serves methods."""
        self._refuse(context, f"the embedded engine does not serve the method {request.tok}")

    def RegisterPackage(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse: no provider here takes parameters."""
        self._refuse(context, f"the embedded engine does not serve the parameterized package {request.name}")

    def RegisterResourceHook(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        """Take note of a function that a step is to wait for."""

        def register() -> empty_pb2.Empty:
            if request.ignore_errors:
                raise ProviderError(f"the embedded engine does not serve hooks that may fail ({request.name})")
            hook = Hook(request.name, request.callback.target, request.callback.token, request.on_dry_run)
            self._deployment.hooks.register(hook)
            return empty_pb2.Empty()

        return self._answer(context, register)

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: ARG002, N802
        """The program has registered everything; without hooks for deletions it has nothing to stay for."""
        return empty_pb2.Empty()

    def _answer(self, context: Any, work: Callable[[], _Answer]) -> _Answer:
        try:
            return work()
        except ShutdownError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except (CliError, ProviderError) as error:
            self._refuse(context, str(error))
        except Exception as error:
            # Whatever else happens is a fault of the engine; it must not look like success.
            self._deployment.error(f"internal error of the embedded engine: {type(error).__name__}: {error}")
            raise
        raise AssertionError("abort raises")

    def _refuse(self, context: Any, message: str) -> NoReturn:
        self._deployment.error(message)
        context.abort(grpc.StatusCode.UNAVAILABLE, message)
        raise AssertionError("abort raises")


class _Engine(engine_pb2_grpc.EngineServicer):
    """Takes messages of the program and keeps its root resource."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._root = ""

    def Log(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: ARG002, N802
        """Display a message; an error makes the deployment fail once the program ends."""
        severity = _SEVERITIES[request.severity]
        if not (severity == "error" and self._deployment.failed and _ECHO in request.message):
            self._deployment.sink.diagnostic(
                Diagnostic(severity, request.message, request.urn, ephemeral=request.ephemeral)
            )
        return empty_pb2.Empty()

    def GetRootResource(self, request: Any, context: Any) -> engine_pb2.GetRootResourceResponse:  # noqa: ARG002, N802
        """The root resource's URN."""
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: Any, context: Any) -> engine_pb2.SetRootResourceResponse:  # noqa: ARG002, N802
        """Set the root resource."""
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def RequirePulumiVersion(self, request: Any, context: Any) -> engine_pb2.RequirePulumiVersionResponse:  # noqa: N802
        """Check a version range against the CLI version whose behaviour the engine follows."""
        if not in_range(VERSION, request.pulumi_version_range):
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Pulumi CLI version {VERSION} does not satisfy the version range "{request.pulumi_version_range}"',
            )
        return engine_pb2.RequirePulumiVersionResponse()


def in_range(version: str, wanted: str) -> bool:
    """Whether a version satisfies a range such as `>=3.250.0 !3.251.0 || >4.0.0`."""
    comparisons: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
        ">=": lambda a, b: a >= b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        "<": lambda a, b: a < b,
        "!": lambda a, b: a != b,
        "!=": lambda a, b: a != b,
        "": lambda a, b: a == b,
        "=": lambda a, b: a == b,
        "==": lambda a, b: a == b,
    }
    mine = tuple(int(part) for part in version.split("."))
    return any(
        all(
            comparisons[operator](mine, tuple(int(part) for part in other.split(".")))
            for operator, other in re.findall(r"([<>=!]*)\s*v?(\d+\.\d+\.\d+)", alternative)
        )
        for alternative in wanted.split("||")
    )


def _goal(request: Any) -> Goal:
    about = f"resource '{request.name}' ({request.type})"
    if request.remote:
        raise ProviderError(f"{about} is a remote component, which the embedded engine does not serve")
    if request.importId:
        raise ProviderError(f"{about} is to be imported, which the embedded engine does not serve")
    bound = [kind.name for kind, _ in request.hooks.ListFields() if kind.name != "before_create"]
    if bound or (request.hooks.before_create and not request.custom):
        kinds = ", ".join(bound) or "before_create of a component"
        raise ProviderError(f"{about} has hooks that the embedded engine does not serve ({kinds})")
    return Goal(
        type=request.type,
        name=request.name,
        custom=request.custom,
        parent=request.parent,
        inputs=values.properties_from_wire(request.object),
        provider=request.provider,
        providers=dict(request.providers),
        version=request.version,
        dependencies=tuple(request.dependencies),
        property_dependencies={key: sorted(item.urns) for key, item in sorted(request.propertyDependencies.items())},
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        deleted_with=request.deletedWith,
        delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
        ignore_changes=tuple(request.ignoreChanges),
        replace_on_changes=tuple(request.replaceOnChanges),
        replacement_trigger=(
            values.from_wire(request.replacement_trigger) if request.HasField("replacement_trigger") else None
        ),
        additional_secret_outputs=tuple(request.additionalSecretOutputs),
        aliases=tuple(_alias(item) for item in request.aliases) + tuple(Alias(urn=urn) for urn in request.aliasURNs),
        custom_timeouts={
            kind: seconds
            for kind in ("create", "update", "delete", "read")
            if (seconds := duration(getattr(request.customTimeouts, kind)))
        },
        before_create=tuple(request.hooks.before_create),
    )


def _alias(item: Any) -> Alias:
    if item.WhichOneof("alias") == "urn":
        return Alias(urn=item.urn)
    spec = item.spec
    parent = {"parentUrn": spec.parentUrn, "noParent": ""}.get(spec.WhichOneof("parent") or "")
    return Alias(name=spec.name, type=spec.type, stack=spec.stack, project=spec.project, parent=parent)


def duration(text: str) -> float:
    """A Go duration such as `5m` or `1h30m` in seconds; 0 for an empty text.

    Raises:
        ProviderError: the text is not a duration.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if text and "".join(number + unit for number, unit in parts) != text:
        raise ProviderError(f'unable to parse customTimeout value "{text}": it must be like 90s, 5m or 1h30m')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
