"""The bundle as trust-manager's own controller publishes it: a rotation goes through, and Linkerd rolls with it."""

import pytest

from meshtrust.pki.pem import fingerprint, read_bundle
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.live_stack import get, names

pytestmark = pytest.mark.soak

NAMESPACED = "/api/v1/namespaces/linkerd"
ROOTS = f"{NAMESPACED}/configmaps/linkerd-identity-trust-roots"


def published(cluster):
    return {fingerprint(root) for root in read_bundle(get(cluster, ROOTS)["data"]["ca-bundle.crt"])}


def deployed(stack):
    return {fingerprint(root) for root in read_bundle(stack.project.outputs()["trustAnchors"])}


def trusted_by_control_plane(cluster):
    """Roots that each pod of the control plane trusts, except pods that are being deleted."""
    pods = get(cluster, f"{NAMESPACED}/pods?labelSelector=linkerd.io/control-plane-component")["items"]
    return {
        pod["metadata"]["name"]: frozenset(pod["metadata"]["annotations"]["meshtrust.io/trust-anchors"].split(","))
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    }


@pytest.fixture
def live(make_stack, binaries):
    stack = make_stack(trustBundle={"mode": "trust-manager", "charts": str(binaries.charts)})
    stack.up()
    return stack


def test_a_rotation_goes_through_and_the_control_plane_rolls_with_the_bundle(live, cluster):
    assert published(cluster) == deployed(live)
    assert len(live.leaf_verifies()) == 4
    owners = get(cluster, ROOTS)["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["Bundle"]
    before = trusted_by_control_plane(cluster)
    assert set(before.values()) == {frozenset(deployed(live))}

    live.up(anchors=["2026", "2027"], signer="2026")
    assert published(cluster) == deployed(live)
    wait_until(lambda: not before.keys() & trusted_by_control_plane(cluster).keys())
    assert set(trusted_by_control_plane(cluster).values()) == {frozenset(deployed(live))}

    # The gate asks the control plane's proxies whether they trust the next root.
    live.up(signer="2027")
    root = live.leaf_verifies()[-1]
    assert fingerprint(root) == live.project.outputs()["roots"]["2027"]["fingerprint"]
    live.run("refresh", "--yes", "--non-interactive", "--expect-no-changes")


def test_a_live_bundle_moves_from_helm_to_trust_manager_and_not_back(make_stack, cluster, binaries):
    stack = make_stack()
    stack.up()
    roots = published(cluster)
    stack.up(trustBundle={"mode": "trust-manager", "charts": str(binaries.charts)})
    assert published(cluster) == roots
    assert stack.leaf_verifies()
    assert "Helm does not take over its ConfigMap" in stack.refused(trustBundle={"mode": "helm"})
    stack.configure(trustBundle={"mode": "trust-manager"})
    # What is taken away takes what it has defined with it, and the roots with that.
    assert "taking it away would take its definitions" in stack.refused(trustBundle={"install": False})
    moved = stack.refused(trustBundle={"install": True, "namespace": "elsewhere"})
    assert "this stack has installed trust-manager in namespace trust-manager. It does not move" in moved
    stack.configure(trustBundle={"namespace": "trust-manager"})
    moved = stack.refused(certManager={"namespace": "elsewhere"})
    assert "this stack has installed cert-manager in namespace cert-manager. It does not move" in moved
    stack.configure(certManager={"namespace": "cert-manager"})
    assert published(cluster) == roots


def test_a_trust_manager_that_is_not_there_is_not_taken_for_granted(make_stack, binaries, cluster):
    trust_bundle = {"mode": "trust-manager", "charts": str(binaries.charts), "install": False}
    said = make_stack(trustBundle=trust_bundle).refused("preview")
    assert "its API trust.cert-manager.io/v1alpha1 is not there" in said
    assert "trust-manager" not in names(cluster, "/api/v1/namespaces")
