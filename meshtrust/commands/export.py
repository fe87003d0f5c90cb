"""`meshtrust export`: a mesh's credentials as metrics for Prometheus, or as an inventory."""

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from meshtrust.commands.display.files import writing
from meshtrust.commands.display.inventory import MeshCollector, take_inventory
from meshtrust.commands.options import HERE, Context, Directory, Kubeconfig, Namespace, Stack, select
from meshtrust.files import replace_text
from meshtrust.stacks.inspection import Inspection, MinimumLifetimes, inspect, judge
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.target import open_target


class Format(StrEnum):
    """Format of an export."""

    prometheus = "prometheus"
    json = "json"


def export(
    *,
    stack: Stack = "",
    directory: Directory = HERE,
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    namespace: Namespace = "",
    form: Annotated[
        Format, typer.Option("--format", help="Metrics for Prometheus, or an inventory with the audit trail.")
    ] = Format.prometheus,
    output: Annotated[
        Path | None, typer.Option(help="File to replace as a whole. Default: standard output.", dir_okay=False)
    ] = None,
) -> None:
    """Write roots, issuer, phase, proxies, findings and the audit trail for machines. Nothing is changed.

    Works on any Linkerd installation by --context. Exit codes: 0 written, whatever it says; 3 it cannot be read, or the
    file not written.
    """

    async def look() -> tuple[Inspection, StackOutputs | None]:
        target = await open_target(select(stack, directory, context, kubeconfig, namespace))
        return await inspect(target), target.deployed

    inspection, deployed = asyncio.run(look())
    text = render(form, inspection, deployed)
    if output is None:
        # Prometheus takes UTF-8 only, whatever the terminal's encoding is.
        typer.echo(text.encode(), nl=False)
        return
    with writing("the export", output):
        # Others read it, such as node-exporter.
        replace_text(output, text, 0o644)


def render(form: Format, inspection: Inspection, deployed: StackOutputs | None) -> str:
    """Return a mesh as the text of an export."""
    findings = judge(inspection, MinimumLifetimes())
    if form is Format.json:
        return json.dumps(take_inventory(inspection, findings, deployed), indent=2) + "\n"
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - the other form does not need it

    registry = CollectorRegistry()
    registry.register(MeshCollector(inspection, findings, deployed))
    return generate_latest(registry).decode()
