"""The metrics that alerts and dashboard are made from, each as it is called by whoever exposes it."""

# linkerd2 pkg/identity/service.go: the life left of the issuer that each replica signs with.
SERVED_TTL = "issuer_cert_ttl_seconds"
# cert-manager internal/collectors/certificate_collector.go.
CERTIFICATE_END = "certmanager_certificate_expiration_timestamp_seconds"
CERTIFICATE_READY = "certmanager_certificate_ready_status"
# linkerd2-proxy linkerd/identity/src/metrics.rs, which linkerd/app/src/lib.rs registers under control_identity; older
# proxies had the names without that prefix.
LEAF_END = "(control_)?identity_cert_expiration_timestamp_seconds"
LEAF_REFRESHES = "(control_)?identity_cert_refreshes_total"
PROXY_METRICS = "(control_)?identity_cert_.*"
# The ports that they are scraped from, by name: linkerd2 charts/linkerd-control-plane (templates/identity.yaml) and
# charts/partials (templates/_proxy.tpl); cert-manager deploy/charts/cert-manager (templates/service.yaml).
IDENTITY_PORT, PROXY_PORT, CERT_MANAGER_PORT = "ident-admin", "linkerd-admin", "http-metrics"
