"""Names and numbers of Linkerd and its charts, each written once."""

from datetime import timedelta

IDENTITY_ISSUER = "linkerd-identity-issuer"
TRUST_ROOTS, TRUST_ROOTS_KEY = "linkerd-identity-trust-roots", "ca-bundle.crt"
# The names of Linkerd's guide for the trust anchor's Secret and for the one that it replaced.
GUIDE_ANCHORS = ("linkerd-trust-anchor", "linkerd-previous-anchor")

# linkerd2 controller/cmd/identity/main.go: the schemes, and what certificate and key are called in the Secret of each.
KUBERNETES_TLS, LINKERD_TLS = "kubernetes.io/tls", "linkerd.io/tls"
SECRET_KEYS = {KUBERNETES_TLS: ("tls.crt", "tls.key"), LINKERD_TLS: ("crt.pem", "key.pem")}

# linkerd2 charts/linkerd-control-plane/values.yaml: identity.issuer.issuanceLifetime and clockSkewAllowance.
LEAF_LIFETIME, CLOCK_SKEW = timedelta(hours=24), timedelta(seconds=20)

# linkerd2 pkg/issuercerts/issuercerts.go: keys of a trust anchor, and signatures by the kind of key.
P256 = "ECDSA on secp256r1"
ANCHOR_KEYS = (P256, "RSA of 2048 bits", "RSA of 4096 bits")
ECDSA_SIGNATURES, RSA_SIGNATURES = ("ECDSA-SHA256", "SHA256-RSA"), ("SHA256-RSA",)

# Sections of the chart's values that are about a webhook's certificate.
WEBHOOK_SECTIONS = ("proxyInjector", "profileValidator", "policyValidator")
WEBHOOK_VALUES = ("externalSecret", "caBundle", "injectCaFrom", "injectCaFromSecret", "crtPEM", "keyPEM")
# The webhooks' Secrets, whose names the charts fix, and the Service that each certificate is for.
WEBHOOKS = {
    f"{service}-k8s-tls": service
    for service in (
        *("linkerd-proxy-injector", "linkerd-sp-validator", "linkerd-policy-validator"),
        *("tap", "tap-injector", "jaeger-injector"),
    )
}
# linkerd2 charts/linkerd-control-plane/values.yaml, proxyInjector.namespaceSelector.
UNINJECTED_NAMESPACES = ("kube-system", "cert-manager")
# linkerd2 charts/linkerd-control-plane/templates/namespace.yaml.
CONTROL_PLANE_LABEL = "linkerd.io/is-control-plane"
NO_WEBHOOKS_LABEL = "config.linkerd.io/admission-webhooks"
CONTROL_PLANE_CHARTS = ("linkerd-control-plane", "linkerd-enterprise-control-plane")
# The Secrets of the webhooks of Linkerd's control plane, by the section of the chart's values.
SECTION_SECRETS = {
    "proxyInjector": "linkerd-proxy-injector-k8s-tls",
    "profileValidator": "linkerd-sp-validator-k8s-tls",
    "policyValidator": "linkerd-policy-validator-k8s-tls",
}
