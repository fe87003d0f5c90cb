"""The namespace of Linkerd's control plane, labelled as Linkerd needs it."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes


@dataclass(frozen=True, kw_only=True)
class ControlPlaneNamespaceArgs:
    """The name of the namespace."""

    name: str


class ControlPlaneNamespace(pulumi.ComponentResource):
    """`meshtrust:index:ControlPlaneNamespace`: a Namespace that Linkerd's charts leave to whoever runs Helm.

    The labels are those of ``linkerd install`` (linkerd2 ``charts/linkerd-control-plane/templates/namespace.yaml``):
    the control plane is found by them, its own webhooks leave it alone, and its proxies may set up iptables under Pod
    Security Admission.
    """

    name: pulumi.Output[str]
    """The name, known once the namespace exists."""

    def __init__(self, name: str, args: ControlPlaneNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:ControlPlaneNamespace", name, None, opts)
        namespace = kubernetes.core.v1.Namespace(
            name,
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.name,
                labels={
                    "linkerd.io/is-control-plane": "true",
                    "linkerd.io/control-plane-ns": args.name,
                    "config.linkerd.io/admission-webhooks": "disabled",
                    "pod-security.kubernetes.io/enforce": "privileged",
                },
                annotations={"linkerd.io/inject": "disabled"},
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.name = namespace.metadata["name"]
        self.register_outputs({"name": self.name})
