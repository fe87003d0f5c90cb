"""The wait for trust-manager: a ConfigMap with the right roots is not enough, for it may be Helm's."""

import asyncio

import pytest

from meshtrust.cluster import trust_manager
from meshtrust.pki.pem import fingerprint
from tests.certificates import make_certificate
from tests.fake_cluster import FakeCluster

ROOT = make_certificate("root")
BUNDLE = "apis/trust.cert-manager.io/v1alpha1/bundles/linkerd-identity-trust-roots"
ROOTS = "api/v1/namespaces/linkerd/configmaps/linkerd-identity-trust-roots"


def wait(synced, observed=2, held=ROOT.pem):
    condition = {"type": "Synced", "status": synced, "observedGeneration": observed, "message": "its words"}
    bundle = {"metadata": {"generation": 2}, "status": {"conditions": [condition]}}
    cluster = FakeCluster(objects={BUNDLE: bundle, ROOTS: {"data": {"ca-bundle.crt": held}}})
    asyncio.run(trust_manager.wait_published(cluster, "linkerd", {fingerprint(ROOT.certificate)}, 0))


def test_what_is_published_as_it_is_declared_now_is_not_waited_for():
    wait("True")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("False",), "its words"),
        (("True", 1), "its words"),
        (("True", 2, make_certificate("another root").pem), "holds other roots"),
    ],
    ids=["not synced", "synced before it was changed", "other roots"],
)
def test_what_is_not_published_is_told_in_trust_managers_words(given, says):
    with pytest.raises(trust_manager.TrustManagerError, match=says):
        wait(*given)
