"""A scratch project with its own state directory, and the engine's command line on it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from rehearsal.engine.cli import main

ROOT = Path(__file__).parents[2]
ENGINE = (sys.executable, "-m", "rehearsal.engine")


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Workbench:
    """A project directory; `pulumi` is the command that stands for the CLI."""

    directory: Path
    pulumi: tuple[str, ...] = ENGINE
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        (self.directory / "state").mkdir(parents=True, exist_ok=True)
        self.project()

    def project(self, **extra: object) -> None:
        """Write Pulumi.yaml."""
        (self.directory / "Pulumi.yaml").write_text(json.dumps({"name": "bench", "runtime": "python", **extra}))

    def program(self, text: str) -> None:
        """Write the program; it may use `pulumi`, `tls`, `random` and `options`."""
        header = (
            "import os\nimport pulumi\nimport pulumi_random as random\nimport pulumi_tls as tls\n"
            "from pulumi import ResourceOptions as options\n"
        )
        (self.directory / "__main__.py").write_text(header + textwrap.dedent(text))

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> Result:
        """Run one command; the engine's own in this process, which saves a second each, others as a child."""
        if self.pulumi == ENGINE:
            return self._run_here(arguments, stdin, self.variables(environment))
        process = subprocess.run(
            [*self.pulumi, *arguments],
            cwd=self.directory,
            env=self.variables(environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Result(process.returncode, process.stdout, process.stderr)

    def _run_here(self, arguments: tuple[str, ...], stdin: str, variables: dict[str, str]) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.directory),
            mock.patch.dict(os.environ, variables, clear=True),
            mock.patch("sys.stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(arguments)
        return Result(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: str, **environment: str) -> Result:
        """Run one command that must succeed."""
        result = self.run(*arguments, **environment)
        assert result.code == 0, result.text
        return result

    def up(self, **environment: str) -> Result:
        """Deploy without a preview."""
        return self.ok("up", "--yes", "--skip-preview", **environment)

    def plan(self, **environment: str) -> list[tuple[str, str]]:
        """What a preview would do, as pairs of operation and resource name; the stack itself is left out."""
        steps = self.digest(**environment).get("steps") or []
        return [
            (step["op"], step["urn"].rsplit("::", 1)[-1])
            for step in steps
            if "pulumi:pulumi:Stack::" not in step["urn"]
        ]

    def digest(self, **environment: str) -> dict:
        return json.loads(self.ok("preview", "--json", **environment).out)

    def outputs(self) -> dict:
        return json.loads(self.ok("stack", "output", "--json", "--show-secrets").out)

    @property
    def state_file(self) -> Path:
        return self.directory / "state/.pulumi/stacks/bench/dev.json"

    def resources(self) -> dict[str, dict]:
        """The resources of the state file by name, those that await deletion under `<name> (deleted)`."""
        latest = json.loads(self.state_file.read_text())["checkpoint"]["latest"]
        return {
            item["urn"].rsplit("::", 1)[-1] + (" (deleted)" if item.get("delete") else ""): item
            for item in latest.get("resources", [])
        }

    def variables(self, extra: dict[str, str]) -> dict[str, str]:
        """The environment of a command."""
        given = {
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{self.directory}/state",
            "PULUMI_CONFIG_PASSPHRASE": "correct horse",
            "PULUMI_HOME": str(self.directory / "home"),
            "PULUMI_STACK": "dev",
            "PYTHONPATH": str(ROOT),
            **extra,
        }
        return {name: value for name, value in given.items() if name not in self.without}
