"""A mesh that is broken: what is wrong is named with its cause and cure, and healed as far as it can be."""

import asyncio
import base64
import json
import subprocess
import time
import urllib.parse
from datetime import UTC, datetime

import pytest

from meshtrust.linkerd.pods import Workload
from meshtrust.linkerd.rollout import Limits, RolloutError, restart
from rehearsal.connection import connect
from rehearsal.observe import Observer
from tests.certificates import Pair, make_certificate
from tests.lossy_proxy import lossy_proxy
from tests.rehearsal.control_plane import is_ready, wait_until
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.rotation_bench import APPLICATIONS, bench
from tests.rehearsal.stack import NO_CHANGES, UP
from tests.rehearsal.test_interrupted import running

pytestmark = pytest.mark.soak

MERGE = {"Content-Type": "application/merge-patch+json"}
LINKERD = "/api/v1/namespaces/linkerd"
CA_SECRET, ISSUER_SECRET = f"{LINKERD}/secrets/linkerd-trust-anchor", f"{LINKERD}/secrets/linkerd-identity-issuer"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments/{}"
CERTIFICATE = "/apis/cert-manager.io/v1/namespaces/linkerd/certificates/linkerd-identity-issuer"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
INJECTOR = f"{WEBHOOKS}/linkerd-proxy-injector-webhook-config"
WELL = "Nothing needs attention."


class Broken:
    """A mesh in mode anchor, which a test breaks and mends."""

    def __init__(self, made):
        self.made, self.cluster = made, made.cluster
        self.observer = Observer(made.cluster)

    def get(self, path):
        with self.cluster.client() as api:
            return api.get(path).raise_for_status().json()

    def patch(self, path, body, **headers):
        with self.cluster.client() as api:
            return api.patch(path, json=body, headers={**MERGE, **headers}).raise_for_status().json()

    def write(self, path, **texts):
        data = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        self.patch(path, {"data": data})

    def scale(self, name, replicas, namespace="linkerd"):
        """Scale a Deployment, and wait until its pods are as many."""
        path = DEPLOYMENTS.format(namespace, name)
        self.patch(path, {"spec": {"replicas": replicas}})
        wait_until(lambda: self.get(path)["status"].get("readyReplicas", 0) == replicas, 60)
        wait_until(lambda: self.get(path)["status"].get("replicas", 0) == replicas, 60)

    def says(self, command, code, *arguments):
        """Output of a command that ends with a code, in one line."""
        result = self.made.cli(command, *arguments)
        told = " ".join((result.stdout + result.stderr).split())
        assert result.returncode == code, told
        assert "Traceback" not in told
        return told

    def is_well(self):
        return self.made.cli("verify").returncode == 0

    def identity_pods(self):
        selected = f"{LINKERD}/pods?labelSelector=linkerd.io/control-plane-component=identity"
        return {pod["metadata"]["uid"]: pod for pod in self.get(selected)["items"]}

    def issue(self, **kind):
        """An issuer under the anchor, which its owner could have had signed."""
        ca = content(self.get(CA_SECRET))
        return make_certificate(
            "identity.linkerd.cluster.local", issuer=Pair.of(ca["tls.crt"], ca["tls.key"]), **{"path_length": 0, **kind}
        )


@pytest.fixture(scope="module")
def made():
    with bench("broken", {"signer": "2026", "issuer": {"mode": "anchor"}}, workloads=1, replicas=1) as made:
        yield Broken(made)


@pytest.fixture
def broken(made):
    """The mesh as it was deployed, and as it is again when the test has ended."""
    yield made
    made.scale("cert-manager", 1, "cert-manager")
    wait_until(made.is_well, 120)


@pytest.fixture
def without_cert_manager(broken):
    """Nobody renews, or puts a Secret right that was changed."""
    broken.scale("cert-manager", 0, "cert-manager")


@pytest.mark.usefixtures("without_cert_manager")
def test_cert_manager_that_is_down_is_told_with_the_time_that_is_left(broken):
    told = broken.says("verify", 1)
    assert "Deployment cert-manager/cert-manager has no pod that is ready, so that no certificate is issued" in told
    assert "it is scaled to 0 replicas" in told
    assert "Scale it up: kubectl -n cert-manager scale deployment cert-manager --replicas 1" in told


