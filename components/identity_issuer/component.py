"""The component: it leaves all that it declares to the mode."""

from collections.abc import Mapping, Sequence

import pulumi

from components.identity_issuer import anchor, external_issuer, external_secret, intermediate, signed_here
from components.identity_issuer.arguments import IdentityIssuerArgs, Mode
from meshtrust.pki.issuer_mode import IssuerMode

_MODES: Mapping[IssuerMode, Mode] = {
    "intermediate": intermediate.declare,
    "anchor": anchor.declare,
    "external-issuer": external_issuer.declare,
    "external-secret": external_secret.declare,
    "pulumi": signed_here.declare,
}


class IdentityIssuer(pulumi.ComponentResource):
    """`meshtrust:index:IdentityIssuer`: what makes Secret ``linkerd-identity-issuer``, by the policy's mode."""

    issued: Sequence[pulumi.Resource]
    """Who depends on these waits until the issuer is in its Secret; none where a third party writes it."""

    def __init__(self, name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:IdentityIssuer", name, None, opts)
        # Said of each resource: when a mode is left its resources go and this component stays, and the engine orders
        # deletions by direct dependencies only, so that cert-manager would go before its own objects.
        child = pulumi.ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self.issued = _MODES[args.policy.mode](name, args, child)
        self.register_outputs({})
