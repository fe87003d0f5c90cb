"""An API server that is asked by a process of its own, so that a run need not wait until the client is loaded.

Loading it takes longer than all that the guard asks of a cluster, and Python loads one thing at a time. So the program
starts this module as a process, and goes on with what it has to load itself. Requests and answers are lines of JSON on
that process's standard input and output: no other process can read them, and it ends with the one that started it.
"""

import asyncio
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from meshtrust.cluster.api import Api, ClusterError, ConflictError, ForbiddenError, NotFoundError, UnreachableError
from meshtrust.cluster.connection import client as cluster_client

if TYPE_CHECKING:
    from httpx_ws import AsyncWebSocketSession

_ERRORS = {
    kind.__name__: kind for kind in (ClusterError, NotFoundError, ForbiddenError, UnreachableError, ConflictError)
}
_ROOT = Path(__file__).resolve().parent.parent
# Not by PYTHONPATH, which a kubeconfig's command for credentials would get too, and may be Python itself.
_START = (
    "import runpy, sys; sys.path.insert(0, sys.argv[1]); "
    "runpy.run_module('meshtrust.cluster.connection.process', run_name='__main__')"
)


class ClusterProcess:
    """A process that asks a cluster."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it, where that was not done before, so that it loads the client."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(_ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process

    async def connect(self, context: str, kubeconfig: str) -> Api:
        """Return a client of the cluster that a context names; another one has another process.

        Raises:
            ClusterError: As `cluster_client.connect` raises it.
        """
        client = _Client(self.start(), context, kubeconfig)
        self._process = None
        await client.send({"context": context, "kubeconfig": kubeconfig})
        return client


class _Client:
    """An `Api` by way of another process."""

    def __init__(self, process: "subprocess.Popen[bytes]", context: str, kubeconfig: str) -> None:
        self._place = (context, kubeconfig)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._sent = 0
        self._here: asyncio.Task[Api] | None = None
        self._input, self._output = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        # A thread, because a loop that ends before the process does would tell of it.
        threading.Thread(target=self._receive, daemon=True).start()

    async def call(self, method: str, what: str, *, repeatable: bool | None = None, **request: Any) -> Any:
        """Return what the API server answers, as `Api.call` does."""
        return await self.send({"method": method, "what": what, "request": {"repeatable": repeatable, **request}})

    @asynccontextmanager
    async def open_websocket(self, *, seconds: float, **request: Any) -> "AsyncIterator[AsyncWebSocketSession]":
        """Open a websocket, as `Api.open_websocket` does: from this process, since a stream is more than an answer."""
        if self._here is None:
            self._here = asyncio.create_task(cluster_client.connect(*self._place))
        # Who gives up waiting for a pod must not end the connecting, which others wait for, too.
        api = await asyncio.shield(self._here)
        async with api.open_websocket(seconds=seconds, **request) as websocket:
            yield websocket

    async def send(self, message: dict[str, Any]) -> Any:
        self._sent += 1
        number = self._sent
        self._waiting[number] = answered = self._loop.create_future()
        try:
            _write(self._input, {"number": number, **message})
        except OSError:
            self._end()
        return await answered

    def _receive(self) -> None:
        # The loop may have ended before the last answer came.
        with suppress(RuntimeError):
            # What a process that is killed writes last may be half an answer.
            with suppress(ValueError):
                for message in map(json.loads, self._output):
                    self._loop.call_soon_threadsafe(self._resolve, message)
            self._loop.call_soon_threadsafe(self._end)

    def _resolve(self, message: dict[str, Any]) -> None:
        # An answer may be on its way while a question that cannot be sent any more ends all that wait.
        answered = self._waiting.pop(message["number"], None)
        if answered is None or answered.done():
            return
        if "error" in message:
            answered.set_exception(_ERRORS[message["error"]](message["message"], message["said"]))
        else:
            answered.set_result(message["answer"])

    def _end(self) -> None:
        msg = "The process that asks the cluster has ended before it answered. Run again."
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(ClusterError(msg))
        self._waiting.clear()


def _write(pipe: IO[bytes], message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


async def _serve() -> None:
    """Answer, until whoever started this process ends, or closes its standard input."""
    # A command by which the kubeconfig gets credentials inherits standard input, and must not read questions from it.
    questions = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def receive() -> None:
        for message in map(json.loads, questions):
            loop.call_soon_threadsafe(messages.put_nowait, message)
        loop.call_soon_threadsafe(messages.put_nowait, None)

    threading.Thread(target=receive, daemon=True).start()
    connecting: asyncio.Task[Api] | None = None
    # What a question fails by that is no answer ends the process, which whoever waits for the answer is told.
    async with asyncio.TaskGroup() as asking:
        while (message := await messages.get()) is not None:
            if connecting is None:
                connecting = asyncio.create_task(cluster_client.connect(message["context"], message["kubeconfig"]))
            asking.create_task(_answer(connecting, message))
        # Nobody waits for the rest.
        os._exit(0)


async def _answer(connecting: "asyncio.Task[Api]", message: dict[str, Any]) -> None:
    number = message["number"]
    try:
        api = await connecting
        answer = None
        if "method" in message:
            answer = await api.call(message["method"], message["what"], **message["request"])
        told = {"number": number, "answer": answer}
    except ClusterError as error:
        told = {"number": number, "error": type(error).__name__, "message": str(error), "said": error.said}
    with suppress(BrokenPipeError):
        _write(sys.stdout.buffer, told)


if __name__ == "__main__":
    # An interrupt is for the run, which ends this process by ending.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It is not asked yet, and has time to load what it will be asked by: all of that stays, and none is garbage.
    gc.disable()
    importlib.import_module("meshtrust.cluster.connection.credentials")
    gc.freeze()
    gc.enable()
    asyncio.run(_serve())
