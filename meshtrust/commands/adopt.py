"""`meshtrust adopt`: a stack for a Linkerd that Helm has installed, which keeps every key and certificate."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from meshtrust.cluster.connection.access import ClusterAccess
from meshtrust.cluster.connection.client import open_cluster
from meshtrust.commands.display.files import writing
from meshtrust.commands.options import HERE, Context, Directory, Kubeconfig, console
from meshtrust.files import ENCODING
from meshtrust.stacks.stack import Stack
from meshtrust.stacks.takeover.adoption import Adoption, InstallLocation, plan_adoption


def adopt(
    *,
    stack: Annotated[str, typer.Option("--stack", "-s", help="Name of the stack to make.")],
    context: Context,
    kubeconfig: Kubeconfig = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of Linkerd's control plane.")
    ] = "linkerd",
    charts: Annotated[
        str, typer.Option(help="Where Linkerd's charts come from. Default: its repository, by the version.")
    ] = "",
    directory: Directory = HERE,
) -> None:
    """Write the stack of a Linkerd that Helm has installed and cert-manager, or a third party, issues for.

    It reads the cluster and changes nothing there. It writes the stack's file and a file for `pulumi import`; the
    commands that take the installation over are shown. Exit codes: 0 written; 3 the installation cannot be taken over,
    or read, or the files cannot be written.
    """
    target = Stack(stack, directory)
    access = ClusterAccess(context=context, kubeconfig=kubeconfig, named_by="--context")
    place = InstallLocation(access=access, namespace=namespace, charts=charts)

    async def look() -> Adoption:
        return await plan_adoption(await open_cluster(access), place)

    adoption = asyncio.run(look())
    path = target.create(adoption.config)
    imports = _write_imports(target, adoption.imports)
    _report(path, target.name, imports, adoption)


def _write_imports(target: Stack, imports: Mapping[str, Any]) -> Path:
    path = target.directory / f"import-{target.name.rpartition('/')[2]}.json"
    with writing("the file for pulumi import", path):
        path.write_text(json.dumps(imports, indent=2) + "\n", encoding=ENCODING)
    return path


def _report(path: Path, name: str, imports: Path, adoption: Adoption) -> None:
    terminal = console()
    terminal.print(f"{path} takes the installation over, in mode {adoption.mode}.", soft_wrap=True)
    for note in adoption.notes:
        terminal.print(f"  - {note}", soft_wrap=True, markup=False)
    terminal.print("\nNothing was changed. To take it over, in this order:\n")
    file = imports.name
    for command in (
        f"pulumi stack select --create {name}",
        f"pulumi import --stack {name} --file {file} --protect=false --generate-code=false --yes",
        f"pulumi preview --stack {name} --diff    # updates only: nothing is replaced or deleted",
        f"pulumi up --stack {name}",
    ):
        terminal.print(f"  {command}", soft_wrap=True, markup=False)
    terminal.print(f"\n{file} is of no use after that.", soft_wrap=True)
