"""The engine of a workspace under the name `pulumi`, for commands that call it by that name."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rehearsal.workspace import REPOSITORY, Workspace


@contextmanager
def environment_with_pulumi(project: Workspace) -> Iterator[dict[str, str]]:
    """Yield the environment in which `pulumi` is the workspace's engine, the real one or the embedded one.

    Args:
        project: The workspace.
    """
    environment = {**os.environ, **project.environment, "PYTHONPATH": str(REPOSITORY)}
    if project.is_real:
        yield environment
        return
    with TemporaryDirectory(prefix="meshtrust-bin-") as directory:
        shim = Path(directory) / "pulumi"
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rehearsal.engine "$@"\n')
        shim.chmod(0o755)
        yield {**environment, "PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}
