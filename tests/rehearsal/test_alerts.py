"""The alerts on Prometheus' own engine: quiet while all is well, and each one loud when what it is about happens."""

import json
import re
import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
import yaml

from components.observability import Watched
from components.observability.alerts import alert_groups
from components.observability.dashboard import dashboard
from meshtrust.commands.export import Format, render
from meshtrust.rotation.goal import find_way
from meshtrust.rotation.report import report_rotation
from meshtrust.rotation.steps import Trust
from rehearsal.prometheus import promtool
from tests.unit.test_inspection import NOW, inspection
from tests.unit.test_inventory import DEPLOYED

# promtool is built first, which takes minutes.
pytestmark = pytest.mark.soak

WATCHED = Watched(
    namespace="linkerd",
    by_cert_manager=True,
    renewal=timedelta(hours=25),
    leaf_lifetime=timedelta(hours=24),
)
LAST, GOAL = Trust(anchors=("2026",), signer="2026"), Trust(anchors=("2027",), signer="2027")
SERVED = 'issuer_cert_ttl_seconds{namespace="linkerd",pod="linkerd-identity-1"}'
CERTIFICATE = 'name="linkerd-identity-issuer",namespace="linkerd",issuer_name="linkerd-issuer-ca-2026"'
ISSUED = f"certmanager_certificate_expiration_timestamp_seconds{{{CERTIFICATE}}}"
READY = f'certmanager_certificate_ready_status{{{CERTIFICATE},condition="True"}}'
LEAF = 'control_identity_cert_expiration_timestamp_seconds{namespace="shop",pod="web-1"}'
REFUSED = 'control_identity_cert_refreshes_total{namespace="shop",pod="web-1",result="error"}'
MESH = 'context="kind-dev",linkerd_namespace="linkerd"'
STEADY, INTRODUCE = (f'meshtrust_phase{{{MESH},phase="{phase}"}}' for phase in ("steady", "introduce"))
SINCE = f"meshtrust_phase_since_timestamp_seconds{{{MESH}}}"
CONVERGED = f"meshtrust_rotation_converged{{{MESH}}}"
GOAL_SINCE = f"meshtrust_rotation_since_timestamp_seconds{{{MESH}}}"
ROOT = f'meshtrust_root_not_after_timestamp_seconds{{{MESH},generation="2026",signs="true"}}'
UNTRUSTING = f'meshtrust_root_untrusting_proxies{{{MESH},generation="2026",signs="true"}}'
DRIFT = f"meshtrust_bundle_drift{{{MESH}}}"
EXPORT = f"meshtrust_export_timestamp_seconds{{{MESH}}}"

# Two days by the minute, from the beginning of Prometheus' time. The issuer is renewed after 23 hours, and the
# identity service takes it over three minutes later; the proxy renews at 70 % of its certificate's life.
HEALTHY = {
    SERVED: "172800-60x1382 172620-60x1379",
    ISSUED: "172800x1379 255600x1400",
    READY: "1x2800",
    LEAF: "86400x1007 146880x1007 207360x1007",
    REFUSED: "0x2800",
    STEADY: "1x2800",
    INTRODUCE: "0x2800",
    SINCE: "-2592000x2800",
    CONVERGED: "1x2800",
    GOAL_SINCE: "-2592000x2800",
    ROOT: "34560000x2800",
    UNTRUSTING: "0x2800",
    DRIFT: "0x2800",
    EXPORT: "0+60x2800",
}
NEVER_RENEWED = {SERVED: "172800-60x2800", ISSUED: "172800x2800"}


@pytest.fixture(scope="module")
def tool():
    return promtool()


@pytest.fixture
def run(tool, tmp_path):
    def start(*arguments, stdin=None):
        return subprocess.run(
            [tool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, input=stdin
        )

    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": alert_groups(WATCHED)}))
    return start


@pytest.fixture
def firing(run, tmp_path):
    """Fails unless just these alerts fire at a moment of a series."""

    def check(series, at, expected):
        labels = [f'ALERTS{{alertname="{name}",alertstate="firing"}}' for name in sorted(expected)]
        moment = {
            "expr": 'sum by (alertname, alertstate) (ALERTS{alertstate="firing"}) > bool 0',
            "eval_time": at,
            "exp_samples": [{"labels": entry.removeprefix("ALERTS"), "value": 1} for entry in labels],
        }
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [moment],
        }
        document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
        result = run("test", "rules", "test.yaml")
        assert result.returncode == 0, result.stdout + result.stderr

    return check


