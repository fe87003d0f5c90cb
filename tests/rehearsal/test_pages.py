"""Steps by hand work as their pages describe: a rotation step by step, and another authority for the webhooks."""

import pytest

from rehearsal.mesh.traffic import wait_for_proxies
from tests.rehearsal.follower import Follower, section_of, steps
from tests.rehearsal.rotation_bench import bench

pytestmark = pytest.mark.soak

WORKLOADS = 2


@pytest.fixture(scope="module")
def mesh():
    """A mesh as the README has it deployed: with one generation, and nobody named who signs."""
    with bench("pages", {}, workloads=WORKLOADS, replicas=1) as made:
        yield made


def test_a_rotation_step_by_step(mesh):
    by_hand, _ = steps(section_of("rotation.md", "Step by step, by hand or in CI"))
    before = mesh.failed()
    Follower(mesh).follow(by_hand)
    wait_for_proxies(mesh.cluster, WORKLOADS, 60)
    assert (mesh.outputs()["anchors"], mesh.outputs()["signer"]) == (["2027"], "2027")
    assert [step["gate"] for step in mesh.outputs()["transitions"]] == ["none", "none", "open", "open"]
    assert mesh.failed() == before


def test_another_authority_for_the_webhooks(mesh):
    [replaced, _] = steps(section_of("issuing.md", "The webhooks (`webhooks.mode`)"))
    Follower(mesh).follow(replaced)
    assert mesh.outputs()["webhooks"]["authorities"] == ["2"]
