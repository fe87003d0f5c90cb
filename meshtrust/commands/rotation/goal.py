"""`meshtrust goal`: a rotation started by an edit of files alone, for a pull request."""

from typing import Annotated

import typer

from meshtrust.commands.options import HERE, Directory, console
from meshtrust.rotation.generation import check_new
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.stack import Stack


def goal(
    *,
    stacks: Annotated[list[str], typer.Argument(help="Stacks of clusters, and the anchor stack of a fleet.")],
    to: Annotated[str, typer.Option(help="Generation that is to be the only trust anchor.")],
    directory: Directory = HERE,
) -> None:
    """Set the goal of stacks in their files, and deploy nothing.

    Each following run of `pulumi up` takes the next safe step towards it. Set it back to abort. Asks neither the
    backend nor a cluster. Exit codes: 0 the files have the goal; 3 a file cannot be read or edited, or the name is not
    one of a generation.
    """
    check_new(to, retired=())
    opened = [Stack(name, directory) for name in stacks]
    # All are read before the first is written, so that a misspelt name leaves every file as it was.
    anchor_stacks = {stack.name for stack in opened if stack.setting("role") == "anchor"}
    before = {stack.name: stack.setting("anchors") for stack in opened}
    for stack in opened:
        stack.set_goal([to] if stack.name in anchor_stacks else Trust(anchors=(to,), signer=to))
        was = ", ".join(map(str, before[stack.name] or ()))
        console().print(f"{stack.file.name}: anchors {was} → {to}", markup=False)
