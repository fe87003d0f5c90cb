"""The wait for definitions: it ends once the API server serves their kinds, or says why it does not."""

import asyncio

import pytest

from meshtrust.cluster.api import ClusterError
from meshtrust.cluster.definitions import set_up_storage, wait_served
from tests.fake_cluster import FakeCluster

NAMES = ("servers.policy.linkerd.io", "serviceprofiles.linkerd.io")
DEFINITIONS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Apis(FakeCluster):
    """An API server whose list of all APIs is another one at each question."""

    def __init__(self, *served):
        super().__init__()
        self.served = list(served)

    async def send(self, request):
        if request.path != "/apis":
            return await super().send(request)
        assert "APIGroupDiscoveryList" in request.accept
        names = self.served.pop(0) if len(self.served) > 1 else self.served[0]
        return {"items": [group(name) for name in names]}


def group(name):
    plural, _, of = name.partition(".")
    return {"metadata": {"name": of}, "versions": [{"version": "v1", "resources": [{"resource": plural}]}]}


def wait(api, seconds=5.0):
    told: list[str] = []
    asyncio.run(wait_served(api, NAMES, seconds, told.append))
    return told


def test_definitions_are_waited_for_until_all_of_them_are_served():
    told = wait(Apis([], [NAMES[0]], NAMES))
    assert told == [
        "Waiting for the API server to serve servers.policy.linkerd.io, serviceprofiles.linkerd.io",
        "Waiting for the API server to serve serviceprofiles.linkerd.io",
    ]


def test_a_kind_of_the_same_name_in_another_group_is_not_taken_for_it():
    with pytest.raises(ClusterError, match=r"policy\.linkerd\.io: it is not there"):
        wait(Apis(["servers.example.com", NAMES[1]]), seconds=0)


def test_a_definition_that_is_never_served_ends_the_wait_with_its_reason_and_the_fix():
    api = Apis([NAMES[1]])
    conflict = {
        "type": "NamesAccepted",
        "status": "False",
        "reason": "PluralConflict",
        "message": '"servers" is in use',
    }
    api.add(DEFINITIONS, {"metadata": {"name": NAMES[0]}, "status": {"conditions": [conflict]}})
    with pytest.raises(ClusterError) as caught:
        wait(api, seconds=0)
    assert "after 0 seconds (meshtrust:helm.timeoutSeconds)" in str(caught.value)
    assert f'  - {NAMES[0]}: PluralConflict: "servers" is in use\nPut it right' in str(caught.value)
    assert NAMES[1] not in str(caught.value)


def test_the_objects_of_each_kind_that_is_served_are_asked_for_once():
    api = Apis(NAMES)
    api.objects["apis/policy.linkerd.io/v1/servers"] = []
    asyncio.run(set_up_storage(api, (*NAMES, "absent.linkerd.io")))
    assert sorted(api.requests) == ["apis/linkerd.io/v1/serviceprofiles", "apis/policy.linkerd.io/v1/servers"], (
        "one of them does not exist any more, which ends nothing"
    )
