"""The outputs of stacks, read within a run without resources: those of the stack that runs, and those of others."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.runtime import get_root_resource, invoke_async

from meshtrust.cluster.backoff import pauses
from meshtrust.stacks.outputs import StackOutputs

# A backend of files replaces a state by two files, one after the other: a stack whose own run writes it is read again.
_READABLE_WITHIN_SECONDS = 5.0


def qualify(stack: str) -> str:
    """Return a stack's whole name; one without organization and project is a stack of this project."""
    return stack if "/" in stack else f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}"


def own_name() -> str:
    """Return the whole name of the stack that runs."""
    return qualify(pulumi.get_stack())


async def read_outputs(stack: str, named_by: str = "") -> tuple[Mapping[str, Any], frozenset[str]]:
    """Return the outputs of a stack, decrypted, and the names of those that are secret; in previews too.

    They are read by a function of the engine and not by a `pulumi.StackReference`. That is a resource: with each one
    the engine writes the whole state again, with the outputs of every stack that was read so far.

    Args:
        stack: The stack.
        named_by: The key that names it; empty if the stack that runs is meant, or several are named.

    Raises:
        pulumi.RunError: They cannot be read.
    """
    # The engine writes the state once it has registered this, and a state that is being written cannot be read.
    root = get_root_resource()
    if root is not None:
        await root.urn.future()
    deadline, seconds = time.monotonic() + _READABLE_WITHIN_SECONDS, pauses()
    while True:
        try:
            found = await invoke_async("pulumi:pulumi:readStackOutputs", {"name": qualify(stack)}) or {}
            return found.get("outputs") or {}, frozenset(found.get("secretOutputNames") or ())
        except Exception as error:  # noqa: BLE001 the SDK raises that itself
            if time.monotonic() > deadline:
                subject = f'{named_by} is "{stack}", whose outputs' if named_by else f'The outputs of stack "{stack}"'
                msg = (
                    f"{subject} cannot be read: {error}. Create it, or correct its name: pulumi stack ls --all.\n"
                    "Nothing was changed."
                )
                raise pulumi.RunError(msg) from None
        await asyncio.sleep(next(seconds))


async def read_deployment(stack: str) -> StackOutputs:
    """Return what a stack of this program has deployed last, as `read_outputs` reads it."""
    outputs, _ = await read_outputs(stack)
    return StackOutputs(outputs)


async def last_deployment() -> StackOutputs:
    """Return what the stack that runs has deployed last, without a file and without the cluster, in previews too."""
    return await read_deployment(own_name())
