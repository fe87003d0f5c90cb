"""Prometheus' own tool and its operator's definitions, from their released modules: alerts are tested with them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from rehearsal.cluster.errors import ClusterError
from rehearsal.programs import cache_directory
from rehearsal.programs.toolchain import find_go

_PROMETHEUS = "github.com/prometheus/prometheus"
_VERSION = "v0.316.0"
_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
# Without service discovery, which promtool needs for none of what is asked of it here, half of the build is left out.
_TAGS = "remove_all_sd,netgo"


def promtool() -> Path:
    """Return the path of promtool, building it first where it is not in the rehearsal's cache.

    Raises:
        ClusterError: Go is missing, or the build fails; the message has the end of its output.
    """
    cache = cache_directory()
    built = cache / f"promtool-{_VERSION}"
    if not built.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        draft = cache / f"{built.name}.draft-{os.getpid()}"
        command = [find_go(cache), "install", "-trimpath", "-ldflags=-s -w", f"-tags={_TAGS}"]
        environment = {**os.environ, "GOBIN": str(draft)}
        _run([*command, f"{_PROMETHEUS}/cmd/promtool@{_VERSION}"], environment)
        try:
            draft.rename(built)
        except OSError:
            # Another process has built it meanwhile.
            shutil.rmtree(draft)
    return built / "promtool"


def operator_definitions() -> Path:
    """Return the directory of the Prometheus Operator's CustomResourceDefinitions, a file for each.

    Raises:
        ClusterError: Go is missing, or the module cannot be downloaded.
    """
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    written = _run([find_go(cache), "mod", "download", "-json", _OPERATOR], dict(os.environ))
    return Path(json.loads(written)["Dir"]) / "example" / "prometheus-operator-crd"


def _run(command: list[str], environment: dict[str, str]) -> str:
    # Outside of every module, so that this project's requirements have no effect.
    result = subprocess.run(
        command, env=environment, cwd=cache_directory(), capture_output=True, text=True, check=False
    )
    if result.returncode:
        end = "\n".join(result.stderr.strip().splitlines()[-20:])
        msg = f"Prometheus' tools cannot be had:\n{end}"
        raise ClusterError(msg)
    return result.stdout
