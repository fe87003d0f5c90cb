"""The target of a command: a Linkerd installation on a cluster, and the stack that deploys it, if one is named."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshtrust.cluster.api import Api
from meshtrust.cluster.connection.client import connect
from meshtrust.cluster.connection.preflight import check_cluster_uid, cluster_uid
from meshtrust.rotation.acknowledgements import Acknowledgements
from meshtrust.rotation.steps import Step
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import Stack, StackError


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The installation that the options of a command name.

    Attributes:
        stack: Name of a stack, or empty.
        directory: The project's directory.
        context: Context of the kubeconfig; empty for the stack's.
        kubeconfig: Path of the kubeconfig; empty for the stack's, or the ambient one.
        namespace: Namespace of Linkerd's control plane; empty for the stack's, or ``linkerd``.
    """

    stack: str
    directory: Path
    context: str = ""
    kubeconfig: str = ""
    namespace: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A Linkerd installation that answers.

    Attributes:
        api: Client of its cluster.
        context: Name of the context that leads there.
        namespace: Namespace of its control plane.
        stack: The stack that deploys it; None if none is named.
        deployed: What that stack last deployed; None without a stack.
    """

    api: Api
    context: str
    namespace: str
    stack: Stack | None
    deployed: StackOutputs | None

    def acknowledged(self, step: Step) -> Acknowledgements:
        """Return how what cannot be seen was seen to before a step, as the stack's file says."""
        found = self.stack.setting("gate.acknowledged") if self.stack else None
        named = found.get(step.name) if isinstance(found, Mapping) else None
        taken = len(self.deployed.transitions) if self.deployed else 0
        return Acknowledgements(given=named if isinstance(named, Mapping) else {}, taken=taken)

    @property
    def in_fleet(self) -> bool:
        """Whether the cluster is one of a fleet."""
        return bool(self.stack and self.stack.setting("anchorStack"))


async def open_target(selection: Selection) -> Target:
    """Connect to what a person named.

    Raises:
        StackError: There is no such stack, it cannot be read, or neither stack nor context is named.
        ClusterError: The cluster does not answer, or is not the one that the stack was deployed to.
    """
    stack = Stack(selection.stack, selection.directory) if selection.stack else None
    if stack is None and not selection.context:
        msg = "Name a stack (--stack), or a context of the kubeconfig (--context) to look at any installation."
        raise StackError(msg)
    if stack:
        # Said before anything else is asked: a misspelt name is the likeliest mistake.
        stack.check()
    deployed = StackOutputs(await asyncio.to_thread(stack.outputs)) if stack else None
    context = selection.context or str(stack.setting("context") or "" if stack else "")
    kubeconfig = selection.kubeconfig or (await asyncio.to_thread(_kubeconfig, stack) if stack else "")
    namespace = selection.namespace or str(stack.setting("linkerd.namespace") or "" if stack else "")
    api = await connect(context, kubeconfig, "--context" if selection.context else "meshtrust:context")
    if stack and deployed:
        uid = await cluster_uid(api)
        pinned = str(stack.setting("clusterUid") or "")
        check_cluster_uid(uid, context=context, pinned=pinned, last=deployed.cluster_uid)
    return Target(api=api, context=context, namespace=namespace or "linkerd", stack=stack, deployed=deployed)


def _kubeconfig(stack: Stack) -> str:
    """Return the path of a stack's kubeconfig, which may be encrypted in its file."""
    value = stack.setting("kubeconfig")
    if isinstance(value, Mapping) and "secure" in value:
        return stack.decrypted("kubeconfig")
    return str(value or "")
