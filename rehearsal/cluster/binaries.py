"""Builds what a rehearsal cluster runs, once, and keeps it: one binary of many programs, and the charts of some."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from rehearsal.cluster.errors import ClusterError
from rehearsal.cluster.toolchain import find_go

SOURCE = Path(__file__).parent.parent
# The API server tells its version from these; charts refuse one that they do not know (kubeVersion).
KUBERNETES = "v1.36.3"
_MAJOR, _MINOR, _ = KUBERNETES.removeprefix("v").split(".")
_VERSION = "k8s.io/component-base/version"
LINKER_FLAGS = (
    f"-s -w -X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}"
)
# Charts that lie in the modules of the programs that they install.
CHARTS = {
    "cert-manager": "github.com/cert-manager/cert-manager",
    "trust-manager": "github.com/cert-manager/trust-manager",
}
# Roughly how many packages are compiled from nothing, for a bar that shows how far a build has come.
_PACKAGES = 3000


@dataclass(frozen=True)
class Binaries:
    """What was built.

    Attributes:
        path: The binary; its first argument names the program.
        charts: The directory that holds the charts `cert-manager` and `trust-manager`.
    """

    path: Path
    charts: Path

    @property
    def helm(self) -> list[str]:
        """The command line of helm."""
        return [str(self.path), "helm"]

    @property
    def kubectl(self) -> list[str]:
        """The command line of kubectl."""
        return [str(self.path), "kubectl"]


def cache_directory() -> Path:
    """Return where builds are kept: MESHTRUST_CACHE, else meshtrust below XDG_CACHE_HOME, else below ``~/.cache``."""
    own = os.environ.get("MESHTRUST_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshtrust"


def source_hash() -> str:
    """Return a hash of all that decides what is built, so that a checkout with the same sources builds nothing."""
    digest = hashlib.sha256(LINKER_FLAGS.encode())
    for path in sorted([*SOURCE.glob("go.*"), *SOURCE.glob("**/*.go")]):
        digest.update(f"\0{path.relative_to(SOURCE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def ensure(console: Console | None = None) -> Binaries:
    """Return the binaries, building them first where they are not in the cache.

    Args:
        console: Where to show progress; standard error unless given.

    Raises:
        ClusterError: There is no Go, or the build fails; the message has the end of its output.
    """
    cache = cache_directory()
    built = cache / source_hash()
    if not built.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        console = console or Console(stderr=True)
        with _lock(cache / "build.lock", console):
            if not built.is_dir():
                _build(cache, built, console)
    return Binaries(path=built / "rehearsal", charts=built / "charts")


@contextlib.contextmanager
def _lock(path: Path, console: Console) -> Iterator[None]:
    """Let one process build at a time, whichever checkout it belongs to."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("Waiting for another build of the rehearsal cluster ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(cache: Path, built: Path, console: Console) -> None:
    go = find_go(cache)
    draft = cache / f"{built.name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    console.print(
        "Building the rehearsal cluster (etcd, Kubernetes, kwok, cert-manager and helm). "
        "It is kept for every later run; on two cores the first build takes about six minutes."
    )
    with _standard_library(go):
        modules = _module_directories(go)
    _compile(go, draft / "rehearsal", console)
    for chart, module in CHARTS.items():
        _copy_chart(modules[module], chart, draft / "charts" / chart)
    draft.rename(built)


@contextlib.contextmanager
def _standard_library(go: str) -> Iterator[None]:
    """Compile the standard library meanwhile: it needs nothing that is still being downloaded."""
    process = subprocess.Popen(
        [go, "build", "-trimpath", "std"], cwd=SOURCE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.wait()


def _module_directories(go: str) -> dict[str, Path]:
    """Download what the build needs, and return where each module lies, by its path."""
    template = "{{with .Module}}{{.Path}} {{.Dir}}{{end}}"
    command = [go, "list", "-deps", "-f", template, "./cmd/rehearsal"]
    result = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    if result.returncode:
        msg = f"The rehearsal cluster's modules cannot be downloaded:\n{_tail(result.stderr)}"
        raise ClusterError(msg)
    lines = [line.partition(" ") for line in result.stdout.splitlines() if line]
    return {path: Path(directory) for path, _, directory in lines}


def _compile(go: str, target: Path, console: Console) -> None:
    command = [go, "build", "-v", "-trimpath", "-ldflags", LINKER_FLAGS, "-o", str(target), "./cmd/rehearsal"]
    process = subprocess.Popen(command, cwd=SOURCE, stderr=subprocess.PIPE, text=True)
    output: list[str] = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("compiling", total=_PACKAGES)
        for line in process.stderr or ():
            output.append(line)
            progress.advance(task)
            if not console.is_terminal and len(output) % 500 == 0:
                console.print(f"  {len(output)} packages compiled")
        process.wait()
        progress.update(task, total=len(output), completed=len(output))
    if process.returncode:
        msg = f"The rehearsal cluster cannot be built:\n{_tail(''.join(output))}"
        raise ClusterError(msg)


def _copy_chart(module: Path, name: str, target: Path) -> None:
    """Copy a chart out of its module, with the version that its release would have written into it."""
    shutil.copytree(module / "deploy" / "charts" / name, target, copy_function=shutil.copyfile)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    version = module.name.partition("@")[2]
    chart = target / "Chart.yaml"
    chart.write_text(re.sub(r"(?m)^(version|appVersion): .*$", rf"\1: {version}", chart.read_text()))


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-20:])
