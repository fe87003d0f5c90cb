"""The plugins as processes: how they start, fail and end, and that none outlives its engine."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc

from rehearsal.pulumi.home import PROVIDERS, pinned_version
from tests.providers.workbench import PLUGIN, STAND_IN, CallError, engine, running

KEY = "tls:index/privateKey:PrivateKey"
ID = "random:index/randomId:RandomId"
# Long enough for whatever a plugin does at its end; a plugin that hangs fails the test.
SECONDS = 60
# While it derives a key, its main thread looks for no signal, and lets other threads run.
BUSY = """
import hashlib, threading
from rehearsal.providers.server import end_of_engine
ended = end_of_engine()
threading.Thread(target=lambda: (ended.wait(), print("ended", flush=True))).start()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000_000)
print("done", flush=True)
"""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_plugin_tells_the_pinned_version_and_ends_with_its_engine(provider):
    with running(provider, STAND_IN) as plugin:
        assert plugin.version() == pinned_version(provider)
        # An engine that is killed closes it.
        plugin.process.stdin.close()
        assert plugin.process.wait(SECONDS) == 0


@pytest.mark.parametrize("provider", [*PROVIDERS, "language"])
def test_an_interrupt_ends_a_plugin_without_a_traceback(provider):
    arguments = ["language"] if provider == "language" else [provider, pinned_version(provider)]
    with engine() as (_, address):
        process: Any = subprocess.Popen(
            [sys.executable, str(PLUGIN), *arguments, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert int(process.stdout.readline()) > 0
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_not_missed_while_the_main_thread_is_busy(number):
    process: Any = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "ended\n"
        process.kill()


def test_what_has_begun_is_brought_to_an_end_although_the_engine_was_killed():
    with running("tls", STAND_IN) as plugin, ThreadPoolExecutor() as executor:
        plugin.configure()
        # Seconds of work, which nothing can interrupt.
        making = executor.submit(plugin.create, KEY, {"algorithm": "RSA", "rsaBits": 6144})
        # Answered only after the other has begun.
        plugin.check(KEY, {"algorithm": "RSA"})
        assert not making.done()
        plugin.process.stdin.close()
        _, outputs = making.result(2 * SECONDS)
        assert "BEGIN RSA PRIVATE KEY" in outputs["privateKeyPem"].value
        assert plugin.process.wait(SECONDS) == 0


def test_a_fault_of_the_stand_in_is_one_message_and_its_traceback_is_for_debugging():
    with running("random", STAND_IN) as plugin:
        plugin.configure()
        with pytest.raises(CallError) as failed:
            # The engine checks before it creates, and so never asks for that.
            plugin.create("random:index/randomPet:RandomPet", {}, name="pet")
        assert failed.value.message.startswith(
            "The stand-in for the provider random failed in Create of random:index/randomPet:RandomPet "
            "\"pet\" (KeyError: 'random:index/randomPet:RandomPet'). This is a fault of the stand-in"
        )
        assert "Traceback" not in failed.value.message
        assert failed.value.resource is None
        severity, told = plugin.engine.logged[-1]
        assert severity == "DEBUG"
        assert "Traceback" in told
        assert "generated.py" in told
        assert plugin.create(ID, {"byteLength": 1})[0], "the plugin goes on"


def test_a_message_of_many_megabytes_arrives():
    with running("random", STAND_IN) as plugin:
        plugin.configure()
        keepers = {"large": "x" * (32 << 20)}
        assert plugin.create(ID, {"byteLength": 4, "keepers": keepers})[1]["keepers"] == keepers


def test_a_warning_to_an_engine_that_was_killed_does_not_break_what_goes_on():
    with running("tls", STAND_IN) as plugin:
        plugin.configure()
        _, key = plugin.create(KEY, {"algorithm": "ED25519"})
        pem = key["privateKeyPem"].value
        given = {"privateKeyPem": pem, "allowedUses": [], "validityPeriodHours": 1, "subject": {"commonName": "a"}}
        _, leaf = plugin.create(
            "tls:index/selfSignedCert:SelfSignedCert",
            {**given, "isCaCertificate": False},
        )
        _, request = plugin.create("tls:index/certRequest:CertRequest", {"privateKeyPem": pem})
        plugin.engine.server.stop(None).wait()
        _, signed = plugin.create(
            "tls:index/locallySignedCert:LocallySignedCert",
            {
                "caCertPem": leaf["certPem"],
                "caPrivateKeyPem": pem,
                "certRequestPem": request["certRequestPem"],
                "allowedUses": [],
                "validityPeriodHours": 1,
            },
        )
        assert "BEGIN CERTIFICATE" in signed["certPem"]


class Host:
    """A language host that runs, and a program for it, which writes to a FIFO."""

    def __init__(self, directory: Path, address: str, program: str) -> None:
        self.directory = directory
        self.address = address
        (directory / "__main__.py").write_text(program)
        os.mkfifo(directory / "fifo")
        # Without waiting for one who writes; what is read waits for that.
        self.reads = os.open(directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.process: Any = subprocess.Popen(
            [sys.executable, str(PLUGIN), "language", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "FIFO": str(directory / "fifo")},
            text=True,
        )
        assert self.process.stdout
        self.channel = grpc.insecure_channel(f"127.0.0.1:{int(self.process.stdout.readline())}")
        self.stub = language_pb2_grpc.LanguageRuntimeStub(self.channel)

    def run(self, **options: str):
        info = language_pb2.ProgramInfo(
            root_directory=str(self.directory), program_directory=str(self.directory), entry_point="."
        )
        for name, value in options.items():
            info.options[name] = value
        request = language_pb2.RunRequest(
            project="bench",
            stack="dev",
            pwd=str(self.directory),
            program=".",
            monitor_address=self.address,
            parallel=4,
            info=info,
            config={"bench:key": "value", "bench:token": "secret"},
            configSecretKeys=["bench:token"],
        )
        return self.stub.Run(request, timeout=SECONDS)

    def read(self) -> str:
        """Return what comes next of the program; nothing once it is gone."""
        assert select.select([self.reads], [], [], SECONDS)[0], "the program says nothing, and lives"
        return os.read(self.reads, 1 << 16).decode()

    def end(self):
        os.close(self.reads)
        self.channel.close()
        self.process.kill()
        self.process.stdout.close()
        self.process.wait()


WAITING = """
import os, signal
with open(os.environ["FIFO"], "w", buffering=1) as fifo:
    print(os.getpid(), file=fifo)
    while True:
        signal.pause()
