"""The stacks of a fleet, by their configuration files."""

from dataclasses import dataclass
from pathlib import Path

from meshtrust.stacks.stack import Stack, StackError, list_stacks

ANCHOR_ROLE = "anchor"


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The stacks that share a trust anchor.

    Attributes:
        anchor: The stack that owns it.
        clusters: The stacks of the clusters, by name.
    """

    anchor: Stack
    clusters: tuple[Stack, ...]

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """All of them, the anchor's first."""
        return (self.anchor, *self.clusters)


def find_fleet(directory: Path, anchor_stack: str = "") -> Fleet:
    """Return the fleet of a project directory.

    Args:
        directory: The project's directory.
        anchor_stack: Name of the anchor stack; empty for the only one there is.

    Raises:
        StackError: There is no anchor stack, or several and none is named; or the files of the clusters and that of
            the anchor stack do not agree on who belongs to it.
    """
    stacks = list_stacks(directory)
    anchors = [stack for stack in stacks if stack.setting("role") == ANCHOR_ROLE]
    if anchor_stack:
        anchors = [stack for stack in anchors if stack.name == short_name(anchor_stack)]
    if len(anchors) != 1:
        raise StackError(_which_anchor(directory, anchor_stack, anchors))
    [anchor] = anchors
    clusters = tuple(stack for stack in stacks if short_name(stack.setting("anchorStack") or "") == anchor.name)
    _check_agreement(anchor, clusters)
    return Fleet(anchor=anchor, clusters=clusters)


def short_name(stack: str) -> str:
    """Return a stack's name without the organization and project that may stand before it."""
    return stack.rpartition("/")[2]


def link_name(stack: Stack) -> str:
    """Return what the Links of other clusters call the one of a stack.

    Raises:
        StackError: Its file cannot be read.
    """
    return str(stack.setting("linkName") or stack.name)


def _which_anchor(directory: Path, anchor_stack: str, anchors: list[Stack]) -> str:
    if anchor_stack:
        return (
            f'Stack "{anchor_stack}" is no anchor stack of {directory}. Name one whose file has meshtrust:role: anchor.'
        )
    if anchors:
        return (
            f"There are several anchor stacks: {', '.join(stack.name for stack in anchors)}. Name one: --anchor-stack"
        )
    return (
        f"No stack in {directory} has meshtrust:role: anchor, so that there is no fleet. See docs/fleet.md for how to "
        "make one."
    )


def _check_agreement(anchor: Stack, clusters: tuple[Stack, ...]) -> None:
    listed = anchor.setting("clusters") or []
    if not isinstance(listed, list):
        msg = f'meshtrust:clusters in {anchor.file} is no list. Write the names of stacks, such as ["east", "west"].'
        raise StackError(msg)
    names, own = {short_name(str(name)) for name in listed}, {stack.name for stack in clusters}
    for name in sorted(own - names):
        msg = (
            f'Stack "{name}" has meshtrust:anchorStack "{anchor.name}", whose meshtrust:clusters does not list it. Add '
            f"it in {anchor.file}."
        )
        raise StackError(msg)
    for name in sorted(names - own):
        msg = (
            f'{anchor.file} lists the cluster "{name}", and there is no stack of that name with meshtrust:anchorStack '
            f"{anchor.name} here. Write its file, or take it off the list."
        )
        raise StackError(msg)
