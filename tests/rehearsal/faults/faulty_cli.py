"""The real Pulumi CLI, to which something happens at a boundary of a resource (see `boundaries`).

Run in the engine's place, with the path of the CLI as the first argument. Boundaries are read from its log of events,
which it writes as an operation begins: the operation goes on meanwhile, and may have come to any point of its own. With
the CLI die its plugins and the program, each of which is in a process group of its own.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.rehearsal.faults import boundaries

# How the operations of events are called on a display.
KINDS = {"create": "creating", "update": "updating", "delete": "deleting", "replace": "replacing"}
INTERVAL_SECONDS = 0.005


def main(command):
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "events"
        log.touch()
        # The CLI hides the flag of its log, and takes it where a variable says that it may be debugged.
        with (
            subprocess.Popen(
                [*command, "--event-log", str(log)], env={**os.environ, "PULUMI_DEBUG_COMMANDS": "true"}
            ) as cli,
            log.open() as events,
        ):
            while cli.poll() is None:
                for boundary in _read(events):
                    boundaries.reach(boundary, lambda: _kill(cli.pid))
                time.sleep(INTERVAL_SECONDS)
            return cli.returncode


def _read(events):
    """Yield the boundaries that have come to an open log since it was last read."""
    while True:
        where = events.tell()
        line = events.readline()
        if not line.endswith("\n"):
            # One that is being written is read when it is whole.
            events.seek(where)
            return
        begun = json.loads(line).get("resourcePreEvent")
        if begun and _is_done_by_a_provider(begun["metadata"]):
            yield boundaries.name(KINDS[begun["metadata"]["op"]], begun["metadata"]["urn"], boundaries.BEGUN)


def _is_done_by_a_provider(step):
    state = step.get("new") or step.get("old") or {}
    return step["op"] in KINDS and state.get("custom", False)


def _kill(pid):
    """Kill the CLI and all that it started; then die by the same signal, for whoever waits for this process."""
    for process in _with_descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _with_descendants(pid):
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in map(str.split, listed.splitlines())}
    found = [pid]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
