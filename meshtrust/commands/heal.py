"""`meshtrust heal`: an identity service that has missed the reload of its issuer."""

import asyncio

from meshtrust import rotate
from meshtrust.commands.options import HERE, Context, Directory, Json, Kubeconfig, Namespace, Stack, console, select
from meshtrust.commands.reporter import ConsoleReporter, JsonReporter
from meshtrust.commands.rotate import Timeout
from meshtrust.rollout import Limits
from meshtrust.target import open_target


def heal(
    *,
    stack: Stack = "",
    directory: Directory = HERE,
    context: Context = "",
    kubeconfig: Kubeconfig = "",
    namespace: Namespace = "",
    timeout_seconds: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Restart the identity service if it does not sign with the issuer in the Secret (linkerd2 issue 15109).

    Exit codes: 0 it does, or does now; 1 it did not get ready; 3 the cluster cannot be read; 4 it still does not.
    """
    reporter = JsonReporter() if as_json else ConsoleReporter(console())

    async def run() -> bool:
        target = await open_target(select(stack, directory, context, kubeconfig, namespace))
        return await rotate.heal(target, Limits(timeout_seconds=timeout_seconds), reporter)

    healed = asyncio.run(run())
    reporter.note(
        "every replica signs with the issuer in the Secret" + (" now" if healed else "; nothing was to do"),
        healed=healed,
    )
