"""`meshtrust due`: whether a trust anchor has to be rotated soon, for a scheduler that proposes it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from meshtrust.commands.options import HERE, Directory, Json, console, write_json
from meshtrust.commands.rotation.rotate import choose_generation
from meshtrust.pki.durations import format_left
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import Stack, StackError

# The exit code of a stack whose trust anchor has to be rotated.
DUE = 5


@dataclass(frozen=True, kw_only=True)
class Due:
    """The generation that a stack's goal ends with, and how long its root lasts.

    Attributes:
        generation: The generation that signs, or is to sign; of an anchor stack, the newest one.
        end: End of its root's validity; None if the root is not deployed yet, so that a rotation to it is under way.
        is_due: Whether a rotation to a newer generation has to be started.
    """

    generation: str
    end: datetime | None
    is_due: bool


def find_due(configured: Trust, deployed: StackOutputs, within: timedelta, now: datetime) -> Due:
    """Return whether the trust anchor that a stack is to have ends within a time.

    Args:
        configured: The goal in the stack's file.
        deployed: The stack's outputs.
        within: The time before the end of a root at which it has to be replaced.
        now: The time, with its zone.

    Raises:
        StackError: The stack has not been deployed.
    """
    if not deployed.anchors:
        msg = "This stack has not been deployed yet, so that no root of it can end. Run: pulumi up"
        raise StackError(msg)
    generation = configured.signer if deployed.trust else configured.anchors[-1]
    root = deployed.certificates.get(generation)
    end = root.not_valid_after_utc if root else None
    return Due(generation=generation, end=end, is_due=end is not None and end - now <= within)


def due(
    *,
    stack: Annotated[str, typer.Option("--stack", "-s", help="Stack of a cluster, or the anchor stack of a fleet.")],
    days: Annotated[
        int, typer.Option(min=0, max=36_500, help="Days before its end at which a root has to be replaced.")
    ] = 90,
    directory: Directory = HERE,
    as_json: Json = False,
) -> None:
    """Report whether the trust anchor that signs, or is to sign, ends within a number of days.

    Asks no cluster. Exit codes: 0 it does not; 3 the stack cannot be read, or was not deployed; 5 it does, so that a
    rotation has to be started: the output names the generation to rotate to.
    """
    opened = Stack(stack, directory)
    opened.check()
    deployed = StackOutputs(opened.outputs())
    now = datetime.now(UTC)
    found = find_due(opened.configured, deployed, timedelta(days=days), now)
    proposed = choose_generation(opened.configured.anchors, deployed) if found.is_due else ""
    if as_json:
        end = found.end.isoformat() if found.end else None
        write_json(
            {"stack": stack, "generation": found.generation, "notAfter": end, "due": found.is_due, "to": proposed}
        )
    else:
        console().print(_sentence(stack, found, proposed, now), soft_wrap=True, markup=False)
    if found.is_due:
        raise typer.Exit(DUE)


def _sentence(stack: str, found: Due, proposed: str, now: datetime) -> str:
    if found.end is None:
        return f"{stack}: a rotation to {found.generation} is under way, and nothing else is due."
    left = found.end - now
    when = f"ends on {found.end:%Y-%m-%d} UTC, in {format_left(left)}" if left > timedelta() else "has ended"
    advice = f"Rotate: meshtrust rotate --stack {stack} --to {proposed}" if found.is_due else "Nothing is due."
    return f"{stack}: trust anchor {found.generation} {when}. {advice}"
