"""Resource hooks: functions of the program that a step waits for, called back over gRPC.

Of the hooks of the real engine (pulumi/pulumi: pkg/resource/deploy/resource_hooks.go) `before_create` is served.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import grpc
from pulumi.runtime.proto import callback_pb2, callback_pb2_grpc, resource_pb2

from rehearsal.engine import urns, values
from rehearsal.engine.errors import ProviderError
from rehearsal.engine.state import ResourceState


@dataclass(frozen=True)
class Hook:
    """A function of the program, and where it is called.

    `on_dry_run` says whether previews call it too.
    """

    name: str
    target: str
    token: str
    on_dry_run: bool


class Hooks:
    """The hooks that a program has registered, by name."""

    def __init__(self) -> None:
        self._hooks: dict[str, Hook] = {}
        self._lock = threading.Lock()

    def register(self, hook: Hook) -> None:
        """Take note of a hook.

        Raises:
            ProviderError: there is one of that name.
        """
        with self._lock:
            if hook.name in self._hooks:
                raise ProviderError(f'resource hook already registered for name "{hook.name}"')
            self._hooks[hook.name] = hook

    def before_create(self, names: tuple[str, ...], state: ResourceState, *, preview: bool) -> None:
        """Call the hooks of a resource that is to be created.

        Raises:
            ProviderError: one of them was not registered, or failed; the message is its own.
        """
        for name in names:
            with self._lock:
                hook = self._hooks.get(name)
            if hook is None:
                raise ProviderError(f'hook "{name}" was not registered')
            if preview and not hook.on_dry_run:
                continue
            error = _call(hook, state)
            if error:
                raise ProviderError(f'before hook "{name}" failed: {error}')


def _call(hook: Hook, state: ResourceState) -> str:
    request = resource_pb2.ResourceHookRequest(
        urn=state.urn,
        name=urns.name_of(state.urn),
        type=state.type,
        new_inputs=values.properties_to_wire(state.inputs),
    )
    with grpc.insecure_channel(hook.target) as channel:
        try:
            answer = callback_pb2_grpc.CallbacksStub(channel).Invoke(
                callback_pb2.CallbackInvokeRequest(token=hook.token, request=request.SerializeToString())
            )
        except grpc.RpcError as error:
            return str(error.details())
    return str(resource_pb2.ResourceHookResponse.FromString(answer.response).error)
