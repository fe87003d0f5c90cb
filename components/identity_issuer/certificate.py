"""The Certificate of the identity issuer and its CA Issuer, for the modes in which cert-manager issues."""

import pulumi
import pulumi_kubernetes as kubernetes

from components.ca_issuer import CaCertificate, declare_ca_issuer
from components.identity_issuer.arguments import IdentityIssuerArgs, IssuerPolicy, IssuerReference, IssuerSigner
from meshtrust.names import CERT_MANAGER_API, CERT_MANAGER_GROUP, IDENTITY_ISSUER
from meshtrust.pki.durations import format_duration


def declare_certificate(
    name: str, args: IdentityIssuerArgs, reference: IssuerReference, opts: pulumi.ResourceOptions
) -> pulumi.Resource:
    """Declare the Certificate ``linkerd-identity-issuer``.

    The run waits until it is issued (program/wait/issuer_secret.py).

    It does not make the Secret of that name: cert-manager does, and it alone knows the issuer's key. Its name is the
    same in every mode, so that a move from one to another is a change of ``issuerRef``, which cert-manager answers by
    issuing at once, and the old issuer stays until then.
    """
    return kubernetes.apiextensions.CustomResource(
        f"{name}-certificate",
        api_version=CERT_MANAGER_API,
        kind="Certificate",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(
            name=IDENTITY_ISSUER, namespace=args.namespace, annotations={"pulumi.com/patchForce": "true"}
        ),
        spec=certificate_spec(args.policy, reference),
        opts=opts,
    )


def declare_ca(
    name: str,
    ca_name: str,
    args: IdentityIssuerArgs,
    *,
    chain: pulumi.Output[str],
    key: pulumi.Output[str],
    opts: pulumi.ResourceOptions,
) -> IssuerSigner:
    """Declare a CA Issuer, and return it as what signs; the arguments are those of `declare_ca_issuer`."""
    prefix = f"{name}-{args.signer.generation}"
    issuer = declare_ca_issuer(prefix, ca_name, args.namespace, chain=chain, key=key, opts=opts)
    reference = IssuerReference(name=ca_name, kind="Issuer", group=CERT_MANAGER_GROUP)
    certificate = CaCertificate(
        secret=IDENTITY_ISSUER, spec=certificate_spec(args.policy, reference), chain=chain, key=key
    )
    return IssuerSigner(reference=reference, certificate=certificate, resources=[issuer])


def certificate_spec(policy: IssuerPolicy, reference: IssuerReference) -> dict[str, object]:
    """Return the spec of the identity issuer's Certificate, field for field that of Linkerd's guide.

    Two defaults of cert-manager are written out, because they have changed before: the size of the key and that each
    issue has a new one.

    Source: linkerd.io, "Automatically Rotating Control Plane TLS Credentials".
    """
    return {
        "secretName": IDENTITY_ISSUER,
        "duration": format_duration(policy.duration),
        "renewBefore": format_duration(policy.renew_before),
        "issuerRef": {"name": reference.name, "kind": reference.kind, "group": reference.group},
        "commonName": policy.identity,
        "dnsNames": [policy.identity],
        "isCA": True,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    }
