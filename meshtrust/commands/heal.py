"""`meshtrust heal`: repairs of a control plane."""

from meshtrust.commands.options import HERE, Context, Directory, Json, Kubeconfig, Namespace, Stack, select
from meshtrust.commands.rotation.rotate import Timeout
from meshtrust.commands.work import run_work
from meshtrust.linkerd.rollout import Limits
from meshtrust.stacks import heal as healing
from meshtrust.stacks.progress import StackProgress
from meshtrust.stacks.target import open_target


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
    """Put right a webhook's caBundle, an issuer that has ended, and an identity service that missed its reload.

    In that order, and each only if what comes after is better: nothing is restarted onto an issuer that the identity
    service would refuse. A component that is scaled to 0 is scaled up. Exit codes: 0 all is well, or is now; 1 a
    workload did not get ready; 3 the cluster cannot be read; 4 something cannot be healed, all of which is listed.
    """

    async def work(progress: StackProgress) -> bool:
        target = await open_target(select(stack, directory, context, kubeconfig, namespace))
        healed = await healing.heal(target, Limits(timeout_seconds=timeout_seconds), progress)
        progress.note(
            "every replica signs with the issuer in the Secret" + (" now" if healed else "; nothing was to do"),
            healed=healed,
        )
        return True

    run_work(stack, work, as_json=as_json)
