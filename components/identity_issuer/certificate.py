"""What the modes share in which cert-manager issues: the Certificate, and a CA Issuer on a Secret of this program."""

import pulumi
import pulumi_kubernetes as kubernetes

from components.identity_issuer.arguments import SECRET_NAME, IdentityIssuerArgs, IssuerPolicy, IssuerReference
from components.tls_secret import tls_data
from meshtrust.durations import format_duration


def declare_certificate(
    name: str, args: IdentityIssuerArgs, reference: IssuerReference, opts: pulumi.ResourceOptions
) -> pulumi.Resource:
    """Declare the Certificate ``linkerd-identity-issuer``, which is Ready once it has been issued.

    It does not make the Secret of that name: cert-manager does, and it alone knows the issuer's key. Its name is the
    same in every mode, so that a move from one to another is a change of ``issuerRef``, which cert-manager answers by
    issuing anew at once, the old issuer staying until then.
    """
    return kubernetes.apiextensions.CustomResource(
        f"{name}-certificate",
        api_version="cert-manager.io/v1",
        kind="Certificate",
        metadata=ready_metadata(SECRET_NAME, args.namespace),
        spec=certificate_spec(args.policy, reference),
        opts=opts,
    )


def declare_ca_issuer(
    name: str,
    ca_name: str,
    args: IdentityIssuerArgs,
    *,
    chain: pulumi.Output[str],
    key: pulumi.Output[str],
    opts: pulumi.ResourceOptions,
) -> pulumi.Resource:
    """Declare a CA Secret and an Issuer on it, and the Certificate that it signs.

    Secret and Issuer are named by generation: a Certificate whose ``issuerRef`` changed is issued anew at once, while
    one whose CA changed under the same name is not (cert-manager issue 5558).

    Args:
        name: Name of the component.
        ca_name: Name of the Secret and of the Issuer.
        args: What the identity issuer is made from.
        chain: The CA's certificate, and its root where that is another, as PEM.
        key: The CA's key as PEM.
        opts: The parent.
    """
    secret = kubernetes.core.v1.Secret(
        f"{name}-{args.signer.generation}-ca",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=ca_name, namespace=args.namespace),
        type="kubernetes.io/tls",
        data=tls_data(chain, key),
        opts=opts,
    )
    issuer = kubernetes.apiextensions.CustomResource(
        f"{name}-{args.signer.generation}-issuer",
        api_version="cert-manager.io/v1",
        kind="Issuer",
        metadata=ready_metadata(ca_name, args.namespace),
        spec={"ca": {"secretName": secret.metadata["name"]}},
        opts=opts,
    )
    reference = IssuerReference(name=ca_name, kind="Issuer", group="cert-manager.io")
    waiting = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[issuer]))
    return declare_certificate(name, args, reference, waiting)


def certificate_spec(policy: IssuerPolicy, reference: IssuerReference) -> dict[str, object]:
    """Return the spec of the identity issuer's Certificate, field for field that of Linkerd's guide.

    Two defaults of cert-manager are written out, because they have changed before: the size of the key and that each
    issue has a new one.

    Source: linkerd.io, "Automatically Rotating Control Plane TLS Credentials".
    """
    return {
        "secretName": SECRET_NAME,
        "duration": format_duration(policy.duration),
        "renewBefore": format_duration(policy.renew_before),
        "issuerRef": {"name": reference.name, "kind": reference.kind, "group": reference.group},
        "commonName": policy.identity,
        "dnsNames": [policy.identity],
        "isCA": True,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    }


def ready_metadata(name: str, namespace: pulumi.Input[str]) -> kubernetes.meta.v1.ObjectMetaArgs:
    """Return metadata that makes Pulumi wait for the Ready condition, which it does for no custom resource unasked."""
    return kubernetes.meta.v1.ObjectMetaArgs(
        name=name, namespace=namespace, annotations={"pulumi.com/waitFor": "condition=Ready"}
    )
