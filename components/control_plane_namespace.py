"""The namespace of Linkerd's control plane, labelled as Linkerd needs it."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from meshtrust.names import CONTROL_PLANE_LABEL, CONTROL_PLANE_NAMESPACE_LABEL, INJECT_ANNOTATION, WEBHOOKS_LABEL


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
    resource: kubernetes.core.v1.Namespace
    """The namespace itself, with which Kubernetes deletes all that is in it."""

    def __init__(self, name: str, args: ControlPlaneNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:ControlPlaneNamespace", name, None, opts)
        self.resource = kubernetes.core.v1.Namespace(
            name,
            metadata=kubernetes.meta.v1.ObjectMetaArgs(
                name=args.name,
                labels={
                    CONTROL_PLANE_LABEL: "true",
                    CONTROL_PLANE_NAMESPACE_LABEL: args.name,
                    WEBHOOKS_LABEL: "disabled",
                    "pod-security.kubernetes.io/enforce": "privileged",
                },
                annotations={INJECT_ANNOTATION: "disabled"},
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.name = self.resource.metadata["name"]
        self.register_outputs({"name": self.name})
