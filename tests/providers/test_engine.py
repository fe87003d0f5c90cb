"""Plugins that fail while the Pulumi CLI uses them."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal.pulumi.cli import find_cli
from rehearsal.pulumi.home import plugin_directory, write_home

REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import pulumi_random, pulumi_tls
first = pulumi_random.RandomId("first", byte_length=4)
key = pulumi_tls.PrivateKey("key", algorithm="ED25519", opts=__import__("pulumi").ResourceOptions(depends_on=[first]))
"""
# The stand-in for tls with another way to make a key.
PLUGIN = """
import os, sys
sys.path.insert(0, {repository!r})
from rehearsal.providers import server, tls
def generate(inputs):
    {statement}
tls._generate_key = generate
server.serve("tls", "5.6.2", sys.argv[-1])
"""


class Project:
    """A project in a directory, with a PULUMI_HOME of its own."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "Pulumi.yaml").write_text(json.dumps({"name": "bench", "runtime": "python"}))
        (directory / "__main__.py").write_text(PROGRAM)
        (directory / "state").mkdir()
        write_home(directory / "home")
        self.cli = find_cli().path
        self.pulumi("stack", "init", "dev")

    def break_tls(self, statement):
        """Put a plugin that does this when it makes a key in the place of tls; return what undoes that."""
        place = self.directory / "home" / "plugins" / plugin_directory("tls")
        place.rename(place.with_name("whole"))
        place.mkdir()
        (self.directory / "broken.py").write_text(PLUGIN.format(repository=str(REPOSITORY), statement=statement))
        script = place / "pulumi-resource-tls"
        command = shlex.join([sys.executable, str(self.directory / "broken.py")])
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)

    def mend_tls(self):
        place = self.directory / "home" / "plugins" / plugin_directory("tls")
        place.rename(place.with_name("broken"))
        place.with_name("whole").rename(place)

    def pulumi(self, *arguments):
        return subprocess.run(
            [self.cli, *arguments, "--cwd", self.directory, "--non-interactive"],
            env={
                **os.environ,
                "PULUMI_HOME": str(self.directory / "home"),
                "PULUMI_BACKEND_URL": f"file://{self.directory / 'state'}",
                "PULUMI_CONFIG_PASSPHRASE": "a passphrase",
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def resources(self):
        deployment = json.loads(self.pulumi("stack", "export", "--show-secrets").stdout)["deployment"]
        return {item["urn"].rsplit("::", 1)[-1]: item for item in deployment["resources"]}


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_a_plugin_of_the_users_own_is_found_by_the_engine(tmp_path, monkeypatch):
    installed = tmp_path / "own" / "plugins" / plugin_directory("random")
    installed.mkdir(parents=True)
    (installed / "pulumi-resource-random").write_text("#!/bin/sh\n")
    (installed / "pulumi-resource-random").chmod(0o755)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "own"))
    (tmp_path / "project").mkdir()
    listed = Project(tmp_path / "project").pulumi("plugin", "ls", "--json")
    assert {each["name"] for each in json.loads(listed.stdout)} >= {"random", "tls", "kubernetes"}
    used = tmp_path / "project" / "home" / "plugins" / plugin_directory("random") / "pulumi-resource-random"
    assert used.resolve() == installed / "pulumi-resource-random"


def test_a_plugin_that_dies_is_named_and_what_it_began_is_not_taken_for_whole(project):
    project.break_tls("os._exit(9)")
    failed = project.pulumi("up", "--yes", "--skip-preview")
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "pulumi-resource-tls" in said
    kept = project.resources()
    assert "key" not in kept
    assert kept["first"]["outputs"]["byteLength"] == 4, "what was done before is kept"
    project.mend_tls()
    resumed = project.pulumi("up", "--yes", "--skip-preview")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert project.resources()["key"]["outputs"]["algorithm"] == "ED25519"


def test_a_fault_of_a_plugin_is_one_message_and_a_traceback_for_debugging(project):
    project.break_tls('raise KeyError("unforeseen")')
    failed = project.pulumi("up", "--yes", "--skip-preview")
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert 'The stand-in for the provider tls failed in Create of tls:index/privateKey:PrivateKey "key"' in said
    # Pulumi's SDK may show one of its own, of a call that the ending engine did not answer.
    assert "generated.py" not in said
    assert "key" not in project.resources()
    assert "generated.py" in project.pulumi("up", "--yes", "--skip-preview", "--debug").stdout
