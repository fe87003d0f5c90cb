"""A restart that cannot begin is reported as such; tests/rehearsal has the restarts."""

import asyncio

import pytest

from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import Limits, RolloutError, restart
from rehearsal.connection import connect
from tests.api_server import holding
from tests.fake_cluster import FakeCluster

WEB = Workload(kind="Deployment", namespace="shop", name="web")
DB = Workload(kind="StatefulSet", namespace="shop", name="db")
BUDGETS = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets"


def budget(name, allowed, *, expected=0, desired=0, **labels):
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"selector": {"matchLabels": labels}},
        "status": {"disruptionsAllowed": allowed, "expectedPods": expected, "desiredHealthy": desired},
    }


def held(workload, *, ready=4, **spec):
    """A workload with four pods; by default a roll-out takes one away before the next is ready."""
    plural = f"{workload.kind.lower()}s"
    template = {"metadata": {"labels": {"app": workload.name}}}
    found = {
        "kind": workload.kind,
        "metadata": {"namespace": "shop", "name": workload.name},
        "spec": {"replicas": 4, "template": template, **spec},
        "status": {"readyReplicas": ready},
    }
    return {f"/apis/apps/v1/namespaces/shop/{plural}/{workload.name}": found}


def refused(objects, tmp_path, workloads=(WEB,), **limits):
    """Message of a restart that does not begin; a server that refuses PATCH gives another one."""

    async def run(kubeconfig):
        async for _ in restart(await connect("dev", kubeconfig), workloads, Limits(timeout_seconds=1, **limits)):
            pytest.fail("it is restarted")

    objects = {BUDGETS: {"metadata": {}, "items": []}, **objects}
    with holding(objects, tmp_path) as kubeconfig, pytest.raises(Exception, match=r".") as caught:
        asyncio.run(run(kubeconfig))
    return caught.value


def begins(error):
    """Whether a restart went as far as to change the workload."""
    return "cannot be changed: 501" in str(error)


def test_a_budget_that_allows_nothing_is_named_and_nothing_is_restarted(tmp_path):
    budgets = [budget("strict", 0, app="web"), budget("loose", 1, app="web"), budget("of-others", 0, app="db")]
    told = refused({**held(WEB), BUDGETS: {"metadata": {}, "items": budgets}}, tmp_path)
    assert isinstance(told, RolloutError)
    assert str(told).startswith(
        "Deployment shop/web was not restarted: after 1 seconds no disruption is allowed yet by"
    )
    assert "PodDisruptionBudget shop/strict. Raise the replicas" in str(told)


@pytest.mark.parametrize(
    ("changed", "limits"),
    [
        # One replica of four is not ready, and uses the budget up for as long as it is not replaced.
        ({"ready": 3}, {}),
        ({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}, {}),
        ({"replicas": 3, "ready": 3}, {}),
        ({}, {"minds_budgets": False}),
    ],
)
def test_a_budget_is_not_waited_for_where_it_could_not_be_freed_or_is_not_touched(tmp_path, changed, limits):
    budgets = {"metadata": {}, "items": [budget("strict", 0, app="web")]}
    assert begins(refused({**held(WEB, **changed), BUDGETS: budgets}, tmp_path, **limits))


def test_what_would_not_get_new_pods_is_all_named_at_once_and_nothing_is_restarted(tmp_path):
    paused, cut = held(WEB, paused=True), held(DB, updateStrategy={"rollingUpdate": {"partition": 2}})
    told = refused({**paused, **cut}, tmp_path, [WEB, DB])
    assert isinstance(told, RolloutError)
    assert str(told).startswith("Nothing was restarted, since these would not get new pods:")
    assert "kubectl rollout resume -n shop deployment web" in str(told)
    assert "StatefulSet shop/db: its updateStrategy has partition 2, so that pods below that number keep" in str(told)


def test_a_budget_that_never_allows_a_disruption_is_told_at_once(tmp_path):
    budgets = {"metadata": {}, "items": [budget("all", 0, expected=4, desired=4, app="web")]}
    told = refused({**held(WEB), BUDGETS: budgets}, tmp_path)
    assert "PodDisruptionBudget shop/all never allows a disruption: it demands as many pods as there are" in str(told)


def test_a_partition_of_a_set_without_pods_is_in_nobodys_way(tmp_path):
    cut = held(DB, replicas=0, updateStrategy={"rollingUpdate": {"partition": 2}})
    assert begins(refused(cut, tmp_path, [DB]))


def test_an_argo_rollout_is_restarted_in_its_own_way_and_waited_for():
    workload = Workload(kind="Rollout", namespace="shop", name="canary", version="argoproj.io/v1alpha1")
    path = "apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/canary"
    rollout = {
        "metadata": {"namespace": "shop", "name": "canary", "generation": 1},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "canary"}}},
        "status": {"availableReplicas": 2},
    }
    cluster = FakeCluster(objects={path: rollout, "api/v1/namespaces/shop/pods": []})
    cluster.objects["apis/policy/v1/namespaces/shop/poddisruptionbudgets"] = []
    looks = []

    def act(_):
        """Have its controller replace the pods, which takes it a while."""
        rollout = cluster.objects[path]
        looks.append(rollout.get("status", {}).get("restartedAt"))
        if len(looks) == 5:
            rollout["status"] = {"restartedAt": rollout["spec"]["restartAt"], "availableReplicas": 1}
        if len(looks) == 6:
            rollout["status"]["availableReplicas"] = 2

    cluster.before_call = act

    async def run():
        return [done async for done in restart(cluster, [workload], Limits(timeout_seconds=20))]

    assert asyncio.run(run()) == [workload]
    assert len(looks) >= 6, "it was waited for"
    assert "template" not in cluster.objects[path]["spec"], "its template is its owner's"


def test_the_next_workload_begins_as_soon_as_the_new_pods_of_one_are_ready():
    """A surging Deployment has its old pod for a moment beside the new one; `at_once` is about pods that start."""
    names = ("first", "second")
    paths = {name: f"apis/apps/v1/namespaces/shop/deployments/{name}" for name in names}
    workloads = [Workload(kind="Deployment", namespace="shop", name=name) for name in names]
    cluster = FakeCluster(objects={"apis/policy/v1/namespaces/shop/poddisruptionbudgets": []})
    for name, path in paths.items():
        cluster.objects[path] = {
            "kind": "Deployment",
            # The generation of the restart, which its controller has not seen.
            "metadata": {"namespace": "shop", "name": name, "generation": 2},
            "spec": {"replicas": 1, "template": {}, "selector": {"matchLabels": {"app": name}}},
            "status": {"observedGeneration": 1, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1},
        }

    def is_restarted(name):
        return bool(cluster.objects[paths[name]]["spec"]["template"])

    def act(_):
        """Make the new pods ready at once; take the old pod of the first away only when the second is restarted."""
        for name, path in paths.items():
            if is_restarted(name):
                left = 1 if name == "second" or is_restarted("second") else 2
                status = {"observedGeneration": 2, "updatedReplicas": 1, "replicas": left, "availableReplicas": left}
                cluster.objects[path]["status"] = status

    cluster.before_call = act

    async def run():
        limits = Limits(at_once=1, timeout_seconds=20)
        return [done async for done in restart(cluster, workloads, limits)]

    assert set(asyncio.run(run())) == set(workloads)
