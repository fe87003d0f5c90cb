"""A bundle of Linkerd's release that someone has edited or deleted is what is deployed after the next run."""

import pytest

from meshtrust.pki.pem import fingerprint, read_bundle
from tests.certificates import make_certificate
from tests.rehearsal.live_stack import get
from tests.rehearsal.stack import NO_CHANGES, UP

CONFIG_MAP = "/api/v1/namespaces/linkerd/configmaps/linkerd-identity-trust-roots"
MERGE = {"Content-Type": "application/merge-patch+json"}


def published(cluster):
    return {fingerprint(root) for root in read_bundle(get(cluster, CONFIG_MAP)["data"]["ca-bundle.crt"])}


def edited(api):
    text = f"{api.get(CONFIG_MAP).json()['data']['ca-bundle.crt']}\n{make_certificate('root of another').pem}"
    api.patch(CONFIG_MAP, json={"data": {"ca-bundle.crt": text}}, headers=MERGE).raise_for_status()


def cut(api):
    text = make_certificate("root of another").pem
    api.patch(CONFIG_MAP, json={"data": {"ca-bundle.crt": text}}, headers=MERGE).raise_for_status()


def deleted(api):
    api.delete(CONFIG_MAP).raise_for_status()


@pytest.fixture
def live(make_stack):
    stack = make_stack()
    stack.run(*UP)
    return stack


def test_a_bundle_that_was_changed_by_hand_is_restored_by_the_next_run(live, cluster):
    before = published(cluster)
    for change in (edited, cut, deleted):
        with cluster.client() as api:
            change(api)
        live.run(*UP)
        assert published(cluster) == before, f"it stays as it is {change.__name__}"
        live.run(*UP, *NO_CHANGES)
        live.run(*UP, "--refresh", *NO_CHANGES)
