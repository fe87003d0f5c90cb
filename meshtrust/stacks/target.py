"""The target of a command: a Linkerd installation on a cluster, and the stack that deploys it, if one is named."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshtrust.cluster.api import Api
from meshtrust.cluster.connection.access import ClusterAccess, kubeconfig_output
from meshtrust.cluster.connection.client import open_cluster
from meshtrust.cluster.connection.kubeconfig import KubeconfigError
from meshtrust.cluster.connection.preflight import check_cluster_uid, cluster_uid
from meshtrust.linkerd.external_peers import FleetPeers
from meshtrust.rotation.acknowledgements import Acknowledgements
from meshtrust.rotation.steps import Step
from meshtrust.stacks.esc import open_environments
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.stack import EngineError, MissingStackError, Stack, StackError


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
        context: Name of the way that leads there: a context, or a stack and its output.
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

    async def read_fleet(self) -> FleetPeers | None:
        """Return the peers that the fleet of the cluster takes care of; None if it is in none.

        Raises:
            StackError: The anchor stack cannot be read.
        """
        anchor = str(self.stack.setting("anchorStack") or "") if self.stack else ""
        if not self.stack or not anchor:
            return None
        outputs = await asyncio.to_thread(Stack(anchor, self.stack.directory).outputs)
        gateways = self.stack.setting("gate.fleetGateways")
        return FleetPeers(
            clusters=frozenset(StackOutputs(outputs).link_names.values()),
            gateways=frozenset(map(str, gateways if isinstance(gateways, list) else ())),
        )


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
    access = await asyncio.to_thread(_find_access, selection, stack)
    namespace = selection.namespace or str(stack.setting("linkerd.namespace") or "" if stack else "")
    api = await open_cluster(access)
    if stack and deployed:
        uid = await cluster_uid(api)
        pinned = str(stack.setting("clusterUid") or "")
        check_cluster_uid(uid, access=access, pinned=pinned, last=deployed.cluster_uid)
    return Target(api=api, context=access.name, namespace=namespace or "linkerd", stack=stack, deployed=deployed)


def _find_access(selection: Selection, stack: Stack | None) -> ClusterAccess:
    """Return the way to the cluster: what the options name goes before what the stack's file has.

    Raises:
        StackError: The kubeconfig is an output of another stack, and cannot be read, or is none.
    """
    if stack is None or selection.context:
        kubeconfig = selection.kubeconfig or (_text(stack, "kubeconfig") if stack else "")
        return ClusterAccess(context=selection.context, kubeconfig=kubeconfig, named_by="--context")
    source = kubeconfig_output(_text(stack, "cluster.fromStack"), _text(stack, "cluster.output"))
    opened = open_environments(stack)
    if source is None:
        kubeconfig = selection.kubeconfig or _text(stack, "kubeconfig")
        return ClusterAccess(
            context=_text(stack, "context"),
            kubeconfig=kubeconfig or opened.kubeconfig_path,
            content="" if kubeconfig else opened.kubeconfig,
            variables=opened.variables,
        )
    if selection.kubeconfig:
        msg = (
            f"Stack {stack.name} takes the kubeconfig of stack {source.stack} (meshtrust:cluster.fromStack). Name a "
            "context too (--context), or leave --kubeconfig out."
        )
        raise StackError(msg)
    named = f'meshtrust:cluster.fromStack is "{source.stack}"'
    try:
        value = Stack(source.stack, stack.directory).reveal(source.output, f"{named}, whose output cannot be read")
        return ClusterAccess(source=source, variables=opened.variables).with_output(value)
    except MissingStackError:
        msg = f"{named}, which the backend does not have. Correct its name: pulumi stack ls --all"
        raise StackError(msg) from None
    except EngineError as error:
        msg = f"{error}. See its outputs, and correct the name: pulumi stack output --stack {source.stack}"
        raise StackError(msg) from None
    except KubeconfigError as error:
        raise StackError(str(error)) from None


def _text(stack: Stack, key: str) -> str:
    """Return a configured text, which may be encrypted in the stack's file."""
    value = stack.setting(key)
    if isinstance(value, Mapping) and "secure" in value:
        return stack.decrypted(key)
    return str(value or "")
