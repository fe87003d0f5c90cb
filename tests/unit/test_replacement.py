"""Anchors that have ended are replaced at once only where nothing speaks under them any more."""

from datetime import UTC, datetime, timedelta

from meshtrust.linkerd.evidence import Leaf
from meshtrust.linkerd.pods import MeshedPod, ProxyTrust, Workload
from meshtrust.rotation.gate import blocks_replace, silent_from
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.replacement import blocks_replace_in_fleet
from meshtrust.rotation.steps import Step, Trust
from tests.certificates import make_certificate

NOW = datetime.now(UTC)
STEP = Step(
    kind="replace",
    generations=("2027",),
    before=Trust(anchors=("2026",), signer="2026"),
    after=Trust(anchors=("2027",), signer="2027"),
)


def pod(name):
    workload = Workload(kind="Deployment", namespace="shop", name=name)
    return MeshedPod(namespace="shop", name=name, workload=workload, created=NOW, trust=ProxyTrust(state="unseen"))


def ended(hours):
    """A root that ended so many hours ago."""
    return make_certificate(age=10, days=0, hours=-hours)


def test_a_live_certificate_that_outlives_its_root_keeps_its_pod_connected_and_blocks():
    root = ended(1)
    alive, dead = (make_certificate(issuer=root, ca=False, age=2, days=0, hours=hours) for hours in (5, -1))
    leaves = {
        pod("alive"): Leaf(state="shown", certificates=(alive.certificate,)),
        pod("rooted"): Leaf(state="shown", certificates=(alive.certificate, root.certificate)),
        pod("dead"): Leaf(state="shown", certificates=(dead.certificate,)),
        pod("hidden"): Leaf(state="unseen", reason="it does not answer"),
    }
    found = [str(entry) for entry in blocks_replace(leaves, silent_from([root.certificate]), NOW)]
    assert len(found) == 3
    assert "shop/alive (Deployment shop/alive): its live certificate outlives the ended anchors until" in found[0]
    assert (
        "shop/hidden (Deployment shop/hidden): its live certificate cannot be seen, and may still be good" in found[2]
    )
    assert f"is silent from {silent_from([root.certificate]):%Y-%m-%d %H:%M} UTC on" in found[2]
    assert found[1].startswith("shop/rooted "), "a proxy that shows the ended root too has a certificate that is valid"


def test_a_day_after_the_last_of_the_ended_roots_nothing_can_be_alive():
    roots = [ended(30).certificate, ended(3).certificate]
    assert silent_from(roots) - timedelta(hours=24) > roots[1].not_valid_after_utc
    assert silent_from(roots) < roots[1].not_valid_after_utc + timedelta(hours=25)


def test_the_other_clusters_of_a_fleet_are_asked_as_long_as_they_may_speak_under_what_has_ended():
    speaking = Pledge(stamp="b", anchors=("2026",), signer="2026", accepts=frozenset({"2026"}))
    pledges = {
        "east": speaking,
        "west": speaking,
        "north": Pledge(stamp="c", anchors=("2026", "2027"), signer="2027", released=frozenset({"2026"})),
        "south": Pledge(stamp="d", anchors=("2027",), signer="2027"),
    }
    [found] = blocks_replace_in_fleet("east", STEP, pledges, {"2026": ended(1).certificate}, NOW)
    assert str(found).startswith("west: its stack: its proxies may have certificates under 2026 until")
    assert blocks_replace_in_fleet("east", STEP, pledges, {"2026": ended(30).certificate}, NOW) == []
