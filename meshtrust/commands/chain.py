"""`meshtrust chain`: a drawing of a mesh's chain of certificates, in the terminal and as SVG."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from rich.text import Text
from rich.tree import Tree

from meshtrust.commands.display.files import writing
from meshtrust.commands.options import HERE, Context, Directory, Json, Kubeconfig, Namespace, Stack, console, select
from meshtrust.commands.options import write_json as write
from meshtrust.files import ENCODING
from meshtrust.pki.durations import format_left
from meshtrust.pki.pem import CertificateSummary, fingerprint, subject_of
from meshtrust.stacks.inspection import Inspection, inspect
from meshtrust.stacks.target import open_target


def chain(
    *,
    stack: Stack = "",
    directory: Directory = HERE,
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    namespace: Namespace = "",
    svg: Annotated[Path | None, typer.Option(help="File to write the picture to, as SVG.", dir_okay=False)] = None,
    as_json: Json = False,
) -> None:
    """Draw the chain: trust anchors, intermediate, identity issuer, and the proxies that trust them.

    Works on any Linkerd installation by --context. Exit codes: 0 drawn; 3 it cannot be read, or the file not written.
    """

    async def look() -> Inspection:
        target = await open_target(select(stack, directory, context, kubeconfig, namespace))
        return await inspect(target, diagnoses=False)

    inspection = asyncio.run(look())
    if svg is not None:
        # Only a picture needs it.
        from meshtrust.commands.display.picture import draw_chain  # noqa: PLC0415

        with writing("the picture", svg):
            svg.write_text(draw_chain(inspection), encoding=ENCODING)
    if as_json:
        write([CertificateSummary.of(link).as_outputs() for link in reversed(inspection.issuer_chain)])
        return
    for tree in chain_trees(inspection):
        console().print(tree)
    if svg is not None:
        console().print(f"The picture is in {svg}.", soft_wrap=True)


def chain_trees(inspection: Inspection) -> list[Tree]:
    """Return each trusted root as a tree, the one that signs with all that is below it."""
    links = list(reversed(inspection.issuer_chain))
    trees = []
    for root in inspection.mesh.roots:
        signs = bool(links) and root == links[0]
        name = f"trust anchor {inspection.name(fingerprint(root))}"
        tree = branch = Tree(_line(name, root, inspection), guide_style="dim")
        trees.append(tree)
        if not signs:
            continue
        below = links[1:]
        if not below:
            branch = branch.add(Text.assemble(("identity issuer", "bold cyan"), "  the trust anchor itself"))
        for link in below:
            title = "identity issuer" if link == below[-1] else "intermediate"
            branch = branch.add(_line(title, link, inspection))
        total = len(inspection.mesh.pods)
        lacking = sum(inspection.workloads_not_trusting(fingerprint(root)).values())
        style = "red" if lacking else "green"
        branch.add(Text.assemble((f"{total} proxies", "bold cyan"), (f"  {total - lacking} trust it", style)))
    if inspection.mesh.issuer and not links:
        trees.append(Tree(Text("the identity issuer chains to no root of the bundle", style="bold red")))
    return trees


def _line(title: str, certificate: x509.Certificate, inspection: Inspection) -> Text:
    left = certificate.not_valid_after_utc - inspection.now
    return Text.assemble(
        (title, "bold cyan"),
        f"  {subject_of(certificate)}\n",
        ("sha256 ", "dim"),
        f"{fingerprint(certificate)[:16]}\n",
        ("until ", "dim"),
        f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        (f"  ({format_left(left)} left)", "green" if left.total_seconds() > 0 else "red"),
    )