@pytest.mark.usefixtures("without_cert_manager")
def test_an_issuer_that_identity_would_refuse_is_told_and_nothing_is_restarted_onto_it(broken):
    """linkerd2 issue 10391: an external issuer answers with a certificate that is not a CA."""
    leaf = broken.issue(ca=False, key_cert_sign=False, path_length=None)
    pods = set(broken.identity_pods())
    broken.write(ISSUER_SECRET, tls_crt=leaf.pem, tls_key=leaf.key_pem)
    told = broken.says("verify", 1)
    assert "CN=identity.linkerd.cluster.local, which is not marked as a CA" in told
    assert "missed the reload" not in told
    assert "and would not start with" in told
    refused = broken.says("heal", 4)
    assert "which the identity service would refuse: it was not restarted" in refused
    assert set(broken.identity_pods()) == pods


@pytest.mark.usefixtures("without_cert_manager")
def test_an_issuer_whose_key_is_anothers_is_refused_by_the_rule_of_a_run(broken):
    issuer, other = broken.issue(), broken.issue()
    broken.write(ISSUER_SECRET, tls_crt=issuer.pem, tls_key=other.key_pem)
    assert "has a key that does not match its first certificate" in broken.says("verify", 1)
    assert "it was not restarted" in broken.says("heal", 4)


@pytest.mark.usefixtures("without_cert_manager")
def test_an_issuer_that_has_ended_is_renewed_and_a_crash_loop_ended(broken):
    ended = broken.issue(days=0)
    wait_until(lambda: ended.certificate.not_valid_after_utc < datetime.now(UTC))
    broken.write(ISSUER_SECRET, tls_crt=ended.pem, tls_key=ended.key_pem)
    for pod in broken.identity_pods().values():
        broken.made.delete(f"{LINKERD}/pods/{pod['metadata']['name']}")

    def crashed():
        return any(
            "terminated" in status.get("lastState", {})
            for pod in broken.identity_pods().values()
            for status in pod["status"].get("containerStatuses", [])
        )

    wait_until(crashed, 60)
    told = broken.says("verify", 1)
    assert "identity issuer ended" in told
    assert "Deployment linkerd/linkerd-identity has no pod that is ready, so that no proxy gets a certificate" in told
    assert "container identity: CrashLoopBackOff" in told
    assert "Failed to initialize identity service" in told, "its own last words"
    assert "pods/portforward" not in told, "no right helps"
    # Nobody can renew it, which is said at once.
    begun = time.monotonic()
    refused = broken.says("heal", 4)
    assert "Deployment cert-manager/cert-manager: has no pod that is ready" in refused
    assert time.monotonic() - begun < 60
    broken.scale("cert-manager", 1, "cert-manager")
    broken.says("heal", 0)
    wait_until(lambda: all(map(is_ready, broken.identity_pods().values())), 30)
    assert broken.is_well()


def test_an_identity_service_without_pods_is_told_and_scaled_up(broken):
    broken.scale("linkerd-identity", 0)
    told = broken.says("verify", 1)
    assert "has no pod that is ready, so that no proxy gets a certificate: it is scaled to 0 replicas" in told
    assert "meshtrust heal --stack dev" in told
    assert "linkerd-identity is ready" in broken.says("heal", 0)
    assert broken.is_well()


def test_an_issuer_that_cannot_sign_is_told_with_its_secret_and_the_time_left_and_deployed_again(broken):
    """linkerd2 issue 4711: a new root before the old one, whose key is still there."""
    kept = content(broken.get(CA_SECRET))
    new = make_certificate("root.linkerd.cluster.local", days=3650)
    broken.write(CA_SECRET, tls_crt=f"{new.pem}{kept['tls.crt']}")
    broken.observer.renew_certificate("linkerd", "linkerd-identity-issuer")
    wait_until(lambda: broken.get(CERTIFICATE)["status"].get("lastFailureTime"), 60)
    for command in ("status", "verify"):
        told = broken.says(command, 1 if command == "verify" else 0)
        assert "Certificate linkerd/linkerd-identity-issuer is not issued by Issuer linkerd-trust-anchor" in told
        assert "provided PrivateKey doesn't match parent's PublicKey" in told
        assert "Issuer linkerd-trust-anchor cannot sign with it" in told
        assert "What is in Secret linkerd/linkerd-identity-issuer ends in 48 hours" in told
        assert "Deploy the stack again, which writes it: pulumi up --refresh --stack dev" in told
    refused = broken.says("heal", 4)
    assert "Secret linkerd/linkerd-trust-anchor: " in refused
    assert "cannot sign with it. Deploy the stack again" in refused
    warned = broken.made.up()
    assert "Issuer linkerd-trust-anchor cannot sign with it" in " ".join(warned.split()), "a run says it, too"
    result = broken.made.engine(*UP, "--refresh")
    assert result.returncode == 0, result.stdout + result.stderr
    assert content(broken.get(CA_SECRET))["tls.crt"].strip() == kept["tls.crt"].strip()
    # By itself cert-manager tries again after an hour.
    assert "is asked to issue Certificate linkerd/linkerd-identity-issuer again" in broken.says("heal", 0)
    wait_until(broken.is_well, 60)


