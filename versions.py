"""Versions of the charts that the program installs; Renovate reads the marker above each."""

# renovate: datasource=helm depName=cert-manager registryUrl=https://charts.jetstack.io
CERT_MANAGER = "v1.21.2"

# renovate: datasource=helm depName=linkerd-control-plane registryUrl=https://helm.linkerd.io/edge
LINKERD = "2026.8.4"

# renovate: datasource=helm depName=linkerd-enterprise-control-plane registryUrl=https://helm.buoyant.cloud
LINKERD_ENTERPRISE = "2.20.2"

# renovate: datasource=helm depName=trust-manager registryUrl=https://charts.jetstack.io
TRUST_MANAGER = "v0.24.0"
