"""Exports of a mesh: each metric and each field, on a known mesh."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshtrust.commands.export import Format, render
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.report import RotationReport
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.audit import name_actor
from meshtrust.stacks.outputs import StackOutputs
from tests.unit.test_inspection import IDENTITY, ISSUER, NEW, NOW, OLD, inspection, mesh, pod, prints

STEP = {
    "step": "introduce",
    "generations": ["2027"],
    "at": "2026-11-20T08:00:00+00:00",
    "by": "ada@desk",
    "gate": "none",
}
DEPLOYED = StackOutputs(
    {
        "anchors": ["2026", "2027"],
        "signer": "2026",
        "retired": {"2025": {"fingerprint": "ab" * 32}},
        "transitions": [{**STEP, "step": "deploy"}, STEP],
    }
)


@pytest.fixture
def rotating():
    """Two roots in the bundle, of which the older signs; one of two proxies trusts the newer."""
    both = mesh(roots=(OLD.certificate, NEW.certificate), pods=(IDENTITY, pod(anchors=prints(OLD, NEW))))
    return inspection(
        both,
        trust=Trust(anchors=("2026", "2027"), signer="2026"),
        deployed={"2026": OLD.certificate, "2027": NEW.certificate},
    )


def samples(looked_at, deployed=None):
    found = {}
    for family in text_string_to_metric_families(render(Format.prometheus, looked_at, deployed)):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert (labels.pop("context"), labels.pop("linkerd_namespace")) == ("kind-dev", "linkerd")
            labels.pop("fingerprint", None)
            found[(sample.name.removeprefix("meshtrust_"), *sorted(labels.values()))] = sample.value
    return found


def test_the_metrics_tell_each_root_by_its_generation(rotating):
    found = samples(rotating, DEPLOYED)
    assert found["root_not_after_timestamp_seconds", "2026", "true"] == OLD.certificate.not_valid_after_utc.timestamp()
    assert found["root_untrusting_proxies", "2026", "true"] == 0
    assert found["root_untrusting_proxies", "2027", "false"] == 1
    assert found["proxies",] == 2
    assert found["proxies_by_anchors", "2026"] == 1
    assert found["proxies_by_anchors", "2026,2027"] == 1


def test_the_metrics_tell_the_phase_and_since_when(rotating):
    found = samples(rotating, DEPLOYED)
    assert [found["phase", phase] for phase in ("steady", "introduce", "switch", "unmanaged")] == [0, 1, 0, 0]
    assert found["phase_since_timestamp_seconds",] == 1795161600
    assert found["export_timestamp_seconds",] == pytest.approx(NOW.timestamp())


REPORT = RotationReport(
    goal=Trust(anchors=("2027",), signer="2027"),
    phase="introduce",
    next="switch-2027",
    waiting_for=("shop/web-1: its proxy does not trust 2027",),
    waiting_count=3,
    since="2026-11-20T09:00:00+01:00",
)


@pytest.mark.parametrize(("step", "waiting", "converged"), [("switch-2027", 3, 0), ("", 0, 1)])
def test_an_export_tells_whether_the_goal_is_reached_and_since_when_it_waits(rotating, step, waiting, converged):
    looked_at = replace(rotating, rotation=replace(REPORT, next=step, waiting_count=waiting))
    found = samples(looked_at, DEPLOYED)
    assert (found["rotation_converged",], found["rotation_waiting",]) == (converged, waiting)
    assert found["rotation_since_timestamp_seconds",] == 1795161600
    assert json.loads(render(Format.json, looked_at, DEPLOYED))["rotation"]["next"] == step


def test_a_stack_of_an_earlier_version_exports_no_goal(rotating):
    assert not [name for name, *_ in samples(rotating, DEPLOYED) if name.startswith("rotation_")]
    assert json.loads(render(Format.json, rotating, DEPLOYED))["rotation"] is None


def test_the_metrics_tell_the_issuer_and_who_serves_it(rotating):
    found = samples(rotating)
    assert found["issuer_not_after_timestamp_seconds",] == ISSUER.certificate.not_valid_after_utc.timestamp()
    assert [found["identity_replicas", state] for state in ("current", "another", "unknown")] == [1, 0, 0]
    missed = samples(inspection(end=ISSUER.certificate.not_valid_after_utc - timedelta(hours=1)))
    assert [missed["identity_replicas", state] for state in ("current", "another", "unknown")] == [0, 1, 0]
    assert (missed["findings", "error"], missed["findings", "warning"]) == (1, 0)


def test_a_bundle_that_someone_changed_has_drifted():
    assert samples(inspection())["bundle_drift",] == 0
    assert samples(inspection(mesh(roots=(NEW.certificate,))))["bundle_drift",] == 1


def test_a_mesh_without_a_stack_has_no_phase_no_drift_and_no_trail():
    unmanaged = inspection(trust=None, deployed={}, names={})
    found = samples(unmanaged)
    assert found["phase", "unmanaged"] == 1
    assert not {name for name, *_ in found} & {"bundle_drift", "phase_since_timestamp_seconds"}
    assert found["root_untrusting_proxies", fingerprint(OLD.certificate)[:12], "true"] == 0
    assert json.loads(render(Format.json, unmanaged, None))["transitions"] == []


def test_a_mesh_that_holds_nothing_is_exported_all_the_same():
    empty = inspection(mesh(roots=(), issuer=(), issuer_root=(), pods=()))
    found = samples(empty, DEPLOYED)
    assert found["proxies",] == 0
    assert found["findings", "error"] >= 2
    assert json.loads(render(Format.json, empty, DEPLOYED))["issuer"] is None


def test_the_inventory_has_the_audit_trail_and_what_is_left_of_each_certificate(rotating):
    found = json.loads(render(Format.json, rotating, DEPLOYED))
    assert found["transitions"] == [{**STEP, "step": "deploy"}, STEP]
    assert found["retired"] == {"2025": "ab" * 32}
    assert [
        (root["generation"], root["daysLeft"], root["signs"], root["trustedByPods"]) for root in found["roots"]
    ] == [
        ("2026", 3649, True, 2),
        ("2027", 3649, False, 1),
    ]
    assert (found["issuer"]["hoursLeft"], found["phase"], found["issuerRoot"]) == (47, "introduce", "2026")
    assert [finding["severity"] for finding in found["findings"]] == ["warning"]
    assert "PRIVATE" not in json.dumps(found)


def test_an_actor_is_who_started_the_job_or_else_the_user_of_the_machine(monkeypatch):
    assert name_actor({"GITHUB_ACTOR": "ada"}) == "ada (GitHub Actions)"
    assert name_actor({"GITLAB_USER_LOGIN": "ada"}) == "ada (GitLab CI)"
    monkeypatch.setenv("LOGNAME", "ada")
    assert name_actor({}).startswith("ada@")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("uid not found")))
    assert name_actor({}).startswith("uid ")
