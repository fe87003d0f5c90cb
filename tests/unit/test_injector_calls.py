"""The API server's calls of the proxy injector: what is waited for, and what says nothing about it."""

import asyncio

import pytest

from meshtrust.cluster.api import Api, ClusterError, ForbiddenError, NotFoundError
from meshtrust.linkerd.webhooks.calls import wait_injects

NAMED = "linkerd-proxy-injector.linkerd.io"
FAILING = f'failed calling webhook "{NAMED}": dial tcp 10.0.0.7:8443: i/o timeout'
LABEL = "config.linkerd.io/admission-webhooks"


class ApiServer(Api):
    """An API server that admits a sample pod as a test says: with a proxy, without, or not at all."""

    def __init__(self, *answers, policy="Ignore", namespaces=("apps",), objects=None):
        self.answers, self.asked = list(answers), []
        selector = {"matchExpressions": [{"key": LABEL, "operator": "NotIn", "values": ["disabled"]}]}
        webhook = {"name": NAMED, "failurePolicy": policy, "namespaceSelector": selector, "objectSelector": objects}
        self.webhook = {"metadata": {"name": "linkerd-proxy-injector-webhook-config"}, "webhooks": [webhook]}
        labels = {"linkerd": {LABEL: "disabled"}, "ending": {}}
        self.namespaces = [
            {
                "metadata": {"name": name, "labels": labels.get(name, {})},
                "status": {"phase": "Terminating" if name == "ending" else "Active"},
            }
            for name in ("linkerd", "ending", *namespaces)
        ]

    async def send(self, request):
        if request.path.endswith("-webhook-config"):
            return self.webhook
        if request.path.endswith("/namespaces"):
            return {"items": self.namespaces, "metadata": {}}
        assert (request.method, request.params["dryRun"]) == ("POST", "All")
        self.asked.append(request.path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"spec": {"containers": [{"name": "sample"}], "initContainers": [{"name": name} for name in answer]}}

    def open_port(self, namespace, pod, port, *, seconds):
        raise AssertionError((namespace, pod, port, seconds))


PROXY: list[str] = ["linkerd-proxy"]
NONE: list[str] = []


def refusal(said, kind=ClusterError):
    return kind(f"The dry run cannot be changed: {said}", said)


def waited(api, seconds=60):
    asyncio.run(wait_injects(api, "linkerd", seconds))
    return api.asked


def test_an_injector_that_does_not_answer_yet_is_asked_again():
    api = ApiServer(NONE, refusal(FAILING), PROXY)
    assert waited(api) == ["/api/v1/namespaces/apps/pods"] * 3


@pytest.mark.parametrize(
    ("policy", "answer", "why", "effect"),
    [
        ("Ignore", NONE, "which gives a sample pod in namespace apps no proxy", "new pods start without a proxy"),
        ("Fail", refusal(FAILING), "10.0.0.7:8443: i/o timeout", "new pods are refused"),
    ],
)
def test_an_injector_that_never_answers_is_told_with_its_effect_and_what_to_do(policy, answer, why, effect):
    with pytest.raises(ClusterError) as caught:
        waited(ApiServer(answer, policy=policy), seconds=0)
    said = str(caught.value)
    assert why in said
    assert f"Until then {effect}." in said
    assert "let the API server reach them on port 8443" in said


@pytest.mark.parametrize(
    "said",
    [
        refusal('admission webhook "validate.kyverno.svc-fail" denied the request: no image "sample"'),
        refusal('failed calling webhook "validate.kyverno.svc-fail": connection refused'),
        refusal('pods "meshtrust-sample" is forbidden: violates PodSecurity "restricted"', ForbiddenError),
        refusal("namespace apps not found", NotFoundError),
    ],
    ids=str,
)
def test_what_refuses_the_sample_pod_for_another_reason_says_nothing_of_the_injector(said):
    assert len(waited(ApiServer(said))) == 1


def test_without_a_pod_that_the_injector_is_asked_about_nothing_is_asked():
    assert waited(ApiServer(NONE, namespaces=())) == []
    assert waited(ApiServer(NONE, objects={"matchLabels": {"mesh": "yes"}})) == []


class Forbidding(ApiServer):
    """An API server whose webhooks these credentials may not read."""

    async def send(self, request):
        raise ForbiddenError(f"The {request.what} cannot be read: forbidden.", "forbidden")


def test_whoever_may_not_read_webhooks_is_asked_for_no_more_rights():
    assert waited(Forbidding(NONE)) == []