def test_the_rules_are_ones_that_prometheus_takes(run):
    result = run("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("at", ["1h", "22h59m", "23h2m", "24h", "40h"])
def test_no_alert_is_on_while_all_is_well(firing, at):
    firing(HEALTHY, at, [])


@pytest.mark.parametrize(
    ("changes", "at", "expected"),
    [
        (NEVER_RENEWED, "24h30m", ["LinkerdIdentityIssuerRenewalOverdue"]),
        (
            {**NEVER_RENEWED, LEAF: "300000x2800"},
            "37h",
            ["LinkerdIdentityIssuerRenewalOverdue", "LinkerdIdentityIssuerEnding"],
        ),
        ({SERVED: "_x2800"}, "20m", ["LinkerdIdentityServiceUnseen"]),
        ({SERVED: "172800-60x2800"}, "23h30m", ["LinkerdIdentityMissedReload"]),
        ({READY: "0x2800"}, "20m", ["LinkerdIdentityIssuerNotReady"]),
        ({LEAF: "86400x2800"}, "21h", ["LinkerdProxyCertificatesEnding"]),
        ({REFUSED: "0x30 1+1x100"}, "45m", ["LinkerdProxyCertificatesRefused"]),
        ({STEADY: "0x2800", INTRODUCE: "1x2800"}, "2h", ["MeshtrustRotationStandsStill"]),
        ({CONVERGED: "0x2800"}, "2h", ["MeshtrustRotationStandsStill"]),
        ({CONVERGED: "0x2800", GOAL_SINCE: "0x2800"}, "40h", []),
        ({STEADY: "0x2800", INTRODUCE: "1x2800", CONVERGED: "0x2800"}, "2h", ["MeshtrustRotationStandsStill"]),
        (
            {STEADY: "0x2800", INTRODUCE: "1x2800", SINCE: "0x2800", CONVERGED: "0x2800", GOAL_SINCE: "0x2800"},
            "40h",
            [],
        ),
        ({DRIFT: "1x2800"}, "20m", ["MeshtrustBundleDrift"]),
        ({UNTRUSTING: "3x2800"}, "20m", ["MeshtrustProxiesDoNotTrustTheSigner"]),
        ({ROOT: "4320000x2800"}, "2h", ["MeshtrustTrustAnchorEnding"]),
        ({ROOT: "864000x2800"}, "2h", ["MeshtrustTrustAnchorEnding", "MeshtrustTrustAnchorEndingSoon"]),
        ({EXPORT: "0x2800"}, "4h", ["MeshtrustExportStale"]),
    ],
)
def test_an_alert_is_on_when_what_it_is_about_happens_and_no_other(firing, changes, at, expected):
    firing({**HEALTHY, **changes}, at, expected)


def test_every_alert_is_tested_above():
    [marker] = test_an_alert_is_on_when_what_it_is_about_happens_and_no_other.pytestmark
    tested = {name for _, _, expected in marker.args[1] for name in expected}
    assert tested == {rule["alert"] for group in alert_groups(WATCHED) for rule in group["rules"]}


def test_proxies_of_before_are_watched_by_the_name_that_they_have(firing):
    old = {name.replace("control_identity", "identity"): values for name, values in HEALTHY.items()}
    changed = {LEAF.replace("control_identity", "identity"): "86400x2800"}
    firing({**old, **changed}, "21h", ["LinkerdProxyCertificatesEnding"])


def test_an_alert_says_what_to_do(run, tmp_path):
    series = {**HEALTHY, **NEVER_RENEWED}
    expected = {
        "summary": "The identity issuer in use should have been renewed by now",
        "description": "It has 23h 30m 0s left, and is renewed when it has 25h. "
        "See: meshtrust verify; kubectl describe certificate.",
    }
    alert = {
        "eval_time": "24h30m",
        "alertname": "LinkerdIdentityIssuerRenewalOverdue",
        "exp_alerts": [{"exp_labels": {"namespace": "linkerd", "severity": "warning"}, "exp_annotations": expected}],
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [alert],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    result = run("test", "rules", "test.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_issuer_that_cert_manager_does_not_issue_has_no_alert_on_cert_managers_metrics():
    groups = alert_groups(
        Watched(
            namespace="linkerd",
            by_cert_manager=False,
            renewal=timedelta(days=30),
            leaf_lifetime=timedelta(hours=24),
        )
    )
    assert "certmanager" not in json.dumps(groups)


def test_the_dashboards_queries_are_ones_that_prometheus_takes(run, tmp_path):
    queries = [target["expr"] for panel in dashboard(WATCHED)["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = run("check", "rules", "queries.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(queries) >= 8


def test_alerts_and_dashboard_ask_for_no_metric_that_an_export_lacks(run):
    report = report_rotation(find_way(LAST, GOAL), LAST, [], None, NOW)
    written = render(Format.prometheus, replace(inspection(), rotation=report), DEPLOYED)
    asked = set(re.findall(r"meshtrust_[a-z_]+", json.dumps([alert_groups(WATCHED), dashboard(WATCHED)])))
    exported = set(re.findall(r"^(meshtrust_[a-z_]+)[{ ]", written, re.MULTILINE))
    assert asked
    assert asked <= exported
    result = run("check", "metrics", stdin=written)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
