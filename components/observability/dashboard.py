"""The dashboard, as Grafana reads it."""

from typing import Any

from components.observability import metrics
from components.observability.alerts import Watched
from meshtrust.names import IDENTITY_ISSUER

# The newest panels and options used here; Grafana migrates it to whatever it speaks itself.
_SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HALF, _HEIGHT = 12, 8


def dashboard(watched: Watched) -> dict[str, Any]:
    """Return the dashboard as plain data.

    Args:
        watched: The installation that it shows.
    """
    here, exported = f'namespace="{watched.namespace}"', f'linkerd_namespace="{watched.namespace}"'
    leaf_ends = f'min by (namespace, pod) ({{__name__=~"{metrics.LEAF_END}"}})'
    refreshes = f'{{__name__=~"{metrics.LEAF_REFRESHES}"}}'
    panels = [
        _panel(
            "Identity issuer in use: life left",
            [(f"min by (pod) ({metrics.SERVED_TTL}{{{here}}})", "{{pod}}")],
            unit="s",
        ),
        _panel(
            "Identity issuer in the Secret: life left",
            [
                (
                    f'{metrics.CERTIFICATE_END}{{name="{IDENTITY_ISSUER}",{here}}} - time()',
                    "{{issuer_name}} (cert-manager)",
                ),
                (f"meshtrust_issuer_not_after_timestamp_seconds{{{exported}}} - time()", "{{context}} (meshtrust)"),
            ],
            unit="s",
        ),
        _panel(
            "Proxies' certificates: the shortest life left in each namespace",
            [(f"min by (namespace) ({leaf_ends} - time())", "{{namespace}}")],
            unit="s",
        ),
        _panel(
            "Proxies' certificates: taken and refused",
            [(f"sum by (result) (rate({refreshes}[$__rate_interval]))", "{{result}}")],
            unit="ops",
        ),
        _panel(
            "Proxies by the anchors that they trust",
            [(f"max by (anchors) (meshtrust_proxies_by_anchors{{{exported}}})", "{{anchors}}")],
            unit="short",
            stacked=True,
        ),
        _panel(
            "Trust anchors: life left",
            [(f"meshtrust_root_not_after_timestamp_seconds{{{exported}}} - time()", "{{generation}}")],
            unit="s",
        ),
        _panel(
            "Phase of a rotation",
            [(f"max by (phase) (meshtrust_phase{{{exported}}}) == 1", "{{phase}}")],
            unit="short",
        ),
        _panel(
            "What needs attention",
            [(f"max by (severity) (meshtrust_findings{{{exported}}})", "{{severity}}")],
            unit="short",
        ),
    ]
    for number, panel in enumerate(panels):
        panel["id"] = number + 1
        panel["gridPos"] = {
            "x": number % 2 * _HALF,
            "y": number // 2 * _HEIGHT,
            "w": _HALF,
            "h": _HEIGHT,
        }
    return {
        "uid": f"meshtrust-{watched.namespace}"[:40],
        "title": f"Linkerd credentials ({watched.namespace})",
        "tags": ["linkerd", "meshtrust"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "refresh": "1m",
        "time": {"from": "now-2d", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }


def _panel(title: str, queries: list[tuple[str, str]], *, unit: str, stacked: bool = False) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"stacking": {"mode": "normal" if stacked else "none"}}},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(queries)
        ],
    }
