"""Follows a page of docs/: its commands run as they stand there, and show what they are said to."""

import json
import re
import shlex

from rehearsal.workspace import REPOSITORY
from tests.rehearsal.control_plane import wait_until


def section_of(page, heading):
    """The text of a page's section, without the heading."""
    text = (REPOSITORY / "docs" / page).read_text()
    [section] = re.findall(rf"(?ms)^##+ {re.escape(heading)}$(.*?)(?=^## |\Z)", text)
    return section


def steps(section):
    """The console blocks of a section: for each the commands, each with what it is said to show."""
    blocks = re.findall(r"(?s)```console\n(.*?)```", section)
    return [re.findall(r"(?m)^\$ (.*)\n((?:[^$\n].*\n)*)", block) for block in blocks]


class Follower:
    """Runs the commands of a page on a rehearsal's stack."""

    def __init__(self, mesh):
        self._mesh = mesh

    def follow(self, block):
        """Run the commands of a block, each of which ends well and shows what it is said to."""
        for line, shown in block:
            written = "".join(map(self._run, line.split(" && ")))
            flat = " ".join(written.split())
            for expected in filter(None, re.split(r"…|\n", shown)):
                assert " ".join(expected.split()) in flat, f"`{line}` shows:\n{written}"

    def _run(self, command):
        programs = {"pulumi": self._pulumi, "meshtrust": self._meshtrust, "kubectl": self._kubectl}
        written = ""
        for part in command.split(" | "):
            program, *arguments = shlex.split(part, comments=True)
            written = programs[program](arguments, written)
        return written

    def _pulumi(self, arguments, given):
        # The bench names its own stack by an option; and a page may leave it to the reader to confirm.
        named = [argument for argument in arguments if argument != "production"]
        confirmed = ["--yes"] if arguments[0] == "up" and "--yes" not in arguments else []
        result = self._mesh.engine(*named, *confirmed, stdin=given or None)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def _meshtrust(self, arguments, _):
        where = arguments.index("--stack")
        result = self._mesh.cli(*arguments[:where], *arguments[where + 2 :])
        assert "Traceback" not in result.stderr
        return result.stdout + result.stderr

    def _kubectl(self, arguments, given):
        written = self._mesh.kubectl(*arguments, stdin=given or None)
        if arguments[0] in ("rollout", "scale"):
            listed = ("get", "deployments", "-n", arguments[arguments.index("-n") + 1], "-o", "json")
            wait_until(lambda: all(map(_is_rolled_out, json.loads(self._mesh.kubectl(*listed))["items"])), 90)
        return written


def _is_rolled_out(deployment):
    status, wanted = deployment.get("status") or {}, deployment["spec"]["replicas"]
    return (
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("replicas", 0) == status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == wanted
    )
