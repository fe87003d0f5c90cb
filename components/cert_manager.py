"""cert-manager, which re-issues the identity issuer day by day."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import NO_OWNER, ChartSource, ReleaseOwner, merge_user_values, release
from meshtrust.names import WEBHOOKS_LABEL

# Linkerd's webhooks leave the namespace alone by this label, where they do not by its name: an expired certificate of
# theirs must not keep the one from starting who renews it.
NAMESPACE_LABELS: Mapping[str, str] = {WEBHOOKS_LABEL: "disabled"}


@dataclass(frozen=True, kw_only=True)
class CertManagerArgs:
    """Inputs of cert-manager's installation.

    Attributes:
        namespace: Its namespace, which is made here.
        charts: Where its chart is.
        values: Further Helm values, which go before this program's own.
        timeout_seconds: Seconds that it may take to become ready.
        encrypted: Whether the stack encrypts the values, so that they are secrets of the release.
        owner: The owner of its release, which no setting names.
    """

    namespace: str
    charts: ChartSource
    values: Mapping[str, Any]
    timeout_seconds: int
    encrypted: bool = False
    owner: ReleaseOwner = NO_OWNER


class CertManager(pulumi.ComponentResource):
    """`meshtrust:index:CertManager`: the namespace and the Helm release of cert-manager.

    Its API answers some time after the release is there (`program/wait/cert_manager.py`).
    """

    release: kubernetes.helm.v3.Release
    """The release, whose pods may not be ready."""

    def __init__(self, name: str, args: CertManagerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:CertManager", name, None, opts)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.namespace,
                labels=NAMESPACE_LABELS,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.release = release(
            f"{name}-release",
            "cert-manager",
            source=args.charts,
            namespace=namespace.metadata["name"],
            values=merge_user_values(default_values(args.namespace), args.values, encrypted=args.encrypted),
            timeout_seconds=args.timeout_seconds,
            owner=args.owner,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def default_values(namespace: str) -> dict[str, Any]:
    """Return the Helm values that keep all of cert-manager within its release and its namespace.

    The CRDs go with the release, which owns every Certificate there is on a cluster set up by this program, and the
    leader election leases stay out of kube-system, so that a destroy leaves nothing behind. The chart's start-up check,
    a Job of its own image, asks what the program's own wait asks too.
    """
    return {
        "crds": {"enabled": True, "keep": False},
        "global": {"leaderElection": {"namespace": namespace}},
        "startupapicheck": {"enabled": False},
    }