def foreign_bundle():
    return base64.b64encode(make_certificate("another authority").pem.encode()).decode()


def test_another_ca_bundle_is_told_with_its_side_and_healed(broken):
    """linkerd2 issue 13361: pods start without a proxy, or not at all, and `linkerd check` sees it."""
    kept = broken.get(INJECTOR)["webhooks"]
    changed = [{**entry, "clientConfig": {**entry["clientConfig"], "caBundle": foreign_bundle()}} for entry in kept]
    broken.patch(INJECTOR, {"webhooks": changed})
    told = broken.says("verify", 1)
    assert "linkerd-proxy-injector-webhook-config trusts CN=another authority in its caBundle, and Secret" in told
    assert "linkerd-proxy-injector-k8s-tls holds a certificate of another authority" in told
    assert "new pods start without a proxy" in told
    assert "Set the caBundle right: meshtrust heal --stack dev" in told
    warned = " ".join(broken.made.up().split())
    assert "Set the caBundle right: meshtrust heal --stack dev" in warned, "a run says the one command that does"
    assert "linkerd-proxy-injector-webhook-config trusts again what serves it" in broken.says("heal", 0)
    assert broken.get(INJECTOR)["webhooks"] == kept
    assert broken.is_well()
    result = broken.made.engine(*UP, *NO_CHANGES)
    assert result.returncode == 0, result.stdout + result.stderr


def test_another_ca_bundle_of_a_validator_is_told_and_healed(broken):
    names = {
        "linkerd-sp-validator-webhook-config": "ServiceProfiles are not checked",
        "linkerd-policy-validator-webhook-config": "policies and routes are not checked",
    }
    plural = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    for name, follows in names.items():
        kept = broken.get(f"{plural}/{name}")["webhooks"]
        changed = [{**entry, "clientConfig": {**entry["clientConfig"], "caBundle": foreign_bundle()}} for entry in kept]
        broken.patch(f"{plural}/{name}", {"webhooks": changed})
        told = broken.says("verify", 1)
        assert f"ValidatingWebhookConfiguration {name} trusts CN=another authority" in told
        assert follows in told
        broken.says("heal", 0)
        assert broken.get(f"{plural}/{name}")["webhooks"] == kept


def test_new_pods_that_are_refused_are_told_by_verify_and_plan(broken):
    """The injector fails closed, and has no pod."""
    kept = broken.get(INJECTOR)["webhooks"]
    broken.patch(INJECTOR, {"webhooks": [{**entry, "failurePolicy": "Fail"} for entry in kept]})
    broken.scale("linkerd-proxy-injector", 0)
    try:
        assert "linkerd-proxy-injector has no pod that is ready, so that new pods are refused" in broken.says(
            "verify", 1
        )
        assert "new pods are refused: it is scaled to 0 replicas" in broken.says("plan", 0, "--to", "2027")
        # A restart ends long before its time is over, with the API server's words.
        begun = time.monotonic()
        with pytest.raises(RolloutError) as refused:
            restarted(broken, "Deployment", "workload-001")
        assert time.monotonic() - begun < 90
        assert "Deployment shop/workload-001 cannot get new pods: FailedCreate: " in str(refused.value)
        assert "failed calling webhook" in str(refused.value)
        assert "The pods that it had serve on" in str(refused.value)
    finally:
        broken.scale("linkerd-proxy-injector", 1)
        broken.patch(INJECTOR, {"webhooks": kept})
    wait_until(
        lambda: (
            broken.get(DEPLOYMENTS.format(APPLICATIONS, "workload-001"))["status"].get("unavailableReplicas", 0) == 0
        ),
        120,
    )


def restarted(broken, kind, name, kubeconfig=None):
    workload = Workload(kind=kind, namespace=APPLICATIONS, name=name)

    async def run():
        api = await connect(broken.cluster.context, str(kubeconfig or broken.cluster.kubeconfig))
        return [done async for done in restart(api, [workload], Limits(timeout_seconds=300))]

    return asyncio.run(run())


