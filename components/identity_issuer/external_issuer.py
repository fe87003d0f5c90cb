"""Mode ``external-issuer``: cert-manager has it signed elsewhere: by Vault, AWS PCA, step-ca or any other."""

from collections.abc import Sequence

import pulumi

from components.identity_issuer.arguments import IdentityIssuerArgs
from components.identity_issuer.certificate import declare_certificate


def declare(name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions) -> Sequence[pulumi.Resource]:
    """Declare the Certificate with the configured ``issuerRef``.

    Raises:
        ValueError: There is none, which program/configuration/settings.py refuses first.
    """
    if args.policy.reference is None:
        msg = "mode external-issuer needs the reference of an issuer"
        raise ValueError(msg)
    return [declare_certificate(name, args, args.policy.reference, opts)]
