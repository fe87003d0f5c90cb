"""The certificates of Linkerd's webhooks, issued by cert-manager under an authority of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_tls as tls

from components.ca_issuer import CaCertificate, declare_ca_issuer
from components.charts import Resources
from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE, VIZ, Webhook
from meshtrust.names import CERT_MANAGER_API, CERT_MANAGER_GROUP
from meshtrust.pki.durations import format_duration
from meshtrust.pki.pem import normalise_bundle

# Nothing renews an authority but another one; every run warns of the end of one.
AUTHORITY_VALIDITY = timedelta(days=3650)
# Renewed a month after its issue, a certificate always has the 60 days left that `linkerd check` asks for (linkerd2
# pkg/healthcheck), and cert-manager may be down for two months. The webhooks load a new one while they run.
DURATION, RENEW_BEFORE = timedelta(days=90), timedelta(days=61)


@dataclass(frozen=True, kw_only=True)
class WebhookPolicy:
    """Under whose authority the webhooks' certificates are.

    Attributes:
        authorities: Names of the authorities that the API server trusts for them.
        signer: The one that signs.
        viz_namespace: Namespace of the extension viz, which exists; empty where it has no part in this.
    """

    authorities: tuple[str, ...]
    signer: str
    viz_namespace: str


@dataclass(frozen=True, kw_only=True)
class WebhookCertificatesArgs:
    """Inputs of the certificates.

    Attributes:
        policy: Their authorities; None if Linkerd's chart makes them.
        namespace: Namespace of Linkerd's control plane, which exists.
        after: What is there before cert-manager's objects are made, and goes after them; keys wait for none of it.
        deleted_with: The namespace itself, whose deletion deletes what is made in it.
    """

    policy: WebhookPolicy | None
    namespace: pulumi.Input[str]
    after: Resources = field(default_factory=list)
    deleted_with: pulumi.Resource | None = None


class WebhookCertificates(pulumi.ComponentResource):
    """`meshtrust:index:WebhookCertificates`: authorities, and a Certificate for each webhook.

    An authority is a `tls.PrivateKey` and a `tls.SelfSignedCert`; the one that signs is a CA Secret and an Issuer too,
    in each namespace with webhooks. They are named by authority, so that cert-manager issues at once after a switch.

    The charts are given the bundle of all authorities (``caBundle``), and do not have it injected (``injectCaFrom``):
    cert-manager's injector writes the ``ca.crt`` of what was issued last (``pkg/controller/cainjector/sources.go``), so
    that under a new CA every call would fail until the webhook has loaded its new certificate, a minute or two, and
    pods be refused or left without a proxy. With the bundle both authorities are good meanwhile.
    """

    bundle: pulumi.Output[str] | None
    """The authorities' certificates as normalised PEM, in their order, the ``caBundle`` of each webhook; None if the
    chart makes the certificates."""
    certificates: Sequence[pulumi.Resource]
    """The Certificates of the control plane's webhooks, which may not be issued; empty if the chart makes them."""
    by_ca: Sequence[CaCertificate]
    """The same with the CA that signs them."""

    def __init__(self, name: str, args: WebhookCertificatesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:WebhookCertificates", name, None, opts)
        self._policy = args.policy
        self.bundle, self.certificates, self.by_ca = None, [], []
        if args.policy is None:
            self.register_outputs({})
            return
        # Said of each resource, because the engine orders deletions by direct dependencies only.
        self._on_cluster = pulumi.ResourceOptions(parent=self, depends_on=args.after)
        made = {authority: self._authority(name, authority) for authority in args.policy.authorities}
        pair = made[args.policy.signer]
        self.certificates = self._issue(
            name, args.policy.signer, pair, CONTROL_PLANE, args.namespace, deleted_with=args.deleted_with
        )
        self.by_ca = [
            CaCertificate(
                secret=webhook.secret,
                spec=_spec_in(webhook, args.policy.signer, args.namespace),
                chain=pair[0],
                key=pair[1],
            )
            for webhook in CONTROL_PLANE
        ]
        if args.policy.viz_namespace:
            self._issue(f"{name}-viz", args.policy.signer, pair, VIZ, args.policy.viz_namespace, waits=True)
        roots = [root for root, _ in made.values()]
        self.bundle = pulumi.Output.all(*roots).apply(lambda pems: normalise_bundle(*pems))
        self.register_outputs({"bundle": self.bundle})

    def as_outputs(self) -> dict[str, Any]:
        """Return what the next run reads of them, and the bundle, which the values of linkerd-viz are given."""
        if self._policy is None:
            return {"mode": "chart"}
        return {
            "mode": "cert-manager",
            "authorities": list(self._policy.authorities),
            "signer": self._policy.signer,
            "caBundle": self.bundle,
        }

    def _authority(self, name: str, authority: str) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        """Return an authority's certificate and its key, as PEM."""
        child = pulumi.ResourceOptions(parent=self)
        key = tls.PrivateKey(f"{name}-{authority}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        root = tls.SelfSignedCert(
            f"{name}-{authority}-root",
            private_key_pem=key.private_key_pem,
            subject=tls.SelfSignedCertSubjectArgs(
                common_name="webhooks.linkerd", organizational_unit=f"authority {authority}"
            ),
            is_ca_certificate=True,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=AUTHORITY_VALIDITY // timedelta(hours=1),
            opts=child,
        )
        return root.cert_pem, pulumi.Output.secret(key.private_key_pem)

    def _issue(
        self,
        name: str,
        signer: str,
        pair: tuple[pulumi.Output[str], pulumi.Output[str]],
        webhooks: Sequence[Webhook],
        namespace: pulumi.Input[str],
        *,
        deleted_with: pulumi.Resource | None = None,
        waits: bool = False,
    ) -> list[pulumi.Resource]:
        """Declare the Issuer of a namespace, and the certificates of its webhooks.

        Pulumi's provider waits for those that the run itself does not wait for.
        """
        child = pulumi.ResourceOptions.merge(self._on_cluster, pulumi.ResourceOptions(deleted_with=deleted_with))
        ca_name = _ca_name(signer)
        issuer = declare_ca_issuer(f"{name}-{signer}", ca_name, namespace, chain=pair[0], key=pair[1], opts=child)
        waiting = pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[issuer]))
        # A stack whose state was lost is made again over its own objects, under another authority.
        annotations = {"pulumi.com/patchForce": "true"}
        if waits:
            annotations["pulumi.com/waitFor"] = "condition=Ready"
        return [
            kubernetes.apiextensions.CustomResource(
                f"{name}-{webhook.service}",
                api_version=CERT_MANAGER_API,
                kind="Certificate",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(
                    name=webhook.service, namespace=namespace, annotations=annotations
                ),
                spec=_spec_in(webhook, signer, namespace),
                opts=waiting,
            )
            for webhook in webhooks
        ]


def _ca_name(signer: str) -> str:
    return f"linkerd-webhook-ca-{signer}"


def _spec_in(webhook: Webhook, signer: str, namespace: pulumi.Input[str]) -> pulumi.Output[dict[str, Any]]:
    return pulumi.Output.from_input(namespace).apply(partial(certificate_spec, webhook, _ca_name(signer)))


def certificate_spec(webhook: Webhook, issuer_name: str, namespace: str) -> dict[str, Any]:
    """Return the spec of a webhook's Certificate.

    Source: linkerd.io, "Automatically Rotating Webhook TLS Credentials", but for the lifetime.
    """
    host = f"{webhook.service}.{namespace}.svc"
    return {
        "secretName": webhook.secret,
        "duration": format_duration(DURATION),
        "renewBefore": format_duration(RENEW_BEFORE),
        "issuerRef": {"name": issuer_name, "kind": "Issuer", "group": CERT_MANAGER_GROUP},
        "commonName": host,
        "dnsNames": [host],
        "isCA": False,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always", "encoding": webhook.encoding},
        "usages": ["server auth"],
    }
