"""`python -m benchmarks`: measure, show the numbers, and keep them with the machine's facts."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import checks, deploy, fleet, lint, preview, renewal, rotation, status
from benchmarks.machine import facts, keep
from benchmarks.targets import judge, verdict

BENCHMARKS: dict[str, Callable[[], dict[str, Any]]] = {
    "deploy": deploy.measure,
    "preview": preview.measure,
    "checks": checks.measure,
    "status": status.measure,
    "renewal": renewal.measure,
    "rotation": rotation.measure,
    "fleet": fleet.measure,
    "lint": lint.measure,
}


def main(names: Annotated[list[str] | None, typer.Argument(help="Which; all unless named.")] = None) -> None:
    """Run benchmarks on rehearsal clusters and keep their results below benchmarks/results."""
    console = Console()
    unknown = set(names or ()) - BENCHMARKS.keys()
    if unknown:
        console.print(f"[red]error:[/] unknown benchmark {', '.join(sorted(unknown))}; use {', '.join(BENCHMARKS)}")
        raise typer.Exit(2)
    for name in names or BENCHMARKS:
        console.rule(name, align="left")
        machine = facts()
        results = BENCHMARKS[name]()
        # A timeline is drawn in the documentation.
        console.print_json(data={key: value for key, value in results.items() if key != "timeline"})
        for target, measured in judge(name, results):
            line = f"{target.what}: {measured:g}, at most {target.most:g}"
            console.print(f"{line}: {verdict(target, measured)}", highlight=False)
        console.print(f"kept in {keep(name, machine, results)}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
