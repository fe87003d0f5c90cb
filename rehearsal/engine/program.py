"""The child process that runs the program, with its output turned into messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

from rehearsal.engine import program_host
from rehearsal.engine.deployment import Deployment
from rehearsal.engine.errors import CliError
from rehearsal.engine.project import Project
from rehearsal.engine.steps import Diagnostic


def interpreter(project: Project) -> str:
    """The Python that runs the program: of the project's virtualenv, or the engine's own.

    Raises:
        CliError: the project names a virtualenv that has no interpreter.
    """
    if project.virtualenv is None:
        return sys.executable
    python = project.virtualenv / "bin" / "python"
    if not python.exists():
        raise CliError(
            f"The 'virtualenv' option in Pulumi.yaml is set to {project.virtualenv.name!r}, but {project.virtualenv} "
            "doesn't appear to be a virtual environment: create it and install requirements.txt into it"
        )
    return str(python)


def run(project: Project, deployment: Deployment, address: str, parallel: int) -> None:
    """Run the program against the engine's address and report how it ended as the real CLI does."""
    target = deployment.target
    options = {
        "address": address,
        "project": target.project,
        "stack": target.stack,
        "organization": "organization",
        "parallel": parallel,
        "preview": deployment.preview,
        "root_directory": str(project.directory),
        "program": str(project.program),
        "config": {key: value.text for key, value in target.config.items()},
        "secret_keys": [key for key, value in target.config.items() if value.secret],
    }
    process = subprocess.Popen(
        [interpreter(project), "-u", program_host.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=project.program,
        env=os.environ | _environment(options),
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    stopper = threading.Thread(target=_stop_when_cancelled, args=(process, deployment), daemon=True)
    readers = [
        _reader(process.stdout, lambda line: deployment.sink.diagnostic(Diagnostic("info", line, stream=1))),
        _reader(process.stderr, lambda line: deployment.sink.diagnostic(Diagnostic("info#err", line, stream=2))),
    ]
    stopper.start()
    with process.stdin as stdin:
        # Configuration may be secret, so it travels on standard input, not in a file or an argument. That stays open:
        # by its end the program, which is in a session of its own, knows of an engine that was killed.
        print(json.dumps(options), file=stdin, flush=True)
        code = process.wait()
    for reader in readers:
        reader.join()
    if code == program_host.SHOWN:
        deployment.program_failed()
    elif code != 0 and not deployment.failed and not deployment.cancelled.is_set():
        deployment.program_failed(f"an unhandled error occurred: program exited with non-zero exit code: {code}")


def _environment(options: dict[str, object]) -> dict[str, str]:
    return {
        "PULUMI_PROJECT": str(options["project"]),
        "PULUMI_STACK": str(options["stack"]),
        "PULUMI_ORGANIZATION": str(options["organization"]),
        "PULUMI_DRY_RUN": "true" if options["preview"] else "false",
    }


def _reader(stream: IO[str], tell: Callable[[str], None]) -> threading.Thread:
    def read() -> None:
        for line in stream:
            tell(line.rstrip("\n"))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _stop_when_cancelled(process: subprocess.Popen[str], deployment: Deployment) -> None:
    while process.poll() is None:
        if deployment.cancelled.wait(timeout=0.5):
            process.terminate()
            return
