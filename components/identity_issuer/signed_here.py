"""Mode ``pulumi``: the tls provider signs the identity issuer, for clusters without cert-manager."""

import pulumi
import pulumi_kubernetes as kubernetes

from components.identity_issuer.arguments import IdentityIssuerArgs, IssuerSigner
from components.signed_certificate import CaSubject, SignedPair, sign_ca
from components.tls_secret import tls_data
from meshtrust.names import IDENTITY_ISSUER, KUBERNETES_TLS


def declare(name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions) -> IssuerSigner:
    """Declare the issuer under the trust anchor, which is renewed by another ``issuer.serial``, never by the clock."""
    generation, serial = args.signer.generation, args.policy.serial
    issuer = sign_ca(
        f"{name}-{generation}-{serial}",
        CaSubject(
            common_name=args.policy.identity,
            organizational_unit=f"generation {generation}, issuer {serial}",
            dns_names=[args.policy.identity],
            may_sign_a_ca=False,
        ),
        args.signer,
        validity=args.policy.validity,
        parent=opts.parent,
    )
    return IssuerSigner(pair=issuer)


def declare_secret(
    name: str, args: IdentityIssuerArgs, issuer: SignedPair, opts: pulumi.ResourceOptions
) -> pulumi.Resource:
    """Declare the Secret that holds the issuer.

    Another key and certificate are written into it in place. The Secret is left where it is when the mode changes, so
    that a mesh has an issuer at every moment; it goes with its namespace.
    """
    return kubernetes.core.v1.Secret(
        f"{name}-secret",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(
            name=IDENTITY_ISSUER,
            namespace=args.namespace,
            # Whoever wrote it before still owns its fields, by the API server's book.
            annotations={"pulumi.com/patchForce": "true"},
        ),
        type=KUBERNETES_TLS,
        data=tls_data(issuer.certificate_pem, issuer.private_key_pem, args.signer.certificate_pem),
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(retain_on_delete=True)),
    )
