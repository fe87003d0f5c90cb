"""Names and ports that Linkerd, cert-manager and trust-manager fix, each written here and nowhere else.

A user cannot change them. Names that a user chooses, such as the namespace of the control plane, are settings.
"""

# linkerd2 charts/linkerd-control-plane/templates: what its pods mount, and what the chart keeps its own values in.
IDENTITY_ISSUER = "linkerd-identity-issuer"
TRUST_ROOTS = "linkerd-identity-trust-roots"
TRUST_ROOTS_KEY = "ca-bundle.crt"
LINKERD_CONFIG = "linkerd-config"
# Linkerd's guide to automatic rotation: the Secret of the trust anchor, and that of the anchor which it replaced.
TRUST_ANCHOR = "linkerd-trust-anchor"
PREVIOUS_ANCHOR = "linkerd-previous-anchor"

# linkerd2 controller/cmd/identity/main.go: the schemes of the issuer's Secret, and its keys by scheme.
KUBERNETES_TLS = "kubernetes.io/tls"
LINKERD_TLS = "linkerd.io/tls"
SECRET_KEYS = {KUBERNETES_TLS: ("tls.crt", "tls.key"), LINKERD_TLS: ("crt.pem", "key.pem")}

# Charts, which are the names of their releases too where `linkerd install` or this program makes them, unless named.
LINKERD_CRDS = "linkerd-crds"
LINKERD_CONTROL_PLANE = "linkerd-control-plane"
LINKERD_ENTERPRISE_CRDS = "linkerd-enterprise-crds"
LINKERD_ENTERPRISE_CONTROL_PLANE = "linkerd-enterprise-control-plane"
CONTROL_PLANE_CHARTS = (LINKERD_CONTROL_PLANE, LINKERD_ENTERPRISE_CONTROL_PLANE)
CRDS_CHARTS = (LINKERD_CRDS, LINKERD_ENTERPRISE_CRDS)
# Buoyant Enterprise for Linkerd: the keys of the license in the chart's values, and that in the Secret which they name
# (docs.buoyant.io, reference of the lifecycle operator; BuoyantIO/service-mesh-academy).
LICENSE_VALUE = "license"
LICENSE_SECRET_VALUE = "licenseSecret"  # noqa: S105 the name of a value, and no license
LICENSE_SECRET_KEY = "license"  # noqa: S105 likewise

# Deployments and Services of the control plane, and the container of a proxy.
IDENTITY = "linkerd-identity"
PROXY_INJECTOR = "linkerd-proxy-injector"
PROFILE_VALIDATOR = "linkerd-sp-validator"
POLICY_VALIDATOR = "linkerd-policy-validator"
PROXY = "linkerd-proxy"
IDENTITY_ADMIN_PORT = 9990
PROXY_ADMIN_PORT = 4191


def webhook_secret(service: str) -> str:
    """Return the name of the Secret with the certificate of a webhook's Service, which Linkerd's charts fix."""
    return f"{service}-k8s-tls"


# Webhooks: their configurations, and the ports that their pods serve.
INJECTOR_CONFIGURATION = "linkerd-proxy-injector-webhook-config"
PROFILE_VALIDATOR_CONFIGURATION = "linkerd-sp-validator-webhook-config"
POLICY_VALIDATOR_CONFIGURATION = "linkerd-policy-validator-webhook-config"
TAP_INJECTOR_CONFIGURATION = "linkerd-tap-injector-webhook-config"
TAP_API = "v1alpha1.tap.linkerd.io"
WEBHOOK_PORT = 8443
POLICY_WEBHOOK_PORT = 9443
TAP_PORT = 8089
# Sections of the chart's values with the credentials of a webhook, and the Service that each is for.
SECTION_SERVICES = {
    "proxyInjector": PROXY_INJECTOR,
    "profileValidator": PROFILE_VALIDATOR,
    "policyValidator": POLICY_VALIDATOR,
}
# The Services of webhooks, those of Linkerd's extensions among them, by the Secrets of their certificates.
SECRET_SERVICES = {
    webhook_secret(service): service
    for service in (*SECTION_SERVICES.values(), "tap", "tap-injector", "jaeger-injector")
}
# linkerd2 charts/linkerd-control-plane/values.yaml, proxyInjector.namespaceSelector.
UNINJECTED_NAMESPACES = ("kube-system", "cert-manager")

# Labels and annotations of Linkerd.
CONTROL_PLANE_LABEL = "linkerd.io/is-control-plane"
CONTROL_PLANE_NAMESPACE_LABEL = "linkerd.io/control-plane-ns"
COMPONENT_LABEL = "linkerd.io/control-plane-component"
EXTENSION_LABEL = "linkerd.io/extension"
WEBHOOKS_LABEL = "config.linkerd.io/admission-webhooks"
INJECT_ANNOTATION = "linkerd.io/inject"
TRUST_ROOTS_ANNOTATION = "linkerd.io/trust-root-sha256"
# API groups of Linkerd.
EXTERNAL_WORKLOAD_GROUP = "workload.linkerd.io"
MULTICLUSTER_GROUP = "multicluster.linkerd.io"

# cert-manager: its API, the annotations of a Secret that it has written, and those of what its CA injector writes.
CERT_MANAGER_GROUP = "cert-manager.io"
CERT_MANAGER_API = "cert-manager.io/v1"
OLD_CERT_MANAGER_GROUP = "certmanager.k8s.io"
CERTIFICATES_DEFINITION = "certificates.cert-manager.io"
CERTIFICATE_ANNOTATION = "cert-manager.io/certificate-name"
REVISION_ANNOTATION = "cert-manager.io/certificate-revision"
INJECT_CA_ANNOTATION = "cert-manager.io/inject-ca-from"
INJECT_CA_SECRET_ANNOTATION = "cert-manager.io/inject-ca-from-secret"  # noqa: S105 an annotation

# trust-manager: its API; a group that its next version may have.
TRUST_MANAGER_GROUP = "trust.cert-manager.io"
TRUST_MANAGER_API = "trust.cert-manager.io/v1alpha1"
NEW_TRUST_MANAGER_GROUP = "trust-manager.io"
BUNDLES_DEFINITION = "bundles.trust.cert-manager.io"

# Kubernetes: the label by which a selector names one namespace.
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
