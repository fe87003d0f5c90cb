"""The gates: what in a cluster makes a step unsafe, on evidence made for each case."""

from datetime import UTC, datetime, timedelta

import pytest

from meshtrust.linkerd.evidence import Leaf, Mesh, matches_secret
from meshtrust.linkerd.pods import MeshedPod, ProxyTrust, Workload
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.gate import blocks_deploy, blocks_retire, blocks_served, blocks_switch
from tests.certificates import make_certificate

OLD, NEW = make_certificate("root old"), make_certificate("root new")
ISSUER_OLD, ISSUER_NEW = make_certificate("issuer", issuer=OLD, days=30), make_certificate("issuer", issuer=NEW)
NOW = datetime.now(UTC)
BOTH = frozenset(fingerprint(pair.certificate) for pair in (OLD, NEW))


def pod(name="web-1", anchors=BOTH, component="", kind="Deployment"):
    return MeshedPod(
        namespace="linkerd" if component else "app",
        name=name,
        workload=Workload(kind=kind, namespace="app", name=component or name.rpartition("-")[0] or name),
        created=NOW,
        trust=ProxyTrust(state="unseen", reason="no answer within 10 seconds")
        if anchors is None
        else ProxyTrust(state="trusts", roots=anchors, source="environment"),
    )


def mesh(*pods, issuer=ISSUER_NEW, roots=(OLD, NEW)):
    return Mesh(
        namespace="linkerd",
        roots=tuple(pair.certificate for pair in roots),
        issuer=(issuer.certificate,) if issuer else (),
        pods=pods,
    )


def switch(judged):
    return [str(blocker) for blocker in blocks_switch(judged, fingerprint(NEW.certificate), "2027", NOW)]


IDENTITY = pod("identity-1", component="linkerd-identity")


def deploy(judged, signer="2026", now=NOW, **roots):
    known = {name.lstrip("_"): pair.certificate for name, pair in roots.items()}
    return [str(blocker) for blocker in blocks_deploy(judged, known, signer, now)]


def test_a_first_deployment_may_take_over_a_mesh_with_all_of_its_roots():
    assert deploy(mesh(pod(), IDENTITY), _2025=OLD, _2026=NEW) == []
    ending, later = make_certificate("ending", days=1), NOW + timedelta(days=2)
    judged = mesh(pod(), IDENTITY, roots=(NEW, ending))
    assert deploy(judged, _2026=NEW) != []
    assert deploy(judged, now=later, _2026=NEW) == [], "what has ended holds nobody up"


def test_a_first_deployment_that_leaves_trust_as_it_is_needs_not_know_what_each_pod_trusts():
    """As with trust-manager's bundle, which the control plane's pods read by reference."""
    untold = mesh(pod(anchors=None), IDENTITY)
    assert deploy(untold, _2025=OLD, _2026=NEW) == []
    assert deploy(untold, signer="2025", _2025=OLD, _2026=NEW) != [], "another one would sign"
    unsigned = mesh(pod(anchors=None), IDENTITY, issuer=None)
    assert deploy(unsigned, _2025=OLD, _2026=NEW) != []


def test_a_first_deployment_may_not_take_a_root_away_or_sign_with_one_that_is_not_trusted():
    [left_out] = deploy(mesh(pod(), IDENTITY), _2026=NEW)
    assert left_out.startswith("ConfigMap linkerd/linkerd-identity-trust-roots: its root ")
    assert left_out.endswith("(CN=root old) is not among the anchors")
    pods = pod("web-1", anchors=None), pod("web-2", anchors=frozenset())
    told = deploy(mesh(*pods, issuer=ISSUER_OLD), _2025=OLD, _2026=NEW)
    assert told == [
        "app/web-1 (Deployment app/web): what its proxy trusts cannot be seen: no answer within 10 seconds. "
        "If its node is gone for good, and only then: kubectl -n app delete pod web-1 --force --grace-period=0",
        "app/web-2 (Deployment app/web): its proxy does not trust 2026",
    ]
    assert deploy(mesh(IDENTITY, roots=()), signer="still to be made") != []


def test_pods_that_have_outlived_their_control_plane_hold_no_deployment_up():
    assert deploy(mesh(pod(anchors=frozenset()), roots=()), signer="still to be made") == []


