"""Mode ``external-issuer``: cert-manager has it signed elsewhere: by Vault, AWS PCA, step-ca or any other."""

import pulumi

from components.identity_issuer.arguments import IdentityIssuerArgs, IssuerSigner


def declare(_name: str, args: IdentityIssuerArgs, _opts: pulumi.ResourceOptions) -> IssuerSigner:
    """Return the configured ``issuerRef``, and declare nothing.

    Raises:
        ValueError: There is none, which program/configuration/issuer.py refuses first.
    """
    if args.policy.reference is None:
        msg = "mode external-issuer needs the reference of an issuer"
        raise ValueError(msg)
    return IssuerSigner(reference=args.policy.reference)
