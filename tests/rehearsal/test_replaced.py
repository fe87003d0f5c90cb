"""Replacements on request (``--target-replace``, ``--replace``): the mesh keeps working, or the run is refused."""

import pytest

from tests.rehearsal.live_stack import ISSUER_SECRET, get, names
from tests.rehearsal.stack import NO_CHANGES, UP
from tests.rehearsal.test_kept_roots import PREVIEW, State

CERTIFICATES = "/apis/cert-manager.io/v1/namespaces/linkerd/certificates"
PODS = "/api/v1/namespaces/linkerd/pods"
NEVER = ("linkerd-control-plane", "linkerd-crds", "linkerd-namespace", "cert-manager-release", "cert-manager-namespace")


@pytest.fixture
def live(make_stack):
    made = make_stack("dev")
    made.run(*UP)
    return made


def test_what_the_mesh_runs_in_is_never_replaced(live, cluster):
    state = State(live)
    pods, there = names(cluster, PODS), state.ids()
    runs = [(UP, "--target-replace", name) for name in (*NEVER, "cluster")]
    for command, option, replaced in ((PREVIEW, "--target-replace", NEVER[0]), (UP, "--replace", NEVER[0]), *runs):
        said = live.refused(*command, option, state.urn(replaced))
        assert "is to be replaced (--target-replace, --replace, also of the provider)" in said, replaced
    for part in ("key", "root"):
        [name] = [name for name in there if name.startswith("webhooks-") and name.endswith(f"-{part}")]
        said = live.refused(*UP, "--target-replace", state.urn(name))
        assert f"{name} belongs to an authority of Linkerd's webhooks" in said
    assert names(cluster, PODS) == pods
    assert state.ids() == there
    live.run(*UP, *NO_CHANGES)


@pytest.mark.parametrize(
    "name", ["identity-issuer-certificate", "identity-issuer-2026-ca", "webhooks-linkerd-policy-validator"]
)
def test_an_object_that_is_replaced_is_there_afterwards(live, cluster, name):
    chain, certificates = live.issuer_chain(), names(cluster, CERTIFICATES)
    live.run(*UP, "--target-replace", State(live).urn(name))
    assert names(cluster, CERTIFICATES) == certificates
    assert get(cluster, ISSUER_SECRET)["data"]
    assert live.issuer_chain() == chain
    assert live.leaf_verifies()
    live.run(*UP, *NO_CHANGES)
