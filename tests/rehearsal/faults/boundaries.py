"""Faults of an engine at the boundary of a resource, chosen by the environment.

With a list in a file (FAULTS_SURVIVED) it dies at the first boundary that is not in the list, and adds it. With one
boundary (FAULTS_AT) it dies there, or has a command run (FAULTS_DO) and goes on.
"""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

BEGUN = "begun"


def name(kind: str, urn: str, moment: str) -> str:
    """Return the name of a boundary; the kind of an operation is the word that a display has for it ("creating")."""
    _, _, types, resource = urn.split("::", 3)
    return f"{kind} {types.rpartition('$')[2]} {resource}: {moment}"


def reach(boundary: str, die: Callable[[], object]) -> None:
    """Do what is to happen at a boundary."""
    if boundary == os.environ.get("FAULTS_AT") and "FAULTS_DO" in os.environ:
        subprocess.run(shlex.split(os.environ["FAULTS_DO"]), check=True)
    elif boundary == os.environ.get("FAULTS_AT") or _is_new(boundary):
        die()


def _is_new(boundary: str) -> bool:
    survived = os.environ.get("FAULTS_SURVIVED")
    if survived is None:
        return False
    with Path(survived).open("a+", encoding="utf-8") as file:
        file.seek(0)
        if boundary in file.read().splitlines():
            return False
        file.write(f"{boundary}\n")
        file.flush()
        os.fsync(file.fileno())
    return True
