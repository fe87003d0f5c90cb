"""The webhooks' certificates, issued by real cert-manager controllers: calls of a webhook never fail."""

import asyncio
import base64
import threading

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE, find_pods_with_other_ca
from meshtrust.pki.pem import read_bundle
from rehearsal.connection import connect
from tests.certificates import make_certificate
from tests.rehearsal.control_plane import proxy_of, wait_until
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.live_stack import get

pytestmark = pytest.mark.soak

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
WEBHOOKS = {
    "linkerd-proxy-injector": "mutatingwebhookconfigurations",
    "linkerd-sp-validator": "validatingwebhookconfigurations",
    "linkerd-policy-validator": "validatingwebhookconfigurations",
}
# A call that fails is refused, and not let through without its answer.
FAIL_CLOSED = {"linkerd": {"values": {"webhookFailurePolicy": "Fail"}}}


def bundles(cluster):
    """Bundles that the API server trusts for each webhook."""
    found = {}
    for name, plural in WEBHOOKS.items():
        configuration = get(cluster, f"{ADMISSION}/{plural}/{name}-webhook-config")
        [webhook] = configuration["webhooks"]
        found[name] = read_bundle(base64.b64decode(webhook["clientConfig"]["caBundle"]).decode())
    return found


def secret(cluster, name):
    return content(get(cluster, f"/api/v1/namespaces/linkerd/secrets/{name}-k8s-tls"))


class Caller:
    """Calls the proxy injector all the time: creates pods, but for show. `failures` are the calls that failed."""

    def __init__(self, cluster):
        self.calls, self.failures = 0, []
        self._client = cluster.client()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(30)
        self._client.close()

    def _run(self):
        metadata = {"name": "called", "annotations": {"linkerd.io/inject": "enabled"}}
        pod = {"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "example.com/app"}]}}
        while not self._stop.wait(0.05):
            response = self._client.post("/api/v1/namespaces/default/pods?dryRun=All", json=pod)
            self.calls += 1
            if response.is_error or proxy_of(response.json()) is None:
                self.failures.append(response.text)


@pytest.fixture
def live(make_stack):
    stack = make_stack(**FAIL_CLOSED)
    stack.up()
    return stack


def test_each_webhook_has_a_certificate_that_the_api_server_trusts(live, cluster):
    [authority] = read_bundle(live.project.outputs()["webhooks"]["caBundle"])
    assert bundles(cluster) == {name: [authority] for name in WEBHOOKS}
    for name in WEBHOOKS:
        data = secret(cluster, name)
        [certificate] = read_bundle(data["tls.crt"])
        certificate.verify_directly_issued_by(authority)
        assert load_pem_private_key(data["tls.key"].encode(), None).public_key() == certificate.public_key()
    assert "BEGIN PRIVATE KEY" in secret(cluster, "linkerd-policy-validator")["tls.key"], "PKCS #8, which Rust reads"


def test_no_call_fails_while_the_authority_is_replaced_by_another(live, cluster):
    with Caller(cluster) as caller:
        wait_until(lambda: caller.calls > 3)
        assert not caller.failures, "the injector answers before anything is changed"
        said = live.refused(webhooks={"authorities": ["1", "2"], "signer": "2"})
        assert "First deploy meshtrust:webhooks.authorities" in said
        live.up(webhooks={"authorities": ["1", "2"], "signer": "1"})
        old, new = read_bundle(live.project.outputs()["webhooks"]["caBundle"])
        assert bundles(cluster) == {name: [old, new] for name in WEBHOOKS}
        live.up(webhooks={"signer": "2"})
        for name in WEBHOOKS:
            [certificate] = read_bundle(secret(cluster, name)["tls.crt"])
            certificate.verify_directly_issued_by(new)
        live.up(webhooks={"authorities": ["2"]})
        assert bundles(cluster) == {name: [new] for name in WEBHOOKS}
        before = caller.calls
        wait_until(lambda: caller.calls > before + 3)
    assert not caller.failures, f"{len(caller.failures)} of {caller.calls}: {caller.failures[0]}"


def test_an_authority_goes_only_when_no_pod_serves_under_it(live, cluster):
    own = read_bundle(live.project.outputs()["webhooks"]["caBundle"])
    another = make_certificate("another authority").certificate

    def find(roots):
        async def ask():
            api = await connect(cluster.context, str(cluster.kubeconfig))
            return await find_pods_with_other_ca(api, "linkerd", roots)

        return asyncio.run(ask())

    assert find(own) == []
    found = find([another])
    assert len(found) == len(CONTROL_PLANE)
    assert all("with a certificate of another authority" in entry for entry in found)


def test_cert_manager_is_kept_clear_of_webhooks_that_fail_closed(make_stack, cluster):
    first = make_stack(certManager={"namespace": "certs"})
    first.up()
    labels = {"metadata": {"labels": {"config.linkerd.io/admission-webhooks": None}}}
    with cluster.client() as api:
        merge = {"Content-Type": "application/merge-patch+json"}
        api.patch("/api/v1/namespaces/certs", json=labels, headers=merge).raise_for_status()
    second = make_stack(certManager={"install": False}, linkerd={"ha": True})
    said = second.refused("preview")
    assert "cert-manager runs in namespace certs, and Linkerd's webhooks fail closed" in said
    assert "label namespace certs config.linkerd.io/admission-webhooks=disabled" in said
    selector = {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["platform"]}]}
    said = second.refused("preview", linkerd={"ha": True, "values": {"proxyInjector": {"namespaceSelector": selector}}})
    assert "has a proxyInjector.namespaceSelector that does not leave it out" in said
    # Linkerd is there already, and belongs to the first, whose root this state does not have.
    said = second.refused("preview", linkerd={"ha": False, "values": {}})
    assert 'generation "2026" has the root' in said
