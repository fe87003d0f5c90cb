"""Serves Pulumi's language protocol (`language.proto`) for Python programs; the engine starts it as a plugin.

The host that Pulumi ships, `pulumi-language-python`, is in no package registry. This one serves what a deployment
calls: it starts the program in the project's own interpreter, and reports how that ended
(pulumi sdk/python/cmd/pulumi-language-python/main.go, Run).
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from rehearsal.providers.server import end_of_engine
from rehearsal.pulumi import program


def serve(engine: str) -> None:
    """Serve until the engine ends or interrupts.

    Args:
        engine: Address of the engine.
    """
    ended = end_of_engine()
    host = LanguageHost(engine)
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    ended.wait()
    host.end()


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """The calls of the protocol."""

    def __init__(self, engine: str) -> None:
        """Remember the engine's address, which the program needs."""
        self._engine = engine
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def Handshake(self, request: Any, context: Any) -> language_pb2.LanguageHandshakeResponse:  # noqa: ARG002, N802
        """Take the engine's greeting."""
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:  # noqa: ARG002, N802
        """Return a version, of which there is one only."""
        return plugin_pb2.PluginInfo(version="0.0.0")

    def GetRequiredPackages(self, request: Any, context: Any) -> language_pb2.GetRequiredPackagesResponse:  # noqa: ARG002, N802
        """Return no packages: each resource names its provider's version when it is registered."""
        return language_pb2.GetRequiredPackagesResponse()

    def Run(self, request: Any, context: Any) -> language_pb2.RunResponse:  # noqa: ARG002, N802
        """Run the program and report how it ended."""
        python = _interpreter(request.info)
        if not python.exists():
            return language_pb2.RunResponse(
                error=f"The virtual environment of Pulumi.yaml has no {python}: create it and install requirements.txt."
            )
        code = self._run(python, request)
        if code == program.SHOWN:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=f"program exited with non-zero exit code: {code}" if code else "")

    def RunPlugin(self, request: Any, context: Any) -> Iterator[language_pb2.RunPluginResponse]:  # noqa: ARG002, N802
        """Run a pack of policies, and give on what it writes; the engine starts no other plugin by this host.

        A pack does not get the stack's configuration, unlike with Pulumi's own host.
        """
        directory = request.info.program_directory
        command = [str(_interpreter(request.info)), "-u", "-m", "pulumi.policy", *request.args, directory]
        environment = {**os.environ, **dict(entry.split("=", 1) for entry in request.env)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=directory, env=environment, text=True)
        with self._lock:
            self._processes.add(process)
        for line in process.stdout or ():
            yield language_pb2.RunPluginResponse(stdout=line.encode())
        yield language_pb2.RunPluginResponse(exitcode=process.wait())

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: ARG002, N802
        """Interrupt the program."""
        self._interrupt()
        return empty_pb2.Empty()

    def end(self) -> None:
        """End the program, and then this process."""
        self._interrupt()
        os._exit(0)

    def _run(self, python: Path, request: Any) -> int:
        options = {
            "address": request.monitor_address,
            "engine": self._engine,
            "project": request.project,
            "stack": request.stack,
            "organization": request.organization,
            "parallel": request.parallel,
            "preview": request.dryRun,
            "root_directory": request.info.root_directory,
            "program": str(Path(request.info.program_directory) / request.info.entry_point),
        }
        environment = {
            **os.environ,
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        command = [str(python), "-u", program.__file__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=request.pwd, env=environment, text=True)
        with self._lock:
            self._processes.add(process)
        with process.stdin as stdin:  # type: ignore[union-attr]
            # It stays open: by its end the program knows of a host that was killed.
            print(json.dumps(options), file=stdin, flush=True)
            return process.wait()

    def _interrupt(self) -> None:
        with self._lock:
            for process in self._processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)


def _interpreter(info: Any) -> Path:
    """Return the Python of the virtual environment that Pulumi.yaml names, else this process's own."""
    # A protobuf Struct has no get().
    named = info.options["virtualenv"] if "virtualenv" in info.options else ""  # noqa: SIM401
    return Path(info.root_directory) / named / "bin" / "python" if named else Path(sys.executable)