def retire(judged, leaves=None, end=None):
    served = dict.fromkeys(judged.identity_pods, end or ISSUER_NEW.certificate.not_valid_after_utc)
    return [
        str(blocker)
        for blocker in blocks_retire(judged, [NEW.certificate], served=served, leaves=leaves or {}, now=NOW)
    ]


def leaf(issuer):
    own = make_certificate("leaf", issuer=issuer, ca=False, key_cert_sign=False)
    return Leaf(state="shown", certificates=(own.certificate, issuer.certificate))


def test_a_switch_is_open_when_every_proxy_trusts_the_new_root():
    assert switch(mesh(pod(), IDENTITY)) == []


@pytest.mark.parametrize("kind", ["Deployment", "Job", "DaemonSet", "Pod"])
def test_a_proxy_that_lacks_the_new_root_blocks_a_switch_whatever_owns_it(kind):
    [line] = switch(mesh(pod(), pod("old-7", frozenset({fingerprint(OLD.certificate)}), kind=kind)))
    owner = "" if kind == "Pod" else f" ({kind} app/old)"
    assert line == f"app/old-7{owner}: its proxy does not trust 2027"


def test_a_proxy_whose_anchors_cannot_be_told_blocks_a_switch():
    [line] = switch(mesh(pod("destination-1", None, component="linkerd-destination")))
    assert line.startswith("linkerd/destination-1 (Deployment app/linkerd-destination): what its proxy trusts cannot")


def test_a_bundle_without_the_new_root_blocks_a_switch_though_all_pods_have_it():
    [line] = switch(mesh(pod(), roots=(OLD,)))
    assert line == "ConfigMap linkerd/linkerd-identity-trust-roots: does not hold 2027"


def test_a_root_that_has_ended_does_not_begin_to_sign():
    [blocker] = blocks_switch(mesh(pod()), fingerprint(NEW.certificate), "2027", NOW + timedelta(days=400))
    assert str(blocker).startswith("generation 2027: its root ended on")


def test_an_anchor_retires_when_issuer_and_leaves_are_under_the_others():
    assert retire(mesh(pod(), IDENTITY), {pod(): leaf(ISSUER_NEW)}) == []


def test_a_leaf_under_the_old_root_blocks_its_retirement():
    [line] = retire(mesh(pod(), IDENTITY), {pod(): leaf(ISSUER_OLD)})
    assert line == "app/web-1 (Deployment app/web): its live certificate is not under the anchors that remain"


def test_a_leaf_that_cannot_be_seen_blocks_as_if_it_were_an_old_one():
    [line] = retire(mesh(pod(), IDENTITY), {pod(): Leaf(state="unseen", reason="no answer within 10 seconds")})
    assert "its live certificate cannot be seen: no answer within 10 seconds. If its node is gone for good" in line


@pytest.mark.parametrize(
    ("issuer", "reason"),
    [(ISSUER_OLD, "its issuer is not under the anchors that remain"), (None, "there is no issuer in it")],
)
def test_a_secret_without_an_issuer_under_the_remaining_roots_blocks(issuer, reason):
    [line, *_] = retire(mesh(IDENTITY, issuer=issuer))
    assert line.startswith(f"Secret linkerd/linkerd-identity-issuer: {reason}. Deploy once more")


def test_an_identity_replica_that_missed_the_reload_blocks():
    [line] = retire(mesh(IDENTITY), end=ISSUER_NEW.certificate.not_valid_after_utc - timedelta(hours=5))
    assert "it still signs with an issuer that ends" in line


def test_an_identity_replica_that_does_not_tell_blocks():
    [blocker] = blocks_served(mesh(IDENTITY), {IDENTITY: "forbidden"})
    assert str(blocker).endswith("which issuer it signs with cannot be seen: forbidden")


def test_no_identity_replica_at_all_blocks():
    [blocker] = blocks_served(mesh(pod()), {})
    assert str(blocker) == "Deployment linkerd/linkerd-identity: no replica of it is running"


@pytest.mark.parametrize(
    ("seconds", "served"), [(0, True), (-1, True), (-1.4, True), (0.4, True), (2, False), (-3, False), (-3600, False)]
)
def test_an_end_told_within_the_second_is_that_of_the_secret(seconds, served):
    """The gauge counts from a moment within the second that the answer is dated with."""
    end = ISSUER_NEW.certificate.not_valid_after_utc + timedelta(seconds=seconds)
    assert matches_secret(mesh(), end) is served
