"""Refusals of replacements of objects on the cluster by which the mesh would end.

To be replaced at will (``--target-replace``, ``--replace``, or by a replacement of its provider) an object is made
first and deleted after that (pulumi ``pkg/resource/deploy/step_generator.go``): under a fixed name that makes nothing,
and takes away what there is. Objects are deleted first therefore. A release of Helm, its namespace and the provider of
the cluster are not replaced at all: each takes the control plane along. Neither is an authority of the webhooks:
cert-manager issues nothing again under another CA of the same name.
"""

import pulumi

from meshtrust.cluster.api import SECRETS, Api
from meshtrust.cluster.helm_release import read_releases
from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE, VIZ
from meshtrust.stacks.outputs import StackOutputs
from program.checks.plan import RunPlan
from program.configuration.settings import Settings

_RELEASE, _NAMESPACE = "kubernetes:helm.sh/v3:Release", "kubernetes:core/v1:Namespace"
_PROVIDER = "pulumi:providers:kubernetes"
# The output `charts` names the chart of each release by this key.
_CHARTS = {"cert-manager": "certManager.charts", "trust-manager": "trustBundle.charts"}


class ReplacedError(Exception):
    """An object that may not be replaced is about to be; the message names it and what to do."""


async def refuse_replacement(
    api: Api, last: StackOutputs, namespace: str, *, name: str = "", what: str, kubectl: str
) -> None:
    """Refuse to make what is there: a release of Helm that was deployed last, or what that is in.

    A hook learns from the engine only that something is about to be made. It is there already where it is replaced,
    where the state has lost it, and where a run was killed before it was noted; the outputs do not record the last.

    Args:
        api: Client of the cluster.
        last: What the stack has last deployed.
        namespace: The namespace of the release.
        name: Its name; empty for any in the namespace.
        what: What is about to be made.
        kubectl: Beginning of a command about the cluster.

    Raises:
        ReplacedError: It is there.
        ClusterError: The cluster cannot be read.
    """
    for found in await read_releases(api, namespace, name):
        if _CHARTS.get(found.name, "linkerd.charts") not in last.charts:
            continue
        msg = (
            f"{what} is deployed, with Helm release {namespace}/{found.name}, and this run would make it again and "
            "then delete it, with all that runs there: it is to be replaced (--target-replace, --replace, also of the "
            "provider), or the stack's state has lost it. Leave out what replaces it, or restore the stack's state. "
            "If the engine was made to forget it on purpose (pulumi state delete), have Helm forget it too, which "
            f"leaves all that is installed: {kubectl} -n {namespace} delete secret -l "
            f"owner=helm,name={found.name}"
        )
        raise ReplacedError(msg)


def keep_from_replacement(plan: RunPlan) -> None:
    """Have what is declared from now on be replaced in the order that does no harm, or not at all.

    Args:
        plan: The plan of the run.
    """

    async def refuse(args: pulumi.ResourceHookArgs) -> None:
        if plan.api is None:
            return
        settings = plan.settings
        namespace, what = settings.linkerd.namespace, "The provider of the cluster"
        if args.type == _NAMESPACE:
            metadata = await pulumi.Output.from_input((args.new_inputs or {})["metadata"]).future() or {}
            namespace = str(metadata["name"])
            what = f"Namespace {namespace}"
        await refuse_replacement(plan.api, plan.last, namespace, what=what, kubectl=settings.cluster.access.kubectl)

    async def refuse_authority(args: pulumi.ResourceHookArgs) -> None:
        if plan.api is None or not await _serves_webhooks(plan.api, plan.settings):
            return
        msg = (
            f"{args.name} belongs to an authority of Linkerd's webhooks that signs or is trusted already, and this run "
            "would make another one under its name, while the webhooks go on to serve certificates of the old one: it "
            "is to be replaced (--target-replace, --replace, by its provider), or the stack's state has lost it. Leave "
            "out what replaces it, and have another authority take over (meshtrust:webhooks.authorities); or restore "
            "the stack's state, and where that is lost for good, see docs/runbook.md (A lost key)."
        )
        raise ReplacedError(msg)

    options = pulumi.ResourceHookOptions(on_dry_run=True)
    hook = pulumi.ResourceHook("is-not-replaced", refuse, options)
    authority_hook = pulumi.ResourceHook("authority-is-kept", refuse_authority, options)
    kept = {f"webhooks-{name}-{part}" for name in plan.last.webhooks.authorities for part in ("key", "root")}

    def transform(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if args.type_ in (_NAMESPACE, _PROVIDER):
            changed = pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(before_create=[hook]))
        elif args.type_.startswith("tls:") and args.name in kept:
            changed = pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(before_create=[authority_hook]))
        elif args.type_.startswith("kubernetes:") and args.type_ != _RELEASE:
            changed = pulumi.ResourceOptions(delete_before_replace=True)
        else:
            return None
        return pulumi.ResourceTransformationResult(
            props=args.props, opts=pulumi.ResourceOptions.merge(args.opts, changed)
        )

    pulumi.runtime.register_stack_transformation(transform)


async def _serves_webhooks(api: Api, settings: Settings) -> bool:
    """Return whether a webhook has its certificate on the cluster; after `destroy --exclude-protected` none has."""
    places = [(settings.linkerd.namespace, webhook.secret) for webhook in CONTROL_PLANE]
    if settings.webhooks and settings.webhooks.viz_namespace:
        places += [(settings.webhooks.viz_namespace, webhook.secret) for webhook in VIZ]
    for namespace, secret in places:
        if await api.find(SECRETS, secret, namespace=namespace):
            return True
    return False
