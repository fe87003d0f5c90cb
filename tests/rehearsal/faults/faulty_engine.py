"""The embedded engine, to which something happens at a boundary of a resource (see `boundaries`).

Run in the engine's place. A boundary is where an operation has begun and nothing was done yet, and where it was done
and the state has no record of it. The whole process group dies, as by `kill -9` of all that a terminal runs.
"""

import os
import signal
import sys
from unittest import mock

from rehearsal.engine.cli import main
from rehearsal.engine.journal import Journal
from tests.rehearsal.faults import boundaries


def _reach(moment, operation):
    boundary = boundaries.name(operation.kind, operation.resource.urn, moment)
    boundaries.reach(boundary, lambda: os.killpg(0, signal.SIGKILL))


def _begin(journal, kind, resource, really=Journal.begin):
    operation = really(journal, kind, resource)
    _reach(boundaries.BEGUN, operation)
    return operation


def _commit(journal, operation=None, *, really=Journal.commit, **outcome):
    if operation is not None and (outcome.get("add") or outcome.get("drop")):
        _reach(boundaries.MADE, operation)
    really(journal, operation, **outcome)


if __name__ == "__main__":
    with mock.patch.object(Journal, "begin", _begin), mock.patch.object(Journal, "commit", _commit):
        sys.exit(main(sys.argv[1:]))
