"""Findings of an inspection: each on a mesh with just that fault."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meshtrust.linkerd.evidence import Mesh
from meshtrust.linkerd.pods import MeshedPod, ProxyTrust, Workload
from meshtrust.pki.durations import format_left
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.inspection import Inspection, MinimumLifetimes, judge
from tests.certificates import make_certificate

OLD, NEW = make_certificate("root old", days=3650), make_certificate("root new", days=3650)
ISSUER = make_certificate("identity", issuer=OLD, days=2)
NOW = datetime.now(UTC)


def prints(*pairs):
    return frozenset(fingerprint(pair.certificate) for pair in pairs)


def pod(name="web-1", anchors=None, component=""):
    return MeshedPod(
        namespace="linkerd" if component else "app",
        name=name,
        workload=Workload(kind="Deployment", namespace="app", name=component or name.rpartition("-")[0]),
        created=NOW,
        trust=ProxyTrust(state="trusts", roots=prints(OLD) if anchors is None else anchors, source="environment"),
    )


IDENTITY = pod("identity-1", component="linkerd-identity")


def mesh(**changes):
    healthy = {
        "roots": (OLD.certificate,),
        "issuer": (ISSUER.certificate,),
        "issuer_source": "Secret linkerd/linkerd-identity-issuer",
        "issuer_root": (OLD.certificate,),
        "pods": (IDENTITY, pod()),
    }
    return Mesh(namespace="linkerd", **{**healthy, **changes})


def inspection(judged=None, end=None, **changes):
    judged = judged or mesh()
    current = judged.issuer[0].not_valid_after_utc if judged.issuer else "none"
    healthy = {
        "context": "kind-dev",
        "mesh": judged,
        "served": dict.fromkeys(judged.identity_pods, end or current),
        "trust": Trust(anchors=("2026",), signer="2026"),
        "deployed": {"2026": OLD.certificate},
        "names": {fingerprint(OLD.certificate): "2026", fingerprint(NEW.certificate): "2027"},
        "retired": frozenset(),
        "now": NOW,
    }
    return Inspection(**{**healthy, **changes})


def found(looked_at, **budget):
    return [(entry.severity, str(entry)) for entry in judge(looked_at, MinimumLifetimes(**budget))]


def test_a_healthy_mesh_needs_no_attention():
    assert found(inspection()) == []


@pytest.mark.parametrize(
    ("judged", "severity", "told"),
    [
        (mesh(roots=(), pods=(IDENTITY,)), "error", "linkerd-identity-trust-roots is not there"),
        (mesh(roots=(NEW.certificate,), pods=()), "error", "it lacks 2026 and holds 2027 besides"),
        (mesh(issuer=()), "error", "linkerd-identity-issuer holds no issuer in tls.crt"),
        (
            mesh(issuer=(make_certificate("identity", issuer=NEW, days=2).certificate,)),
            "error",
            "identity issuer chains to no root of the bundle",
        ),
        (mesh(issuer_root=(NEW.certificate,)), "warning", "has no root of the bundle in ca.crt"),
        (mesh(pods=(pod(),)), "error", "Deployment linkerd/linkerd-identity has no replica that runs"),
        (
            mesh(pods=(IDENTITY, pod(anchors=prints(NEW)))),
            "error",
            "1 of 2 proxies do not trust 2026, which signs: their next certificate is refused (Deployment app/web)",
        ),
        (
            mesh(issuer=(make_certificate("identity", issuer=OLD, days=1, hours=-4).certificate,)),
            "error",
            "identity issuer has 20 hours left, below the 24 hours",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_object(judged, severity, told):
    matching = [entry for entry in found(inspection(judged)) if told in entry[1]]
    assert [entry[0] for entry in matching] == [severity], found(inspection(judged))


def test_a_proxy_that_lacks_a_root_that_does_not_sign_is_a_warning():
    both = mesh(roots=(OLD.certificate, NEW.certificate), pods=(IDENTITY, pod()))
    deployed = {"2026": OLD.certificate, "2027": NEW.certificate}
    [(severity, told)] = found(inspection(both, deployed=deployed))
    assert severity == "warning"
    assert told.startswith("2 of 2 proxies do not trust 2027 (Deployment app/linkerd-identity, Deployment app/web).")


def test_a_proxy_that_cannot_be_asked_is_a_warning_that_names_the_right():
    unseen = ProxyTrust(state="unseen", reason="the API server answers with 403 Forbidden")
    [(severity, told)] = found(inspection(mesh(pods=(IDENTITY, replace(pod(), trust=unseen)))))
    assert severity == "warning"
    assert told.startswith("1 of 2 proxies do not show which roots they trust: the API server answers with 403")
    assert told.endswith("create pods/portforward.")


def test_a_proxy_that_trusts_a_retired_root_is_a_warning():
    stale = mesh(pods=(IDENTITY, pod(anchors=prints(OLD, NEW))))
    [(severity, told)] = found(inspection(stale, retired=prints(NEW)))
    assert (severity, "1 of 2 proxies still trust a retired root (Deployment app/web)" in told) == ("warning", True)


def test_a_replica_with_another_issuer_has_missed_the_reload():
    [(severity, told)] = found(inspection(end=ISSUER.certificate.not_valid_after_utc - timedelta(hours=1)))
    assert (severity, "meshtrust heal" in told) == ("error", True)


def test_a_replica_that_cannot_be_asked_is_a_warning():
    [(severity, told)] = found(inspection(end="forbidden"))
    assert (severity, "does not report which issuer it signs with: forbidden" in told) == ("warning", True)


def test_budgets_decide_what_is_too_little_life():
    assert found(inspection(), issuer=timedelta(hours=47), anchor=timedelta(days=3000)) == []
    told = found(inspection(), issuer=timedelta(hours=49), anchor=timedelta(days=4000))
    assert [entry[0] for entry in told] == ["error", "error"]


def test_what_has_ended_says_since_when():
    later = inspection(now=NOW + timedelta(days=3))
    assert any("identity issuer ended 24 hours ago" in told for _, told in found(later))


def test_the_json_holds_plain_data_and_no_key():
    text = json.dumps(inspection().as_json())
    assert json.loads(text)["issuerRoot"] == "2026"
    assert "PRIVATE" not in text


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(minutes=1), "1 minute"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(hours=48), "48 hours"),
        (timedelta(days=400), "400 days"),
    ],
)
def test_a_span_of_time_is_said_as_a_person_would(left, said):
    assert format_left(left) == said
