"""The check that a run has made all that its outputs record, before the engine keeps them for the next run."""

import pulumi

from meshtrust.stacks.outputs import flatten
from program.refusal import end


async def check_complete(outputs: pulumi.Inputs) -> None:
    """End an update that has left out something which its outputs record, so that the engine keeps those before it.

    Of a resource that ``--target`` or ``--exclude`` keeps from being made nothing is known, in an update too (pulumi
    ``pkg/resource/deploy/step_generator.go``), and outputs that follow from it would be kept as unknown: the next run
    would not know which roots exist.

    Args:
        outputs: The stack's outputs.

    Raises:
        SystemExit: One of them is not known.
    """
    if pulumi.runtime.is_dry_run():
        return
    missing = [name for name, value in flatten(outputs).items() if not await pulumi.Output.from_input(value).is_known()]
    if missing:
        end(
            f"This run has left out what is new in the stack (--target, --exclude), so that its outputs "
            f"{', '.join(sorted(missing))} are not known. What it has made stays; the outputs are those of the last "
            f"deployment. Deploy the whole stack: pulumi up --stack {pulumi.get_stack()}"
        )
