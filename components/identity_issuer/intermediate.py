"""Mode ``intermediate``: cert-manager signs with an intermediate CA of this cluster, which the anchor signed."""

import pulumi

from components.identity_issuer.arguments import IdentityIssuerArgs, IssuerSigner
from components.identity_issuer.certificate import declare_ca
from components.signed_certificate import intermediate_subject, sign_ca
from meshtrust.pki.pem import normalise_bundle


def declare(name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions) -> IssuerSigner:
    """Declare the intermediate and the CA Issuer on it.

    The root stands in the chain so that cert-manager puts it, and not the intermediate, into ``ca.crt`` of what it
    issues (cert-manager ``pkg/util/pki/parse_certificate_chain.go``), where ``linkerd check`` looks for it.
    """
    generation = args.signer.generation
    intermediate = args.intermediate or sign_ca(
        f"{name}-{generation}-intermediate",
        intermediate_subject(args.policy.trust_domain, generation),
        args.signer,
        validity=None,
        parent=opts.parent,
    )
    chain = pulumi.Output.all(intermediate.certificate_pem, args.signer.certificate_pem).apply(
        lambda pems: normalise_bundle(*pems)
    )
    ca_name = f"linkerd-issuer-ca-{generation}"
    return declare_ca(name, ca_name, args, chain=chain, key=intermediate.private_key_pem, opts=opts)
