"""The embedded engine, to which something happens at a boundary of a resource.

Run in the engine's place. With a list in a file (FAULTS_SURVIVED) it dies at the first boundary that is not in the
list, and adds it. With one boundary (FAULTS_AT) it dies there, or has a command run (FAULTS_DO) and goes on. A boundary
is where an operation has begun and nothing was done yet, and where it was done and the state has no record of it. The
whole process group dies, as by `kill -9` of all that a terminal runs.
"""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from rehearsal.engine import urns
from rehearsal.engine.cli import main
from rehearsal.engine.journal import Journal

BEGUN, MADE = "begun", "made, not recorded"


def _reach(moment, operation):
    resource = operation.resource
    boundary = f"{operation.kind} {urns.type_of(resource.urn)} {urns.name_of(resource.urn)}: {moment}"
    if boundary == os.environ.get("FAULTS_AT") and "FAULTS_DO" in os.environ:
        subprocess.run(shlex.split(os.environ["FAULTS_DO"]), check=True)
    elif boundary == os.environ.get("FAULTS_AT") or _is_new(boundary):
        os.killpg(0, signal.SIGKILL)


def _is_new(boundary):
    survived = os.environ.get("FAULTS_SURVIVED")
    if survived is None:
        return False
    with Path(survived).open("a+") as file:
        file.seek(0)
        if boundary in file.read().splitlines():
            return False
        file.write(f"{boundary}\n")
        file.flush()
        os.fsync(file.fileno())
    return True


def _begin(journal, kind, resource, really=Journal.begin):
    operation = really(journal, kind, resource)
    _reach(BEGUN, operation)
    return operation


def _commit(journal, operation=None, *, really=Journal.commit, **outcome):
    if operation is not None and (outcome.get("add") or outcome.get("drop")):
        _reach(MADE, operation)
    really(journal, operation, **outcome)


if __name__ == "__main__":
    with mock.patch.object(Journal, "begin", _begin), mock.patch.object(Journal, "commit", _commit):
        sys.exit(main(sys.argv[1:]))
