"""The Pulumi ESC environments of a stack's file: a command reaches the cluster by them as `pulumi up` does."""

import asyncio
import json
import os

import pytest
import yaml

from meshtrust.cluster.api import ClusterError
from meshtrust.stacks.stack import Stack, StackError, cli
from meshtrust.stacks.target import Selection, open_target
from tests.http_server import serving
from tests.kubeconfig_outputs import TOKEN, kubeconfig
from tests.recorder import REPOSITORY

ANSWERS = {"/version": {"gitVersion": "v1.36.0"}, "/api/v1/namespaces/kube-system": {"metadata": {"uid": "6c4f"}}}


@pytest.fixture
def seen():
    return []


@pytest.fixture
def server(seen):
    """An API server that answers what a command asks before anything else."""

    def answer(path):
        found = ANSWERS.get(path.partition("?")[0])
        return (200, json.dumps(found).encode()) if found else (404, b"{}")

    with serving(answer, seen) as url:
        yield url


class Project:
    """A stack whose file lists environments, and a CLI that opens them."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "stacks").mkdir()
        (directory / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
        self.stack = Stack("acme/meshtrust/prod", directory)
        program = directory / "bin" / "pulumi"
        program.parent.mkdir()
        program.write_text(
            f"""#!/bin/sh
[ "$1" = version ] && echo v3.272.0 && exit
echo "$*" >> {directory}/asked
case "$*" in
*"stack output"*) echo '{{}}';;
*"env open"*) for last; do :; done; for name; do [ "$name" = "$last" ] || environment=$name; done
  cat "{directory}/$(echo $environment | tr / -)-$last" 2>/dev/null && exit
  echo "error: [404] Not Found: environment not found" >&2; exit 1;;
esac
"""
        )
        program.chmod(0o755)

    def list(self, environment, **config):
        named = {f"meshtrust:{key}": value for key, value in {"context": "mesh", **config}.items()}
        text = yaml.safe_dump({"environment": environment, "config": named})
        (self.directory / "stacks" / "Pulumi.prod.yaml").write_text(text)

    def define(self, name, *, files=None, variables=None):
        """Define an environment, of which the CLI shows a part that is missing as null."""
        for section, values in (("files", files), ("environmentVariables", variables)):
            (self.directory / f"{name.replace('/', '-')}-{section}").write_text(json.dumps(values))

    def open(self, **options):
        selection = Selection(stack="acme/meshtrust/prod", directory=self.directory, **options)
        return asyncio.run(open_target(selection))

    @property
    def opened(self):
        lines = (self.directory / "asked").read_text().splitlines()
        return [line.partition("env open ")[2] for line in lines if "env open" in line]


@pytest.fixture
def project(tmp_path, monkeypatch):
    cli.cache_clear()
    made = Project(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    # What a run of `pulumi up` before has left, or a shell has.
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    return made


def of(server, user, **cluster):
    return yaml.safe_dump(kubeconfig(user, name="mesh", server=server, **cluster))


def bearers(seen):
    return {headers["authorization"] for headers in seen if "authorization" in headers}


def test_a_kubeconfig_among_the_files_leads_to_the_cluster_and_is_written_to_no_file(project, server, seen, tmp_path):
    project.list(["mesh/prod"])
    project.define("acme/mesh/prod", files={"KUBECONFIG": of(server, {"token": TOKEN})})
    assert project.open().context == "mesh"
    assert bearers(seen) == {f"Bearer {TOKEN}"}
    assert project.opened == ["acme/mesh/prod environmentVariables", "acme/mesh/prod files"]
    assert list((tmp_path / "temporary").iterdir()) == []
    written = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN in path.read_text()]
    assert written == [tmp_path / "acme-mesh-prod-files"], "what the service has"


def test_the_path_of_a_kubeconfig_among_the_variables_leads_there_too(project, server, seen, tmp_path):
    for number in (1, 2):
        (path := tmp_path / f"kubeconfig-{number}").write_text(of(server, {"token": f"{TOKEN}-{number}"}))
        project.list(["other/mesh/prod"])
        project.define("other/mesh/prod", variables={"KUBECONFIG": str(path)})
        project.open()
    assert bearers(seen) == {f"Bearer {TOKEN}-1", f"Bearer {TOKEN}-2"}


def test_the_last_environment_counts_that_gives_its_values(project, server, seen):
    lent = {"mesh/lent": {"merge": False}}
    project.list({"imports": ["mesh/base", {"mesh/prod": {"merge": True}}, lent], "values": {"pulumiConfig": {}}})
    project.define("acme/mesh/base", files={"KUBECONFIG": of(server, {"token": "base"})})
    project.define("acme/mesh/prod", files={"KUBECONFIG": of(server, {"token": "prod"})})
    project.define("acme/mesh/lent", files={"KUBECONFIG": of(server, {"token": "lent"})})
    project.open()
    assert bearers(seen) == {"Bearer prod"}


@pytest.mark.parametrize("by", ["the stack's file", "the command"])
def test_a_kubeconfig_that_is_named_goes_before_those_of_environments(project, server, seen, tmp_path, by):
    (path := tmp_path / "kubeconfig").write_text(of(server, {"token": "named"}))
    project.list(["mesh/prod"], **({"kubeconfig": str(path)} if by == "the stack's file" else {}))
    project.define("acme/mesh/prod", files={"KUBECONFIG": of(server, {"token": TOKEN})})
    project.open(**({} if by == "the stack's file" else {"kubeconfig": str(path)}))
    assert bearers(seen) == {"Bearer named"}


def test_the_command_for_credentials_has_the_variables_and_none_that_decrypts(project, server, seen, tmp_path):
    """As `aws eks get-token` has the credentials of the environment that logs in to AWS."""
    (plugin := tmp_path / "plugin").write_text(
        f"""#!/bin/sh
