"""The component, whose mode declares what signs the issuer."""

from collections.abc import Mapping, Sequence

import pulumi

from components.ca_issuer import CaCertificate
from components.charts import Resources
from components.identity_issuer import anchor, external_issuer, external_secret, intermediate, signed_here
from components.identity_issuer.arguments import IdentityIssuerArgs, Mode
from components.identity_issuer.certificate import declare_certificate
from meshtrust.pki.issuer_mode import IssuerMode

_MODES: Mapping[IssuerMode, Mode] = {
    "intermediate": intermediate.declare,
    "anchor": anchor.declare,
    "external-issuer": external_issuer.declare,
    "external-secret": external_secret.declare,
    "pulumi": signed_here.declare,
}


class IdentityIssuer(pulumi.ComponentResource):
    """`meshtrust:index:IdentityIssuer`: what makes Secret ``linkerd-identity-issuer``, by the policy's mode.

    The signer is declared first, so that the cluster can be looked at before `issue` changes the issuer.
    """

    signed_by: Sequence[pulumi.Resource]
    """Resources that sign the issuer."""
    ca_issuer: str
    """Name of the Issuer among them; empty if nothing of this stack signs through cert-manager."""
    certificate: CaCertificate | None
    """The issuer's Certificate, where a CA of this stack signs it."""
    issued: Sequence[pulumi.Resource]
    """Resources to depend on until the issuer is in its Secret; empty before `issue`, and if a third party writes
    the Secret."""

    def __init__(self, name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:IdentityIssuer", name, None, opts)
        self._name, self._args = name, args
        # Said of each resource: when a mode is left its resources go and this component stays, and the engine orders
        # deletions by direct dependencies only, so that cert-manager would go before its own objects.
        self._child = pulumi.ResourceOptions(parent=self, depends_on=args.after, deleted_with=args.deleted_with)
        self._signer = _MODES[args.policy.mode](name, args, self._child)
        self.signed_by, self.certificate, self.issued = self._signer.resources, self._signer.certificate, []
        self.ca_issuer = self._signer.reference.name if self._signer.certificate and self._signer.reference else ""

    def issue(self, after: Resources) -> None:
        """Declare the issuer; called once.

        Args:
            after: The resources of `signed_by`, once nothing stands against the change.
        """
        opts = pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=after))
        if self._signer.reference:
            self.issued = [declare_certificate(self._name, self._args, self._signer.reference, opts)]
        elif self._signer.pair:
            self.issued = [signed_here.declare_secret(self._name, self._args, self._signer.pair, opts)]
        self.register_outputs({})
