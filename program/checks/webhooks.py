"""The check of the webhooks: no step makes their calls fail, and none of them can keep cert-manager from starting."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi

from components.cert_manager import NAMESPACE_LABELS
from meshtrust.cluster.api import DEPLOYMENTS, NAMESPACES, Api, ClusterError
from meshtrust.cluster.label_selector import selects
from meshtrust.linkerd.webhooks.authority import check_step, find_pods_with_other_ca, retired
from meshtrust.names import NAMESPACE_NAME_LABEL, WEBHOOKS_LABEL
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.settings import Settings

_EXPIRING_SOON = timedelta(days=60)


def check_move(settings: Settings, last: StackOutputs) -> None:
    """Judge the move from the last deployment by the two alone.

    Raises:
        ClusterError: The certificates would go back to the chart.
        IllegalAuthorityStepError: An authority would sign or go too early.
    """
    if last.trust is None:
        return
    was, now = last.webhooks, settings.webhooks
    if was.by_cert_manager and now is None:
        msg = (
            'meshtrust:webhooks.mode is "chart", and cert-manager issues the webhooks\' certificates. Helm does not '
            "take over Secrets that it has not made. Set it back: pulumi config set --path webhooks.mode cert-manager"
        )
        raise ClusterError(msg)
    if now is None:
        return
    if was.by_cert_manager:
        check_step((was.authorities, was.signer), (now.authorities, now.signer))
    else:
        pulumi.log.warn(
            "cert-manager takes over the webhooks' certificates from Linkerd's chart. For a minute or two of this run "
            "calls of the webhooks fail: pods that are created meanwhile are refused, or get no proxy until a restart."
        )


async def check(api: Api, settings: Settings, last: StackOutputs) -> None:
    """Judge the move, and the authorities, by what the cluster holds.

    Raises:
        ClusterError: A webhook still serves a certificate under an authority that would go; the namespace of viz does
            not exist; or an expired certificate could keep cert-manager itself from starting.
    """
    if settings.linkerd.webhooks_fail_closed and settings.needs_cert_manager:
        await _check_deadlock(api, settings)
    policy = settings.webhooks
    if policy is None:
        return
    for name, certificate in last.webhooks.certificates.items():
        end = certificate.not_valid_after_utc
        if name in policy.authorities and end - datetime.now(UTC) < _EXPIRING_SOON:
            pulumi.log.warn(
                f'meshtrust:webhooks.authorities has "{name}", which ends on {end:%Y-%m-%d}. Add another, make it the '
                "signer, and remove this one, each in a run of its own."
            )
    gone = retired(last.webhooks.authorities, policy.authorities)
    if gone:
        await _check_served(api, settings, last, gone)
    if policy.viz_namespace:
        await _check_namespace(api, policy.viz_namespace)


async def _check_served(api: Api, settings: Settings, last: StackOutputs, gone: list[str]) -> None:
    remaining = [root for name, root in last.webhooks.certificates.items() if name not in gone]
    viz = settings.webhooks.viz_namespace if settings.webhooks else ""
    found = await find_pods_with_other_ca(api, settings.linkerd.namespace, remaining, viz)
    if found:
        listed = "\n".join(f"  - {entry}" for entry in found)
        msg = (
            f"meshtrust:webhooks.authorities would lose {', '.join(gone)}, and calls of these webhooks would fail:\n"
            f"{listed}\nA pod loads its new certificate within two minutes. Wait for it, or restart the pods."
        )
        raise ClusterError(msg)


async def _check_namespace(api: Api, name: str) -> None:
    if await api.find(NAMESPACES, name) is None:
        msg = (
            f'meshtrust:webhooks.vizNamespace is "{name}", which does not exist. Create it (kubectl create namespace '
            f"{name}), have the certificates made, and install linkerd-viz then."
        )
        raise ClusterError(msg)


async def _check_deadlock(api: Api, settings: Settings) -> None:
    """Refuse a cluster in which an expired certificate of the injector keeps cert-manager from starting."""
    selector = settings.linkerd.injector_namespaces
    if settings.cert_manager:
        name = settings.cert_manager.namespace
        _check_excluded(
            name, {**NAMESPACE_LABELS, NAMESPACE_NAME_LABEL: name}, selector, settings.cluster.access.kubectl
        )
        return
    selected = "app.kubernetes.io/name=cert-manager,app.kubernetes.io/component=controller"
    controllers = api.list(DEPLOYMENTS, labels=selected, what="list of cert-manager's Deployments")
    found = [item["metadata"]["namespace"] async for item in controllers]
    for name in found:
        namespace = await api.find(NAMESPACES, name)
        labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
        _check_excluded(name, {**labels, NAMESPACE_NAME_LABEL: name}, selector, settings.cluster.access.kubectl)


def _check_excluded(name: str, labels: Mapping[str, str], selector: Mapping[str, Any], kubectl: str) -> None:
    """Make sure that the injector leaves the namespace of cert-manager alone, as rule MT515 says of files.

    Raises:
        ClusterError: It does not.
    """
    if not selects(selector, labels):
        return
    label = {WEBHOOKS_LABEL: "disabled"}
    fix = f"Exclude the namespace: {kubectl} label namespace {name} {WEBHOOKS_LABEL}=disabled"
    if selects(selector, {**labels, **label}):
        fix = (
            "meshtrust:linkerd.values has a proxyInjector.namespaceSelector that does not leave it out. Take that out, "
            f"or add to its matchExpressions: {{key: {NAMESPACE_NAME_LABEL}, operator: NotIn, "
            f"values: [kube-system, {name}]}}"
        )
    msg = (
        f"cert-manager runs in namespace {name}, and Linkerd's webhooks fail closed (high availability). With an "
        "expired certificate of the proxy injector no pod of cert-manager could start, and nobody renew it. "
        f"{fix}"
    )
    raise ClusterError(msg)
