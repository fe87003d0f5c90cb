"""Mode ``anchor``: cert-manager signs with the trust anchor itself, whose key lies on the cluster: Linkerd's guide."""

from collections.abc import Sequence

import pulumi

from components.identity_issuer.arguments import IdentityIssuerArgs
from components.identity_issuer.certificate import declare_signed_by_ca
from meshtrust.names import TRUST_ANCHOR


def declare(name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions) -> Sequence[pulumi.Resource]:
    """Declare the CA Issuer on the anchor, and the Certificate."""
    ca_name = anchor_name(args.signer.generation, args.guide_generation)
    return [
        declare_signed_by_ca(name, ca_name, args, chain=args.signer.certificate_pem, key=args.signer.key, opts=opts)
    ]


def anchor_name(generation: str, guide_generation: str) -> str:
    """Return the name of a generation's Secret and Issuer: the guide's, or one by generation."""
    return TRUST_ANCHOR if generation == guide_generation else f"{TRUST_ANCHOR}-{generation}"
