"""The stack that has made a cluster, and exports its kubeconfig: a project of its own in the same backend."""

import json
import subprocess

from tests.rehearsal.stack import UP

# It exports what a file has, as a program for EKS or AKS exports what the cloud has made.
PROGRAM = """import json
import pulumi
value = json.loads(open("output.json").read())
pulumi.export("kubeconfig", pulumi.Output.secret(value["kubeconfig"]) if value["secret"] else value["kubeconfig"])
pulumi.export("vpcId", "vpc-1")
"""


class Infra:
    """One stack of project ``infra``, in the backend of another project."""

    def __init__(self, project, stack="prod"):
        self.name = f"organization/infra/{stack}"
        self.directory = project.directory / "infra"
        self.directory.mkdir(exist_ok=True)
        (self.directory / "Pulumi.yaml").write_text("name: infra\nruntime: python\n")
        (self.directory / "__main__.py").write_text(PROGRAM)
        self._environment = project.full_environment
        self._cli, self._stack = project.cli, stack
        self._run("stack", "init", stack, "--no-select")

    def _run(self, *arguments, **environment):
        command = [str(self._cli.path), *arguments, "--cwd", str(self.directory)]
        subprocess.run(command, env={**self._environment, **environment}, capture_output=True, text=True, check=True)

    def export(self, kubeconfig, *, secret=True):
        """Deploy it with this kubeconfig as its output."""
        (self.directory / "output.json").write_text(json.dumps({"kubeconfig": kubeconfig, "secret": secret}))
        self._run(*UP, "--stack", self._stack)
        (self.directory / "output.json").unlink()
