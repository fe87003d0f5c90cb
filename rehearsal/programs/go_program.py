"""A program of a Go module, compiled with progress and kept."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from rehearsal.programs.cache import cache_directory, locked_cache
from rehearsal.programs.errors import BuildError
from rehearsal.programs.toolchain import find_go


def _nothing(draft: Path, modules: Mapping[str, Path]) -> None:
    """Add nothing to what was compiled."""


@dataclass(frozen=True, kw_only=True)
class GoProgram:
    """A program to build.

    Attributes:
        name: File name of the program.
        title: What it is, as a sentence names it.
        module: Directory of the module.
        package: The package to compile.
        linker_flags: Value of ``-ldflags``.
        packages: About how many packages a first build compiles, for a bar that shows how far it has come.
        prefix: What the directory in the cache begins with.
        finish: Called with the draft of that directory and the directory of each module, by its path.
    """

    name: str
    title: str
    module: Path
    package: str
    linker_flags: str
    packages: int
    prefix: str = ""
    finish: Callable[[Path, Mapping[str, Path]], None] = field(default=_nothing, repr=False)

    @property
    def directory(self) -> Path:
        """The directory in the cache, named after a hash of all that decides what is built."""
        digest = hashlib.sha256(self.linker_flags.encode())
        nested = [path.parent for path in self.module.glob("*/**/go.mod")]
        sources = [
            path
            for path in sorted([*self.module.glob("go.*"), *self.module.glob("**/*.go")])
            if not any(path.is_relative_to(directory) for directory in nested)
        ]
        for path in sources:
            digest.update(f"\0{path.relative_to(self.module)}\0".encode() + path.read_bytes())
        return cache_directory() / f"{self.prefix}{digest.hexdigest()[:16]}"

    @property
    def path(self) -> Path:
        """The program, once it is built."""
        return self.directory / self.name


def ensure_all(programs: Sequence[GoProgram], console: Console | None = None) -> None:
    """Build what the cache does not have, side by side: one links, on one core, while another compiles.

    A build that was interrupted leaves a draft, which the next one replaces; Go itself keeps each compiled package.

    Args:
        programs: The programs.
        console: Where to show progress; standard error unless given.

    Raises:
        BuildError: Go is missing, the cache cannot be written, or a build fails; the message has the end
            of its output.
    """
    if all(program.directory.is_dir() for program in programs):
        return
    console = console or Console(stderr=True)
    with locked_cache(console) as cache:
        missing = [program for program in programs if not program.directory.is_dir()]
        if not missing:
            return
        go = find_go(cache)
        console.print(
            f"Building {' and '.join(program.title for program in missing)}. "
            "They are kept for every later run; on two cores a first build of all takes about ten minutes."
        )
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress, ThreadPoolExecutor() as executor:
            tasks = [(program, progress.add_task(program.name, total=program.packages)) for program in missing]
            building = [executor.submit(_build, go, program, progress, task) for program, task in tasks]
            for build in building:
                build.result()


def _build(go: str, program: GoProgram, progress: Progress, task: TaskID) -> None:
    built = program.directory
    draft = built.with_name(f"{built.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        modules = _module_directories(go, program)
        _compile(go, program, draft / program.name, progress, task)
        program.finish(draft, modules)
        draft.rename(built)
    except OSError as error:
        msg = f"{program.title} cannot be kept in {built.parent}: {error.strerror}. Free space there, and run again."
        raise BuildError(msg) from error


def _module_directories(go: str, program: GoProgram) -> dict[str, Path]:
    """Download what the build needs, and return where each module lies, by its path."""
    template = "{{with .Module}}{{.Path}} {{.Dir}}{{end}}"
    command = [go, "list", "-deps", "-f", template, program.package]
    result = subprocess.run(command, cwd=program.module, capture_output=True, text=True, check=False)
    if result.returncode:
        msg = (
            f"The Go modules of {program.title} cannot be downloaded. See that this machine reaches a Go module proxy "
            f"(go env GOPROXY), and run again:\n{_tail(result.stderr)}"
        )
        raise BuildError(msg)
    lines = [line.partition(" ") for line in result.stdout.splitlines() if line]
    return {path: Path(directory) for path, _, directory in lines}


def _compile(go: str, program: GoProgram, target: Path, progress: Progress, task: TaskID) -> None:
    command = [go, "build", "-v", "-trimpath", "-ldflags", program.linker_flags, "-o", str(target), program.package]
    process = subprocess.Popen(command, cwd=program.module, stderr=subprocess.PIPE, text=True)
    output: list[str] = []
    for line in process.stderr or ():
        output.append(line)
        progress.advance(task)
        if not progress.console.is_terminal and len(output) % 500 == 0:
            progress.console.print(f"  {program.name}: {len(output)} packages compiled")
    process.wait()
    progress.update(task, total=len(output), completed=len(output))
    if process.returncode:
        msg = f"{program.title} cannot be built:\n{_tail(''.join(output))}"
        raise BuildError(msg)


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-20:])
