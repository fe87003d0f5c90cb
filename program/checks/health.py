"""The warning about a control plane that is broken: a run names what it does not repair itself."""

import pulumi

from meshtrust.cluster.api import Api
from meshtrust.linkerd.diagnosis import Subject, diagnose
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings


async def warn(api: Api, settings: Settings, last: StackOutputs) -> None:
    """Warn of what is wrong with a control plane that is deployed, as `meshtrust verify` has it.

    The engine compares what a stack declares with its state: what something else has changed on the cluster is nothing
    to it, and a release of Helm hides what it consists of.

    Args:
        api: Client of the cluster.
        settings: What the stack says.
        last: What it last deployed.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    if last.trust is None:
        return
    webhooks = last.webhooks
    subject = Subject(
        namespace=settings.linkerd.namespace,
        roots=last.certificates,
        signer=last.trust.signer,
        authorities=list(webhooks.certificates.values()) if webhooks.by_cert_manager else None,
        commands=f" --stack {pulumi.get_stack()}",
    )
    for finding in (await diagnose(api, subject)).findings:
        if finding.severity == "error":
            pulumi.log.warn(str(finding))