def test_what_a_rotation_cannot_restart_is_told_by_plan_beforehand(broken):
    path = DEPLOYMENTS.format(APPLICATIONS, "workload-001")
    broken.patch(path, {"spec": {"paused": True}})
    try:
        told = broken.says("plan", 0, "--to", "2027")
        assert "A restart does not replace the pods of these" in told
        assert "Deployment shop/workload-001: its roll-out is paused" in told
        listed = json.loads(broken.made.ok("plan", "--to", "2027", "--json"))["restarts"]
        assert [entry["obstacle"] for entry in listed if entry["workload"] == "Deployment shop/workload-001"] != [None]
        with pytest.raises(
            RolloutError, match=r"would not get new pods:\n  - Deployment shop/workload-001: its roll-out"
        ):
            restarted(broken, "Deployment", "workload-001")
    finally:
        broken.patch(path, {"spec": {"paused": False}})


def test_an_on_delete_set_that_is_selected_by_expressions_is_restarted(broken):
    labels = {"app": "on-delete"}
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["on-delete"]}]}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "app", "image": "example.com/app"}]},
    }
    spec = {"replicas": 2, "selector": selector, "serviceName": "", "template": template}
    body = {"metadata": {"name": "on-delete"}, "spec": {**spec, "updateStrategy": {"type": "OnDelete"}}}
    sets = f"/apis/apps/v1/namespaces/{APPLICATIONS}/statefulsets"
    with broken.cluster.client() as api:
        api.post(sets, json=body).raise_for_status()
    path = f"{sets}/on-delete"
    try:
        wait_until(lambda: broken.get(path)["status"].get("readyReplicas") == 2, 90)
        assert [str(done) for done in restarted(broken, "StatefulSet", "on-delete")] == ["StatefulSet shop/on-delete"]
    finally:
        broken.made.delete(path)


def test_a_run_says_from_its_first_seconds_that_it_waits_for_cert_managers_webhook(broken, tmp_path):
    broken.scale("cert-manager-webhook", 0, "cert-manager")
    assert "Certificates and Issuers can neither be made nor changed" in broken.says("verify", 1)
    broken.made.configure(issuer={"mode": "anchor", "duration": "47h"})
    written = tmp_path / "written"
    with written.open("w") as output, running(broken.made.project, *UP, output=output) as run:
        wait_until(lambda: "Waiting for cert-manager's webhook to answer" in written.read_text(), 120)
        assert run.poll() is None
        assert "it is scaled to 0 replicas" in written.read_text()
        broken.scale("cert-manager-webhook", 1, "cert-manager")
        assert run.wait(180) == 0, written.read_text()
    broken.made.configure(issuer={"mode": "anchor"})
    broken.made.up()


@pytest.fixture
def lossy(broken, tmp_path):
    """A kubeconfig that leads to the API server by a proxy, which loses connections at random; and the proxy."""
    config = json.loads(broken.cluster.kubeconfig.read_text())
    server = config["clusters"][0]["cluster"]["server"]
    with lossy_proxy(urllib.parse.urlsplit(server).port, lost=0.04, seconds=0.01) as proxy:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        yield path, proxy


def test_looks_and_restarts_outlast_connections_that_are_lost_at_random(broken, lossy):
    kubeconfig, proxy = lossy
    for command, code in (("status", 0), ("verify", 0), ("plan", 0), ("heal", 0)):
        broken.made.configure(kubeconfig=str(kubeconfig))
        told = broken.says(command, code, *(["--to", "2027"] if command == "plan" else []))
        assert WELL in told or command in ("plan", "heal"), told
    [done] = restarted(broken, "Deployment", "workload-001", kubeconfig=kubeconfig)
    assert str(done) == "Deployment shop/workload-001"
    broken.made.configure(kubeconfig=str(broken.cluster.kubeconfig))
    assert proxy.losses > 10


def test_a_run_and_a_rotation_are_not_ended_by_the_program_where_connections_are_lost(broken, lossy):
    """The provider and Helm have clients of their own, and may end a run that the next one resumes."""
    kubeconfig, proxy = lossy
    proxy.lost = 0.01
    broken.made.configure(kubeconfig=str(kubeconfig))
    written = []
    try:
        for _ in range(8):
            result = broken.made.cli("rotate", "--to", "lossy")
            written.append(result.stdout + result.stderr)
            if result.returncode == 0:
                break
        assert "Done." in written[-1], written[-1]
    finally:
        broken.made.configure(kubeconfig=str(broken.cluster.kubeconfig))
    for each in written:
        assert "the API server does not answer" not in each, each
    assert broken.made.outputs()["anchors"] == ["lossy"]
    assert broken.made.failed() == 0
    assert proxy.losses > 10


