"""Monitoring of a mesh: only on request, and then all that the alerts need."""

import json

import pulumi
import pytest

from tests.recorder import run_program

RULE = "kubernetes:monitoring.coreos.com/v1:PrometheusRule"
SERVICE_MONITOR = "kubernetes:monitoring.coreos.com/v1:ServiceMonitor"
POD_MONITOR = "kubernetes:monitoring.coreos.com/v1:PodMonitor"
CONFIGMAP = "kubernetes:core/v1:ConfigMap"
ON = {"meshtrust:observability.enabled": True}


def alerts(recording):
    [rule] = recording.of_type(RULE)
    return {alert["alert"]: alert for group in rule.inputs["spec"]["groups"] for alert in group["rules"]}


def test_nothing_watches_unless_it_is_asked_for(config):
    assert not [entry for entry in run_program(config).resources if "monitoring" in entry.type]


def test_the_objects_go_where_prometheus_looks_and_have_its_labels(config):
    labels = {"release": "kube-prometheus-stack"}
    asked = {**ON, "meshtrust:observability.namespace": "monitoring", "meshtrust:observability.labels": labels}
    recording = run_program({**config, **asked})
    objects = [
        *recording.of_type(RULE),
        *recording.of_type(SERVICE_MONITOR),
        *recording.of_type(POD_MONITOR),
        *recording.of_type(CONFIGMAP),
    ]
    assert len(objects) == 5
    for entry in objects:
        assert entry.inputs["metadata"]["namespace"] == "monitoring"
        assert entry.inputs["metadata"]["labels"].items() >= labels.items()
        assert recording.parent(entry) == "observability"


def test_without_a_namespace_they_go_to_the_control_planes(config):
    [rule] = run_program({**config, **ON, "meshtrust:linkerd.namespace": "mesh"}).of_type(RULE)
    assert rule.inputs["metadata"]["namespace"] == "mesh"


def test_what_is_scraped_is_in_the_namespaces_of_the_stack(config):
    asked = {**ON, "meshtrust:linkerd.namespace": "mesh", "meshtrust:certManager.namespace": "certs"}
    recording = run_program({**config, **asked})
    [cert_manager] = recording.of_type(SERVICE_MONITOR)
    assert cert_manager.inputs["spec"]["namespaceSelector"] == {"matchNames": ["certs"]}
    assert cert_manager.inputs["spec"]["endpoints"][0]["honorLabels"] is True
    selectors = {entry.name: entry.inputs["spec"]["namespaceSelector"] for entry in recording.of_type(POD_MONITOR)}
    assert selectors == {"observability-identity": {"matchNames": ["mesh"]}, "observability-proxies": {"any": True}}
    text = json.dumps([entry.inputs for entry in recording.of_type(RULE)])
    assert 'namespace=\\"mesh\\"' in text
    assert '=\\"linkerd\\"' not in text


@pytest.mark.parametrize(
    ("changes", "overdue", "critical"),
    [
        ({}, 24 * 3600, 12.5 * 3600),
        ({"meshtrust:issuer.duration": "96h", "meshtrust:issuer.renewBefore": "49h"}, 48 * 3600, 24.5 * 3600),
        ({"meshtrust:issuer.mode": "pulumi"}, 30 * 86400 - 3600, 15 * 86400),
        ({"meshtrust:issuer.mode": "pulumi", "meshtrust:issuer.validityDays": 30}, 15 * 86400 - 3600, 7.5 * 86400),
    ],
)
def test_the_limits_fit_the_life_that_the_issuer_has(config, changes, overdue, critical):
    found = alerts(run_program({**config, **ON, **changes}))
    assert found["LinkerdIdentityIssuerRenewalOverdue"]["expr"].endswith(f"< {overdue:.0f}")
    assert found["LinkerdIdentityIssuerEnding"]["expr"].endswith(f"< {critical:.0f}")


def test_where_cert_manager_issues_nothing_it_is_not_scraped(config):
    recording = run_program({**config, **ON, "meshtrust:issuer.mode": "pulumi"})
    assert recording.of_type(SERVICE_MONITOR) == []
    assert "LinkerdIdentityIssuerNotReady" not in alerts(recording)


def test_the_life_of_proxies_certificates_is_that_of_linkerds_values(config):
    values = {"identity": {"issuer": {"issuanceLifetime": "10h"}}}
    found = alerts(run_program({**config, **ON, "meshtrust:linkerd.values": values}))
    assert f"< {1.5 * 3600:.0f})" in found["LinkerdProxyCertificatesEnding"]["expr"]


def test_the_dashboard_is_one_that_grafanas_sidecar_finds(config):
    [configmap] = run_program({**config, **ON}).of_type(CONFIGMAP)
    assert configmap.inputs["metadata"]["labels"] == {"grafana_dashboard": "1"}
    read = json.loads(configmap.inputs["data"]["meshtrust.json"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in read["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in read["panels"]})


def test_a_label_that_is_no_text_is_refused(config):
    with pytest.raises(pulumi.RunError, match=r'meshtrust:observability\.labels has "tier" with 1, which'):
        run_program({**config, **ON, "meshtrust:observability.labels": {"tier": 1}})
