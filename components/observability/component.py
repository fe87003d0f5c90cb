"""The component: the alerts, what is scraped for them, and the dashboard, as objects of the cluster."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.observability import metrics
from components.observability.alerts import Watched, alert_groups
from components.observability.dashboard import dashboard
from meshtrust.names import COMPONENT_LABEL, CONTROL_PLANE_NAMESPACE_LABEL

_API = "monitoring.coreos.com/v1"
# The label by which the sidecar of Grafana's chart finds dashboards by default.
_DASHBOARD_LABEL = {"grafana_dashboard": "1"}


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The monitored mesh, and its Prometheus.

    Attributes:
        namespace: Namespace of the objects; empty for that of the control plane.
        labels: Labels of every object, by which a Prometheus selects what it follows.
        cert_manager_namespace: Namespace of cert-manager's controller.
        watched: The installation.
    """

    namespace: str
    labels: Mapping[str, str]
    cert_manager_namespace: str
    watched: Watched


@dataclass(frozen=True, kw_only=True)
class ObservabilityArgs:
    """Inputs of the objects.

    Attributes:
        monitoring: The monitored mesh, and its Prometheus.
        namespace: Namespace of the objects, which exists.
    """

    monitoring: Monitoring
    namespace: pulumi.Input[str]


class Observability(pulumi.ComponentResource):
    """`meshtrust:index:Observability`: PrometheusRule, monitors and a ConfigMap with the dashboard.

    The monitors scrape only what alerts and dashboard use. cert-manager has a Service for its metrics; the identity
    service and the proxies have none, so that their pods are scraped.
    """

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshtrust:index:Observability", name, None, opts)
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        monitoring, watched = args.monitoring, args.monitoring.watched
        self._declare(f"{name}-rules", "PrometheusRule", "meshtrust", {"groups": alert_groups(watched)})
        if watched.by_cert_manager:
            self._declare(
                f"{name}-cert-manager",
                "ServiceMonitor",
                "meshtrust-cert-manager",
                _monitor(
                    "endpoints",
                    {"app.kubernetes.io/name": "cert-manager", "app.kubernetes.io/component": "controller"},
                    {"matchNames": [monitoring.cert_manager_namespace]},
                    # A Certificate's namespace is the metric's own label, and must not give way to the Service's.
                    {"port": metrics.CERT_MANAGER_PORT, "honorLabels": True, **_keep("certmanager_certificate_.*")},
                ),
            )
        self._declare(
            f"{name}-identity",
            "PodMonitor",
            "meshtrust-identity",
            _monitor(
                "podMetricsEndpoints",
                {COMPONENT_LABEL: "identity"},
                {"matchNames": [watched.namespace]},
                {"port": metrics.IDENTITY_PORT, **_keep(metrics.SERVED_TTL)},
            ),
        )
        self._declare(
            f"{name}-proxies",
            "PodMonitor",
            "meshtrust-proxies",
            _monitor(
                "podMetricsEndpoints",
                {CONTROL_PLANE_NAMESPACE_LABEL: watched.namespace},
                {"any": True},
                {"port": metrics.PROXY_PORT, **_keep(metrics.PROXY_METRICS)},
            ),
        )
        kubernetes.core.v1.ConfigMap(
            f"{name}-dashboard",
            metadata=self._metadata("meshtrust-dashboard", _DASHBOARD_LABEL),
            data={"meshtrust.json": json.dumps(dashboard(watched), indent=1)},
            opts=self._child,
        )
        self.register_outputs({})

    def _declare(self, name: str, kind: str, called: str, spec: Mapping[str, Any]) -> None:
        kubernetes.apiextensions.CustomResource(
            name, api_version=_API, kind=kind, metadata=self._metadata(called), spec=spec, opts=self._child
        )

    def _metadata(self, called: str, labels: Mapping[str, str] | None = None) -> kubernetes.meta.v1.ObjectMetaArgs:
        merged = {**(labels or {}), **self._args.monitoring.labels}
        return kubernetes.meta.v1.ObjectMetaArgs(
            name=called,
            namespace=self._args.namespace,
            # An empty map is a change at every run: the API server keeps none.
            labels=merged or None,
        )


def _monitor(
    endpoints: str, selector: Mapping[str, str], namespaces: Mapping[str, Any], endpoint: Mapping[str, Any]
) -> dict[str, Any]:
    return {"selector": {"matchLabels": selector}, "namespaceSelector": namespaces, endpoints: [endpoint]}


def _keep(pattern: str) -> dict[str, Any]:
    return {"metricRelabelings": [{"sourceLabels": ["__name__"], "regex": pattern, "action": "keep"}]}
