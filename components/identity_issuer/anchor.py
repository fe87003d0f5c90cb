"""Mode ``anchor``: cert-manager signs with the trust anchor itself, whose key lies on the cluster: Linkerd's guide."""

import pulumi

from components.identity_issuer.arguments import IdentityIssuerArgs, IssuerSigner
from components.identity_issuer.certificate import declare_ca
from meshtrust.names import TRUST_ANCHOR


def declare(name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions) -> IssuerSigner:
    """Declare the CA Issuer on the anchor."""
    ca_name = anchor_name(args.signer.generation, args.default_named_generation)
    return declare_ca(name, ca_name, args, chain=args.signer.certificate_pem, key=args.signer.key, opts=opts)


def anchor_name(generation: str, default_named_generation: str) -> str:
    """Return the name of a generation's Secret and Issuer: the guide's, or one by generation."""
    return TRUST_ANCHOR if generation == default_named_generation else f"{TRUST_ANCHOR}-{generation}"
