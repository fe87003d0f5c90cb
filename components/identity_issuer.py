"""The identity issuer: what signs it, and the Certificate that cert-manager re-issues into Linkerd's Secret."""

import base64
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_tls as tls

from components.trust_anchor import SigningPair
from meshtrust.durations import format_duration
from meshtrust.pem import normalise_bundle

IssuerMode = Literal["intermediate", "anchor"]

# Fixed by Linkerd's chart, which mounts a Secret of this name.
SECRET_NAME = "linkerd-identity-issuer"  # noqa: S105 a name, not a secret
GUIDE_NAME = "linkerd-trust-anchor"


@dataclass(frozen=True, kw_only=True)
class IssuerPolicy:
    """Who signs the identity issuer, and how long it lives.

    Attributes:
        mode: ``anchor``: cert-manager signs with the trust anchor itself, as Linkerd's guide has it. ``intermediate``:
            it signs with an intermediate CA of this cluster, and the anchor's key stays out of the cluster.
        trust_domain: Linkerd's trust domain, which the issuer's names end with.
        anchor_validity: Lifetime of a trust anchor; an intermediate that is made from now on lives a day less.
        duration: Lifetime of the issuer.
        renew_before: How long before its end cert-manager issues it anew.
    """

    mode: IssuerMode
    trust_domain: str
    anchor_validity: timedelta
    duration: timedelta
    renew_before: timedelta


@dataclass(frozen=True, kw_only=True)
class IdentityIssuerArgs:
    """What an identity issuer is made from.

    Attributes:
        policy: Who signs it, and how long it lives.
        namespace: Namespace of Linkerd's control plane, which exists.
        signing: The trust anchor's generation that signs.
        guide_generation: The generation whose Secret and Issuer bear the guide's names in ``anchor`` mode.
    """

    policy: IssuerPolicy
    namespace: pulumi.Input[str]
    signing: SigningPair
    guide_generation: str


class IdentityIssuer(pulumi.ComponentResource):
    """`meshtrust:index:IdentityIssuer`: a CA Secret, an Issuer on it, and the Certificate ``linkerd-identity-issuer``.

    In mode ``intermediate`` also a `tls.PrivateKey`, `tls.CertRequest` and `tls.LocallySignedCert`. Secret and Issuer
    are named by generation: a Certificate whose ``issuerRef`` changed is issued anew at once, while one whose CA
    changed under the same name is not (cert-manager issue 5558).

    It does not make the Secret ``linkerd-identity-issuer``: cert-manager does, and it alone knows the issuer's key.
    """

    certificate: kubernetes.apiextensions.CustomResource
    """The Certificate; who depends on it waits until the issuer has been issued."""

    def __init__(self, name: str, args: IdentityIssuerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:IdentityIssuer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        if args.policy.mode == "anchor":
            ca_name = anchor_name(args.signing.generation, args.guide_generation)
            chain, key = args.signing.certificate_pem, args.signing.private_key_pem
        else:
            ca_name = f"linkerd-issuer-ca-{args.signing.generation}"
            chain, key = self._intermediate(f"{name}-{args.signing.generation}-intermediate", args)
        secret = kubernetes.core.v1.Secret(
            f"{name}-{args.signing.generation}-ca",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=ca_name, namespace=args.namespace),
            type="kubernetes.io/tls",
            data={"tls.crt": chain.apply(_base64), "tls.key": key.apply(_base64)},
            opts=child,
        )
        issuer = kubernetes.apiextensions.CustomResource(
            f"{name}-{args.signing.generation}-issuer",
            api_version="cert-manager.io/v1",
            kind="Issuer",
            metadata=_ready(ca_name, args.namespace),
            spec={"ca": {"secretName": secret.metadata["name"]}},
            opts=child,
        )
        self.certificate = kubernetes.apiextensions.CustomResource(
            f"{name}-certificate",
            api_version="cert-manager.io/v1",
            kind="Certificate",
            metadata=_ready(SECRET_NAME, args.namespace),
            spec=certificate_spec(args.policy, issuer_name=ca_name),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[issuer]),
        )
        self.register_outputs({})

    def _intermediate(self, name: str, args: IdentityIssuerArgs) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        """Make an intermediate CA under the signing generation; return its chain with the root, and its key, as PEM.

        The root stands in the chain so that cert-manager puts it, and not the intermediate, into ``ca.crt`` of what it
        issues (cert-manager ``pkg/util/pki/parse_certificate_chain.go``), where ``linkerd check`` looks for it.
        """
        child = pulumi.ResourceOptions(parent=self)
        key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        # A certificate that exists keeps its subject and its days, whatever configuration says later.
        kept = pulumi.ResourceOptions(parent=self, ignore_changes=["subject"])
        request = tls.CertRequest(
            f"{name}-request",
            private_key_pem=key.private_key_pem,
            subject=tls.CertRequestSubjectArgs(
                common_name=f"intermediate.linkerd.{args.policy.trust_domain}",
                organization=pulumi.get_stack(),
                organizational_unit=f"generation {args.signing.generation}",
            ),
            opts=kept,
        )
        certificate = tls.LocallySignedCert(
            f"{name}-certificate",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=args.signing.private_key_pem,
            ca_cert_pem=args.signing.certificate_pem,
            is_ca_certificate=True,
            # The identity issuer is the one CA that may follow.
            max_path_length=1,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=(args.policy.anchor_validity - timedelta(days=1)) // timedelta(hours=1),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["validityPeriodHours"]),
        )
        chain = pulumi.Output.all(certificate.cert_pem, args.signing.certificate_pem).apply(
            lambda pems: normalise_bundle(*pems)
        )
        return chain, pulumi.Output.secret(key.private_key_pem)


def anchor_name(generation: str, guide_generation: str) -> str:
    """Return the name of a generation's Secret and Issuer in ``anchor`` mode: the guide's, or one by generation."""
    return GUIDE_NAME if generation == guide_generation else f"{GUIDE_NAME}-{generation}"


def certificate_spec(policy: IssuerPolicy, issuer_name: str) -> dict[str, object]:
    """Return the spec of the identity issuer's Certificate, field for field that of Linkerd's guide.

    Two defaults of cert-manager are written out, because they have changed before: the size of the key and that each
    issue has a new one.

    Source: linkerd.io, "Automatically Rotating Control Plane TLS Credentials".
    """
    identity = f"identity.linkerd.{policy.trust_domain}"
    return {
        "secretName": SECRET_NAME,
        "duration": format_duration(policy.duration),
        "renewBefore": format_duration(policy.renew_before),
        "issuerRef": {"name": issuer_name, "kind": "Issuer", "group": "cert-manager.io"},
        "commonName": identity,
        "dnsNames": [identity],
        "isCA": True,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    }


def _ready(name: str, namespace: pulumi.Input[str]) -> kubernetes.meta.v1.ObjectMetaArgs:
    """Return metadata that makes Pulumi wait for the Ready condition, which it does for no custom resource unasked."""
    return kubernetes.meta.v1.ObjectMetaArgs(
        name=name, namespace=namespace, annotations={"pulumi.com/waitFor": "condition=Ready"}
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
