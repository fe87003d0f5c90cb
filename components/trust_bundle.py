"""The trusted roots as trust-manager publishes them, for clusters whose bundles are all its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.charts import ChartSource, ReleaseOwner, Resources, merge_user_values, release
from meshtrust.names import (
    CONTROL_PLANE_LABEL,
    NAMESPACE_NAME_LABEL,
    TRUST_MANAGER_API,
    TRUST_ROOTS,
    TRUST_ROOTS_KEY,
    WEBHOOKS_LABEL,
)


@dataclass(frozen=True, kw_only=True)
class TrustManagerArgs:
    """Inputs of trust-manager's installation.

    Attributes:
        namespace: Its namespace, which is made here.
        charts: Where its chart is.
        values: Further Helm values, which go before this program's own.
        own_certificate: Whether its chart makes its webhook's certificate, for want of a cert-manager.
        timeout_seconds: Seconds that it may take to become ready.
        encrypted: Whether the stack encrypts the values, so that they are secrets of the release.
    """

    namespace: str
    charts: ChartSource
    values: Mapping[str, Any]
    own_certificate: bool
    timeout_seconds: int
    encrypted: bool = False


@dataclass(frozen=True, kw_only=True)
class TrustBundlePolicy:
    """Publisher of the bundle.

    Attributes:
        by_trust_manager: Whether trust-manager does; else it is part of Linkerd's release.
        trust_manager: Inputs of trust-manager's installation; None if this stack does not install it.
    """

    by_trust_manager: bool
    trust_manager: TrustManagerArgs | None


@dataclass(frozen=True, kw_only=True)
class TrustBundleArgs:
    """Inputs of a published bundle.

    Attributes:
        policy: Who publishes it.
        namespace: Namespace of Linkerd's control plane, which exists and is labelled.
        owner: The owner of trust-manager's release, if it is installed.
    """

    policy: TrustBundlePolicy
    namespace: pulumi.Input[str]
    owner: ReleaseOwner


class TrustBundle(pulumi.ComponentResource):
    """`meshtrust:index:TrustBundle`: trust-manager, and the Bundle that it writes into Linkerd's namespace.

    Nothing where the bundle is part of Linkerd's release, which is the better choice where this program alone says what
    is trusted: it is there with the release, and `linkerd multicluster check` can read it.

    trust-manager is declared first, so that its pods can be waited for before `publish` declares the Bundle.
    """

    release: kubernetes.helm.v3.Release | None
    """The release of trust-manager, whose pods may not be ready; None if this stack does not install it."""
    published: Sequence[pulumi.Resource]
    """What has trust-manager publish the bundle, which it may not have done; empty before `publish`."""

    def __init__(self, name: str, args: TrustBundleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:TrustBundle", name, None, opts)
        self._name, self._args = name, args
        # Said of each resource, because the engine orders deletions by direct dependencies only.
        self._child = pulumi.ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self.published, self.release = [], None
        if args.policy.trust_manager:
            self.release = _install(name, args.policy.trust_manager, args.owner, self._child)

    def publish(self, bundle: pulumi.Input[str], after: Resources) -> None:
        """Declare the Bundle, if trust-manager publishes it; called once.

        Args:
            bundle: The trusted roots as PEM.
            after: The release of trust-manager, once its pods are ready; empty if this stack does not install it.
        """
        if self._args.policy.by_trust_manager:
            self.published = [
                kubernetes.apiextensions.CustomResource(
                    f"{self._name}-bundle",
                    api_version=TRUST_MANAGER_API,
                    kind="Bundle",
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(
                        name=TRUST_ROOTS,
                        # Another writer owns the fields of an adopted one.
                        annotations={"pulumi.com/patchForce": "true"},
                    ),
                    spec=bundle_spec(bundle, self._args.namespace),
                    opts=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=after)),
                )
            ]
        self.register_outputs({})


def bundle_spec(bundle: pulumi.Input[str], namespace: pulumi.Input[str]) -> dict[str, Any]:
    """Return the spec of the Bundle: these roots and no others, in Linkerd's namespace and in no other."""
    return {
        "sources": [{"inLine": bundle}],
        "target": {
            "configMap": {"key": TRUST_ROOTS_KEY},
            "namespaceSelector": {"matchLabels": {CONTROL_PLANE_LABEL: "true", NAMESPACE_NAME_LABEL: namespace}},
        },
    }


def _install(
    name: str, args: TrustManagerArgs, owner: ReleaseOwner, child: pulumi.ResourceOptions
) -> kubernetes.helm.v3.Release:
    namespace = kubernetes.core.v1.Namespace(
        f"{name}-namespace",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(
            name=args.namespace,
            # Linkerd's pods need what it writes: it must not wait for Linkerd's webhooks.
            labels={WEBHOOKS_LABEL: "disabled"},
        ),
        opts=child,
    )
    return release(
        f"{name}-release",
        "trust-manager",
        source=args.charts,
        namespace=namespace.metadata["name"],
        values=merge_user_values(default_values(args), args.values, encrypted=args.encrypted),
        timeout_seconds=args.timeout_seconds,
        owner=owner,
        opts=child,
    )


def default_values(args: TrustManagerArgs) -> dict[str, Any]:
    """Return the Helm values that keep all of trust-manager within its release and its namespace.

    It needs no public CAs, which no mesh trusts, and reads no sources from other namespaces.
    """
    return {
        "crds": {"enabled": True, "keep": False},
        "defaultPackage": {"enabled": False},
        "app": {
            "trust": {"namespace": args.namespace},
            "webhook": {"tls": {"helmCert": {"enabled": args.own_certificate}}},
        },
    }
