"""The Pulumi CLI: the user's own where one is on PATH, else the one that is built from its Go module."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from rehearsal.programs import BuildError, GoProgram, ensure_all

_MODULE = Path(__file__).parent
_PACKAGE = "github.com/pulumi/pulumi/pkg/v3"
_PINNED = re.search(rf"^\s*{re.escape(_PACKAGE)} (v\S+)", (_MODULE / "go.mod").read_text(), re.MULTILINE)
# go.mod has the version, where Renovate raises it together with all that it leads to.
VERSION = _PINNED[1] if _PINNED else ""

CLI = GoProgram(
    name="pulumi",
    title=f"the Pulumi CLI {VERSION}",
    module=_MODULE,
    package=f"{_PACKAGE}/cmd/pulumi",
    linker_flags=f"-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={VERSION}",
    packages=2100,
    prefix="pulumi-",
)


@dataclass(frozen=True)
class PulumiCli:
    """A Pulumi CLI that can run the program.

    Attributes:
        path: The executable.
        version: Its version, such as `v3.276.0`.
        is_built: Whether it was built here, and is not the user's own.
    """

    path: Path
    version: str
    is_built: bool

    def __str__(self) -> str:
        """Return its description for people."""
        return f"Pulumi CLI {self.version}, {'built from its Go module' if self.is_built else self.path}"


def find_cli() -> PulumiCli:
    """Return the CLI on PATH; if there is none, build it where it is not in the cache.

    Raises:
        BuildError: The one on PATH is too old for the program or does not run, or none can be built.
    """
    own = shutil.which("pulumi")
    if own is None:
        ensure_all([CLI])
        return PulumiCli(path=CLI.path, version=VERSION, is_built=True)
    shown = subprocess.run([own, "version"], capture_output=True, text=True, check=False)
    version = shown.stdout.strip()
    needed = required_version()
    if shown.returncode or _numbers(version) < _numbers(needed):
        found = version or shown.stderr.strip()
        msg = (
            f"The pulumi on PATH, {own}, is {found}, and the program needs {needed} or later (requiredPulumiVersion in "
            "Pulumi.yaml). Update it, or take it off PATH: the rehearsal then builds one."
        )
        raise BuildError(msg)
    return PulumiCli(path=Path(own), version=version, is_built=False)


def required_version() -> str:
    """Return the oldest CLI that the program runs on, as Pulumi.yaml has it."""
    project = yaml.safe_load((_MODULE.parents[1] / "Pulumi.yaml").read_text())
    return str(project["requiredPulumiVersion"]).removeprefix(">=")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version; a text that is not a version counts as the oldest."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(number) for number in found.groups()) if found else (0,)
