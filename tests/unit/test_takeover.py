"""Deployed releases that the state does not know: those of this stack, and the messages about the others."""

import pytest

from meshtrust.cluster.helm_release import HelmRelease
from meshtrust.linkerd.evidence import ANCHORS_ANNOTATION
from meshtrust.stacks.takeover.orphaned_release import TakeoverError, check_takeover
from tests.certificates import make_certificate

MARK = "meshtrust organization/meshtrust/prod"
FIRST, SECOND = make_certificate("first"), make_certificate("second")


def release(description=MARK, **values):
    return HelmRelease(
        namespace="linkerd",
        name="linkerd-control-plane",
        chart="linkerd-control-plane",
        version="1",
        values=values,
        defaults={},
        description=description,
    )


def check(found, **wanted):
    check_takeover(found, MARK, wanted, "helm --kube-context prod")


def test_a_release_of_this_stack_is_taken_over():
    check(release(), installGatewayAPI=True)


def test_one_that_trusts_some_root_of_this_run_is_taken_over():
    both = f"{FIRST.pem}\n{SECOND.pem}"
    check(release(identityTrustAnchorsPEM=FIRST.pem), identityTrustAnchorsPEM=both)


@pytest.mark.parametrize("description", ["", "Install complete", "meshtrust organization/meshtrust/dev"])
def test_one_of_another_is_refused_with_both_ways_on(description):
    expected = r"linkerd/linkerd-control-plane is on the cluster, and this stack has not deployed it.*meshtrust adopt.*"
    with pytest.raises(TakeoverError, match=expected + "helm --kube-context prod -n linkerd uninstall linkerd-cont"):
        check(release(description))


def test_one_of_a_lost_state_is_refused_because_it_has_other_roots():
    with pytest.raises(TakeoverError, match=r"trusts none of the roots of this run.*A lost key"):
        check(release(identityTrustAnchorsPEM=FIRST.pem), identityTrustAnchorsPEM=SECOND.pem)


def test_roots_are_known_by_the_annotation_where_trust_manager_publishes_them():
    def annotated(*fingerprints):
        return {"podAnnotations": {ANCHORS_ANNOTATION: ",".join(fingerprints)}}

    check(release(**annotated("a", "b")), **annotated("b"))
    with pytest.raises(TakeoverError):
        check(release(**annotated("a")), **annotated("b"))
