"""The command by itself: what `pipx install .` makes of this checkout."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata

import pytest

from tests.recorder import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def pins(lines):
    found = (re.fullmatch(r"([A-Za-z0-9_.-]+(?:\[[a-z]+\])?)==(\S+)", line.strip()) for line in lines)
    return {match[1]: match[2] for match in found if match}


def normalised(name):
    """A distribution's name by which registries compare it, without its extras."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def test_the_command_needs_what_the_program_needs_in_the_same_versions():
    asked = pins(PROJECT["project"]["dependencies"])
    pinned = pins((REPOSITORY / "requirements.txt").read_text().splitlines())
    assert len(asked) == len(PROJECT["project"]["dependencies"]), "every one is pinned"
    assert asked == {name: pinned.get(name) for name in asked}


def test_the_lock_has_the_pins_of_the_program_and_a_hash_of_each_package():
    lock = (REPOSITORY / "requirements.lock").read_text()
    entries = re.findall(
        r"(?m)^([A-Za-z0-9_.-]+)==(\S+)(?: ;[^\n\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock
    )
    assert len(entries) == len(re.findall(r"(?m)^[^\s#]", lock)), "every package has a hash"
    locked = {normalised(name): version for name, version, _ in entries}
    pinned = {
        normalised(name): version
        for name, version in pins((REPOSITORY / "requirements.txt").read_text().splitlines()).items()
    }
    assert {name: locked.get(name) for name in pinned} == pinned, "run: make lock"


def test_the_command_asks_for_each_package_that_it_imports_and_for_no_other():
    imported: set[str] = set()
    for path in (REPOSITORY / "meshtrust").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
    tops = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"meshtrust"}
    distributions = metadata.packages_distributions()
    needed = {name for top in tops for name in distributions[top]}
    # Several distributions share a namespace; only that of ruamel.yaml is meant.
    needed = {name for name in needed if not name.startswith("ruamel") or name == "ruamel.yaml"}
    assert set(map(normalised, needed)) == set(map(normalised, pins(PROJECT["project"]["dependencies"])))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel in a virtual environment of its own, which takes the dependencies from this one."""
    root = tmp_path_factory.mktemp("distribution")
    # A copy, because a build leaves its own directory beside what it builds.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copytree(REPOSITORY / "meshtrust", root / "meshtrust", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(root / "dist"), str(root)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    python = root / "venv" / "bin" / "python"
    [wheel] = (root / "dist").glob("*.whl")
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    library = next((root / "venv" / "lib").glob("python*/site-packages"))
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return root / "venv" / "bin"


def test_the_installed_command_works_without_the_checkout(installed, tmp_path):
    result = subprocess.run(
        [installed / "meshtrust", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert result.returncode == 0, result.stderr
    assert "see them, judge them, rotate the trust anchor." in " ".join(result.stdout.split())
    result = subprocess.run(
        [installed / "meshtrust", "status"], cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("error: Name a stack (--stack), or a context")


def test_the_installed_package_is_the_wheels_and_has_nothing_but_the_command(installed, tmp_path):
    script = "import meshtrust, importlib.metadata as m; print(meshtrust.__file__); print(*m.files('meshtrust'))"
    result = subprocess.run(
        [installed / "python", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, env={}
    )
    where, files = result.stdout.splitlines()
    assert where.startswith(str(installed.parent))
    roots = {name.partition("/")[0] for name in files.split()}
    assert {name for name in roots if not name.endswith(".dist-info")} == {"..", "meshtrust"}
    assert "meshtrust/commands/status.py" in files
    assert "licenses/LICENSE" in files
