"""The kubeconfig of the stack that made the cluster, which a run reads before it asks the cluster anything."""

from dataclasses import replace

import pulumi

from meshtrust.cluster.connection.kubeconfig import KubeconfigError
from program.configuration.settings import Settings
from program.stack_outputs import own_name, qualify, read_outputs


async def with_kubeconfig(settings: Settings) -> Settings:
    """Return settings that have the kubeconfig which they name as an output of another stack; others as they are.

    A key or a token in an output that is not secret is a warning: a refusal would not take it back from that stack's
    state, and would stop a rotation whose time runs.

    Raises:
        pulumi.RunError: The stack cannot be read, or is the one that runs; it has no such output, or that is no
            kubeconfig.
    """
    access = settings.cluster.access
    source = access.source
    if source is None:
        return settings
    if qualify(source.stack) == own_name():
        msg = (
            f'meshtrust:cluster.fromStack is "{source.stack}", which is this stack itself. Name the stack that made '
            "the cluster.\nNothing was changed."
        )
        raise pulumi.RunError(msg)
    outputs, secret = await read_outputs(source.stack, "meshtrust:cluster.fromStack")
    try:
        if source.output not in outputs:
            there = ", ".join(sorted(outputs)) or "none: deploy it first"
            msg = f"does not exist (it has {there})"
            raise source.error(msg)
        access = access.with_output(outputs[source.output])
    except KubeconfigError as error:
        msg = f"{error}\nNothing was changed."
        raise pulumi.RunError(msg) from None
    if access.holds_credentials and source.output not in secret:
        pulumi.log.warn(
            f'meshtrust:cluster.output is "{source.output}", and that output of stack "{source.stack}" holds a key, a '
            "token or a password and is not a secret there, so that who reads that state has it. Export it with "
            "pulumi.Output.secret, deploy that stack, and replace the credentials."
        )
    return replace(settings, cluster=replace(settings.cluster, access=access))
