"""A restart that cannot begin is told as such; tests/rehearsal has the restarts."""

import asyncio

import pytest

from meshtrust.cluster_client import connect
from meshtrust.pods import Workload
from meshtrust.rollout import Limits, RolloutError, restart
from tests.api_server import holding
from tests.fake_cluster import FakeCluster

WEB = Workload(kind="Deployment", namespace="shop", name="web")


def budget(name, allowed, **labels):
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"selector": {"matchLabels": labels}},
        "status": {"disruptionsAllowed": allowed},
    }


def test_a_budget_that_allows_nothing_is_named_and_nothing_is_restarted(tmp_path):
    budgets = [budget("strict", 0, app="web"), budget("loose", 1, app="web"), budget("of-others", 0, app="db")]
    # It takes no PATCH, so that a restart would be told as another error.
    objects = {
        "/apis/apps/v1/namespaces/shop/deployments/web": {
            "spec": {"template": {"metadata": {"labels": {"app": "web"}}}}
        },
        "/apis/policy/v1/namespaces/shop/poddisruptionbudgets": {"metadata": {}, "items": budgets},
    }

    async def run(kubeconfig):
        async for _ in restart(await connect("dev", kubeconfig), [WEB], Limits(timeout_seconds=1)):
            pytest.fail("it is restarted")

    with holding(objects, tmp_path) as kubeconfig, pytest.raises(RolloutError) as caught:
        asyncio.run(run(kubeconfig))
    told = str(caught.value)
    assert told.startswith("Deployment shop/web was not restarted: after 1 seconds no disruption is allowed yet by")
    assert "PodDisruptionBudget shop/strict. Raise the replicas" in told


def test_an_argo_rollout_is_restarted_in_its_own_way_and_waited_for():
    workload = Workload(kind="Rollout", namespace="shop", name="canary", version="argoproj.io/v1alpha1")
    path = "apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/canary"
    cluster = FakeCluster(objects={path: {"metadata": {}, "spec": {"replicas": 2}, "status": {"availableReplicas": 2}}})
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
    assert len(looks) == 6
    assert "template" not in cluster.objects[path]["spec"], "its template is its owner's"