echo "$CLOUD_TOKEN $REGION $PULUMI_CONFIG_PASSPHRASE" > {tmp_path}/environment
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "minted"}}}}'
"""
    )
    plugin.chmod(0o755)
    own = [{"name": "REGION", "value": "own"}]
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "env": own}
    project.list(["mesh/prod"])
    variables = {"CLOUD_TOKEN": "hush", "REGION": "of the environment", "PULUMI_CONFIG_PASSPHRASE": "secret"}
    content = of(server, {"exec": {**command, "interactiveMode": "Never"}})
    project.define("acme/mesh/prod", files={"KUBECONFIG": content}, variables=variables)
    project.open()
    assert bearers(seen) == {"Bearer minted"}
    assert (tmp_path / "environment").read_text().split() == ["hush", "own"]
    assert "CLOUD_TOKEN" not in os.environ


def test_a_stack_without_environments_opens_none(project, server, tmp_path, monkeypatch):
    (path := tmp_path / "kubeconfig").write_text(of(server, {"token": TOKEN}))
    monkeypatch.setenv("KUBECONFIG", str(path))
    project.list(None)
    project.open()
    assert project.opened == []


def test_an_environment_that_cannot_be_opened_is_named_with_the_file_that_lists_it(project):
    project.list(["mesh/gone"])
    with pytest.raises(StackError) as caught:
        project.open()
    message = str(caught.value)
    assert message.startswith("Environment acme/mesh/gone, which ")
    assert message.endswith("Pulumi.prod.yaml lists, cannot be opened: [404] Not Found: environment not found")


def test_files_that_the_stacks_file_defines_itself_are_refused_and_not_repeated(project):
    project.list({"values": {"files": {"KUBECONFIG": TOKEN}}})
    with pytest.raises(StackError, match=r"has an environment with files of its own.*pulumi config env add") as caught:
        project.open()
    assert TOKEN not in str(caught.value)


def test_a_kubeconfig_of_an_environment_without_the_context_is_told_so_and_not_repeated(project, server):
    project.list(["mesh/prod"], context="elsewhere")
    project.define("acme/mesh/prod", files={"KUBECONFIG": of(server, {"token": TOKEN})})
    with pytest.raises(ClusterError, match='context is "elsewhere", and the kubeconfig that was given') as caught:
        project.open()
    assert TOKEN not in str(caught.value)