SERVICES = ("linkerd-proxy-injector", "linkerd-sp-validator", "linkerd-policy-validator")
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


def configuration_of(service):
    kind = "mutating" if service == "linkerd-proxy-injector" else "validating"
    return f"{REGISTRATION}/{kind}webhookconfigurations/{service}-webhook-config"


def another_bundle(service):
    """Make the API server trust another authority."""

    def change(broken):
        kept = broken.get(configuration_of(service))["webhooks"]
        changed = [{**entry, "clientConfig": {**entry["clientConfig"], "caBundle": foreign_bundle()}} for entry in kept]
        broken.patch(configuration_of(service), {"webhooks": changed})
        return lambda: broken.patch(configuration_of(service), {"webhooks": kept})

    return change


def another_secret(path, make):
    """Make a Secret hold a certificate of another authority, or one that has ended."""

    def change(broken):
        kept = broken.get(path)["data"]
        broken.write(path, **make(broken))
        return lambda: broken.patch(path, {"data": kept})

    return change


def foreign_leaf(service):
    host = f"{service}.linkerd.svc"
    leaf = make_certificate(host, issuer=make_certificate("another"), ca=False, names=[host], key_cert_sign=False)
    return lambda _: {"tls_crt": leaf.pem, "tls_key": leaf.key_pem}


def foreign_issuer(_):
    root = make_certificate("root.somewhere.else")
    issuer = make_certificate("identity.linkerd.cluster.local", issuer=root, path_length=0)
    return {"tls_crt": issuer.pem, "tls_key": issuer.key_pem}


def ended_issuer(broken):
    issuer = broken.issue(age=2, days=-1)
    return {"tls_crt": issuer.pem, "tls_key": issuer.key_pem}


# What is broken, what `linkerd check` calls the check that fails, and what `verify` says.
BREAKS = {
    **{
        f"the caBundle of {service}": (
            another_bundle(service),
            f"{service.removeprefix('linkerd-')} webhook has valid cert",
            f"{service}-webhook-config trusts CN=another authority in its caBundle",
        )
        for service in SERVICES
    },
    **{
        f"the Secret of {service}": (
            another_secret(f"{LINKERD}/secrets/{service}-k8s-tls", foreign_leaf(service)),
            f"{service.removeprefix('linkerd-')} webhook has valid cert",
            f"Secret linkerd/{service}-k8s-tls holds a certificate of another authority",
        )
        for service in SERVICES
    },
    "an issuer of another root": (
        another_secret(ISSUER_SECRET, foreign_issuer),
        "issuer cert is issued by the trust anchor",
        "identity issuer chains to no root of the bundle",
    ),
    "an issuer that has ended": (
        another_secret(ISSUER_SECRET, ended_issuer),
        "issuer cert is within its validity period",
        "identity issuer ended",
    ),
    "another root beside the issuer": (
        another_secret(ISSUER_SECRET, lambda _: {"ca_crt": make_certificate("another root").pem}),
        "issuer cert is issued by the trust anchor",
        "has no root of the bundle in ca.crt, where `linkerd check` looks for it",
    ),
}


@pytest.mark.needs("linkerd-cli")
@pytest.mark.usefixtures("without_cert_manager")
def test_verify_finds_what_linkerd_check_finds(broken):
    assert set(checked(broken).values()) == {"success"}
    for name, (change, description, says) in BREAKS.items():
        restore = change(broken)
        try:
            assert checked(broken)[description] == "error", name
            assert says in broken.says("verify", 1), name
        finally:
            restore()
    assert set(checked(broken).values()) == {"success"}


def checked(broken):
    """The results of `linkerd check` on the certificates of webhooks and of the identity service."""
    where = (f"--kubeconfig={broken.cluster.kubeconfig}", f"--context={broken.cluster.context}")
    ran = subprocess.run(
        ["linkerd", "check", "--output=json", "--wait=5s", *where], capture_output=True, text=True, check=False
    )
    found = json.loads(ran.stdout)["categories"]
    results = {
        check["description"]: check["result"]
        for category in found
        if category["categoryName"] in ("linkerd-identity", "linkerd-webhooks-and-apisvc-tls")
        for check in category["checks"]
        # That a certificate ends within 60 days is so of every issuer that is renewed each day.
        if "valid for at least" not in check["description"]
    }
    assert results, f"it ended before it looked at certificates: {found[-1]}"
    return results
