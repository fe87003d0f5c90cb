"""The Pulumi CLI of the rehearsal: which one it is, and what is said where none can be had."""

import contextlib
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from rehearsal.programs import BuildError, GoProgram, ensure_all
from rehearsal.pulumi.cli import CLI, VERSION, find_cli, required_version
from rehearsal.pulumi.home import describe_plugins, plugin_directory, write_home
from rehearsal.workspace import workspace
from tests.rehearsal.control_plane import wait_until


@pytest.fixture
def own_pulumi(tmp_path, monkeypatch):
    """Put a `pulumi` on PATH that says a version."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def put(said, code=0):
        script = directory / "pulumi"
        script.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
        return script

    return put


@pytest.fixture
def no_pulumi(monkeypatch):
    """Take every `pulumi` off PATH."""
    places = os.environ["PATH"].split(os.pathsep)
    monkeypatch.setenv("PATH", os.pathsep.join(place for place in places if not (Path(place) / "pulumi").exists()))


@pytest.mark.usefixtures("no_pulumi")
def test_the_cli_is_built_where_none_is_on_path_and_says_its_version():
    cli = find_cli()
    assert (cli.path, cli.is_built) == (CLI.path, True)
    assert subprocess.run([cli.path, "version"], capture_output=True, text=True, check=True).stdout.strip() == VERSION
    assert str(cli) == f"Pulumi CLI {VERSION}, built from its Go module"


def test_the_cli_on_path_is_taken_if_it_is_new_enough(own_pulumi):
    own = own_pulumi(f"v{required_version()}")
    assert (find_cli().path, find_cli().is_built) == (own, False)


@pytest.mark.parametrize(("said", "code"), [("v3.100.0", 0), ("no version", 0), ("v3.999.0", 1), ("", 127)])
def test_a_cli_on_path_that_is_too_old_or_does_not_run_is_refused(own_pulumi, said, code):
    own = own_pulumi(said, code)
    with pytest.raises(BuildError, match="Update it, or take it off PATH") as refused:
        find_cli()
    assert str(own) in str(refused.value)
    assert required_version() in str(refused.value)


def test_an_installed_plugin_of_the_pinned_version_goes_before_the_stand_in(tmp_path, monkeypatch):
    users = tmp_path / "users"
    monkeypatch.setenv("PULUMI_HOME", str(users))
    real = users / "plugins" / plugin_directory("tls") / "pulumi-resource-tls"
    real.parent.mkdir(parents=True)
    real.touch(mode=0o755)
    other = users / "plugins" / f"resource-random-v{version('pulumi-random')}0" / "pulumi-resource-random"
    other.parent.mkdir(parents=True)
    other.touch(mode=0o755)
    home = tmp_path / "home"
    write_home(home)
    assert describe_plugins() == "real: tls; stand-ins: kubernetes, random"
    assert (home / "plugins" / plugin_directory("tls") / "pulumi-resource-tls").resolve() == real

    # A shell with this home has the user's own nevertheless.
    monkeypatch.setenv("PULUMI_HOME", str(home))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert describe_plugins() == "stand-ins: kubernetes, random, tls"


def build(tmp_path, monkeypatch, **changed):
    """Build a small program into a cache of its own."""
    monkeypatch.setenv("MESHTRUST_CACHE", str(tmp_path / "cache"))
    module = tmp_path / "module"
    module.mkdir(exist_ok=True)
    (module / "go.mod").write_text("module small\n\ngo 1.22\n")
    (module / "main.go").write_text(changed.pop("source", "package main\n\nfunc main() {}\n"))
    program = GoProgram(
        name="small", title="a small program", module=module, package=".", linker_flags="-s", packages=1, **changed
    )
    ensure_all([program])
    return program


def test_what_was_built_is_kept_and_a_half_done_build_is_not_taken_for_whole(tmp_path, monkeypatch):
    with pytest.raises(BuildError, match=r"a small program cannot be built:(.|\n)*undefined: nothing"):
        build(tmp_path, monkeypatch, source="package main\n\nfunc main() { nothing() }\n")
    program = build(tmp_path, monkeypatch)
    made = program.path.stat().st_mtime_ns
    assert build(tmp_path, monkeypatch).path.stat().st_mtime_ns == made
    draft = program.directory.with_name(f"{program.directory.name}.draft")
    program.directory.rename(draft)
    assert not program.path.exists()
    assert build(tmp_path, monkeypatch).path.exists()


def test_a_module_that_cannot_be_downloaded_is_said_in_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    source = 'package main\n\nimport _ "example.com/not/here"\n\nfunc main() {}\n'
    with pytest.raises(BuildError, match="The Go modules of a small program cannot be downloaded"):
        build(tmp_path, monkeypatch, source=source)


def test_a_cache_that_cannot_be_written_is_said_with_its_path(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the directory belongs")
    with pytest.raises(BuildError, match=rf"cache {tmp_path}/cache cannot be written: .*Set MESHTRUST_CACHE"):
        build(tmp_path, monkeypatch)


def test_a_disk_that_is_full_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(BuildError, match=r"cannot be kept in .*: No space left on device. Free space there"):
        build(tmp_path, monkeypatch, finish=full)
    assert build(tmp_path, monkeypatch).path.exists()


def test_no_program_outlives_its_engine():
    """Killed without a word, the engine leaves neither the program nor a plugin."""
    with workspace("anchor", settings={"clusters": []}, environment={"MESHTRUST_OFFLINE": "1"}) as project:
        # A program that waits for ever.
        main = project.directory / "__main__.py"
        main.unlink()
        main.write_text("import pathlib, signal\npathlib.Path('started').touch()\nsignal.pause()\n")
        engine = subprocess.Popen(
            project.command("preview", "--non-interactive"),
            env=project.full_environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started = project.directory / "started"
        wait_until(started.exists, 60)
        assert of_this_run(project), "the program and the language host run"
        engine.kill()
        engine.wait()
        wait_until(lambda: not of_this_run(project), 30)


def of_this_run(project):
    """The processes that a run of a project started, by the PULUMI_HOME that they were given."""
    given = f"PULUMI_HOME={project.home}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # A process that has ended, and was not waited for by its parent, has no environment.
            if given in (process / "environ").read_bytes():
                found.append(process.name)
    return found
