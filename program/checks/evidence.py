"""The look at a cluster by which a step is judged, before a run and once more right before the step."""

from collections.abc import Mapping

from cryptography import x509

from meshtrust.cluster.api import Api
from meshtrust.rotation.acknowledgements import Acknowledgements
from meshtrust.rotation.gate import Blocker, find_blockers
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings


def acknowledgements(settings: Settings, last: StackOutputs, step: Step, taken: int | None = None) -> Acknowledgements:
    """Return what the configuration acknowledges before a step, as of the last deployment unless a count is given.

    Args:
        settings: The stack's settings.
        last: The outputs of its last deployment.
        step: The step.
        taken: How many steps the stack has taken by then.
    """
    count = len(last.transitions) if taken is None else taken
    return Acknowledgements(given=settings.gate.acknowledged.get(step.name, {}), taken=count)


async def look(
    api: Api,
    settings: Settings,
    last: StackOutputs,
    step: Step,
    roots: Mapping[str, x509.Certificate] | None = None,
    *,
    taken: int | None = None,
) -> list[Blocker]:
    """Return what makes a step unsafe, but for what the configuration acknowledges.

    Args:
        api: Client of the cluster.
        settings: What the stack says.
        last: What it last deployed.
        step: The step.
        roots: The roots of the generations that it is about; those of the last deployment unless given.
        taken: How many steps the stack has taken before it; those of the last deployment unless given.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    return await find_blockers(
        api,
        settings.linkerd.namespace,
        step,
        last.certificates if roots is None else roots,
        acknowledged=acknowledgements(settings, last, step, taken),
        fleet=settings.fleet,
    )