"""


@pytest.fixture
def host(tmp_path):
    with engine() as (_, address), contextlib.ExitStack() as started:

        def start(program):
            serving = Host(tmp_path, address, program)
            started.callback(serving.end)
            return serving

        yield start


@pytest.mark.parametrize("end", ["kill", "interrupt", "close", "cancel"])
def test_no_program_outlives_its_language_host(host, end):
    serving = host(WAITING)
    with ThreadPoolExecutor() as executor:
        running_program = executor.submit(_ignore, serving.run)
        assert int(serving.read()) > 0
        if end == "kill":
            serving.process.kill()
        elif end == "interrupt":
            serving.process.send_signal(signal.SIGINT)
        elif end == "close":
            serving.process.stdin.close()
        else:
            serving.stub.Cancel(empty_pb2.Empty())
        # It comes to its end when nobody holds the other end any more: the program is gone.
        assert serving.read() == ""
        running_program.result(SECONDS)
    if end == "cancel":
        assert serving.process.poll() is None
    else:
        serving.process.wait(SECONDS)


def _ignore(call):
    with contextlib.suppress(grpc.RpcError):
        call()


def test_a_program_gets_its_configuration_and_its_own_directory(host):
    serving = host(
        """
import json, os, sys
import pulumi
with open(os.environ["FIFO"], "w") as fifo:
    config = pulumi.Config("bench")
    json.dump([config.require("key"), pulumi.runtime.is_config_secret("bench:token"), pulumi.get_stack(), os.getcwd(),
               "rehearsal" in sys.modules, any("rehearsal" in entry for entry in sys.path)], fifo)
os._exit(0)
"""
    )
    answer = serving.run()
    assert json.loads(serving.read()) == ["value", True, "dev", str(serving.directory), False, False]
    assert (answer.error, answer.bail) == ("", False)


def test_how_a_program_ended_is_told(host):
    assert host("import os; os._exit(3)").run().error == "program exited with non-zero exit code: 3"


def test_a_program_whose_error_is_shown_already_bails(host):
    answer = host("import os; os._exit(32)").run()
    assert (answer.error, answer.bail) == ("", True)


def test_a_virtual_environment_that_is_not_there_is_named(host):
    serving = host("")
    said = serving.run(virtualenv="none").error
    assert said == (
        f"The virtual environment of Pulumi.yaml has no {serving.directory}/none/bin/python: create it and install "
        "requirements.txt."
    )
