"""The stand-ins of the data plane: they follow the rules by which a rotation of the real one succeeds or fails."""

import base64
import hashlib
import os
import re
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from meshtrust.cluster.connection.port_forward import PodUnreachableError, fetch_certificates, fetch_page
from meshtrust.pki.chain import verify_chain
from meshtrust.pki.pem import read_bundle
from rehearsal import mesh
from rehearsal.cluster import Cluster
from rehearsal.mesh.traffic import make_workloads, read_handshakes, wait_for_proxies
from tests.certificates import Pair, make_certificate
from tests.rehearsal.control_plane import (
    NAMESPACE,
    ControlPlane,
    anchors_of,
    forward,
    is_ready,
    proxy_of,
    wait_until,
)

CONTAINERS = [{"name": "app", "image": "example.com/app"}]
# The destination and the proxy injector have a proxy each; that of the identity service is not counted.
CONTROL_PLANE = 2
MESHED, PLAIN = "meshed", "plain"
# What a proxy says of the leaf of one that it connects to, and of one that connects to it.
UNTRUSTED = ("x509: certificate signed by unknown authority", "remote error: tls: unknown certificate authority")


@pytest.fixture(scope="module")
def root():
    return make_certificate("root.linkerd.cluster.local")


@pytest.fixture(scope="module")
def plane(binaries, linkerd_charts, root):
    """A control plane with proxies in it, on a cluster of its own, left as it was found by each test."""
    with Cluster.start(f"mesh-{os.getpid()}") as cluster:
        installed = ControlPlane(cluster, binaries.helm, linkerd_charts)
        installed.create_namespace()
        installed.set_issuer(root)
        installed.install(root.pem)
        inject = {"linkerd.io/inject": "enabled"}
        installed.post("/api/v1/namespaces", {"metadata": {"name": MESHED, "annotations": inject}})
        installed.post("/api/v1/namespaces", {"metadata": {"name": PLAIN}})
        for namespace in (MESHED, PLAIN):
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
            wait_until(lambda path=path: cluster_has(cluster, path))
        wait_until(lambda: proxy_of(try_pod(installed, MESHED)) is not None)
        yield installed


@pytest.fixture(scope="module")
def shop(plane):
    """Workloads of the mesh that connect to each other."""
    make_workloads(plane.cluster, "shop", count=4, replicas=2)
    wait_for_proxies(plane.cluster, 8 + CONTROL_PLANE, 60)
    return "shop"


def cluster_has(cluster, path):
    with cluster.client() as api:
        return api.get(path).is_success


def answer_to_pod(plane, namespace, **parts):
    metadata = {"name": "tried", **parts.pop("metadata", {})}
    pod = {"metadata": metadata, "spec": {"containers": CONTAINERS, **parts}}
    with plane.cluster.client() as api:
        return api.post(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", json=pod)


def try_pod(plane, namespace, **parts):
    """The pod that the cluster would make."""
    answer = answer_to_pod(plane, namespace, **parts)
    assert answer.is_success, answer.text
    return answer.json()


def annotated(value):
    return {"metadata": {"annotations": {"linkerd.io/inject": value}}}


@pytest.mark.parametrize(
    ("namespace", "parts", "injected"),
    [
        (MESHED, {}, True),
        (MESHED, annotated("enabled"), True),
        (MESHED, annotated("disabled"), False),
        (MESHED, annotated("on"), False),
        (MESHED, {"hostNetwork": True}, False),
        (MESHED, {"initContainers": [{"name": "linkerd-init", "image": "example.com/init"}]}, False),
        (PLAIN, {}, False),
        (PLAIN, annotated("enabled"), True),
        (PLAIN, annotated("ingress"), True),
        (PLAIN, annotated("disabled"), False),
    ],
)
def test_a_pod_is_injected_when_it_or_its_namespace_asks(plane, namespace, parts, injected):
    assert (proxy_of(try_pod(plane, namespace, **parts)) is not None) == injected


def test_a_pod_of_the_control_plane_is_not_injected(plane):
    labels = {"linkerd.io/control-plane-component": "other"}
    assert proxy_of(try_pod(plane, MESHED, metadata={"labels": labels})) is None


def test_an_injected_pod_tells_what_it_trusts(plane, root):
    pod = try_pod(plane, MESHED)
    assert read_bundle(anchors_of(pod)) == [root.certificate]
    annotations, labels = pod["metadata"]["annotations"], pod["metadata"]["labels"]
    assert annotations["linkerd.io/trust-root-sha256"] == hashlib.sha256(root.pem.strip().encode()).hexdigest()
    assert annotations["linkerd.io/proxy-version"]
    assert labels["linkerd.io/control-plane-ns"] == NAMESPACE
    assert labels["linkerd.io/workload-ns"] == MESHED
    proxy = proxy_of(pod)
    assert proxy is not None
    ports = {entry["name"]: entry["containerPort"] for entry in proxy["ports"]}
    assert ports == {"linkerd-proxy": 4143, "linkerd-admin": 4191}


def test_the_pods_of_a_workload_carry_its_name(plane, shop):
    labels = plane.pods(shop, "app=workload-001")[0]["metadata"]["labels"]
    assert labels["linkerd.io/proxy-deployment"] == "workload-001"


def test_the_bundle_is_read_again_at_every_injection(plane, root):
    other = make_certificate("another root")
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/linkerd-identity-trust-roots"
    before = plane.get(path)["data"]
    bundle = root.pem + other.pem
    plane.patch(path, {"data": {"ca-bundle.crt": bundle}})
    try:
        pod = try_pod(plane, MESHED)
        assert read_bundle(anchors_of(pod)) == [root.certificate, other.certificate]
        sha256 = pod["metadata"]["annotations"]["linkerd.io/trust-root-sha256"]
        assert sha256 == hashlib.sha256(bundle.encode()).hexdigest()
    finally:
        plane.patch(path, {"data": before})
    assert read_bundle(anchors_of(try_pod(plane, MESHED))) == [root.certificate]


def test_the_webhook_takes_over_a_new_certificate(plane):
    name = "linkerd-proxy-injector"
    pair = make_certificate("webhook-ca")
    webhook = (
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/linkerd-proxy-injector-webhook-config"
    )
    served = make_server_certificate(f"{name}.{NAMESPACE}.svc", pair)
    data = {"tls.crt": encode(served.pem), "tls.key": encode(served.key_pem)}
    plane.patch(f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}-k8s-tls", {"data": data})
    first = plane.get(webhook)["webhooks"][0]
    first["clientConfig"]["caBundle"] = encode(pair.pem)
    # With the policy of the chart, Ignore, nothing would tell a webhook that cannot be reached from one that is right.
    plane.patch(webhook, {"webhooks": [{**first, "failurePolicy": "Fail"}]})
    try:
        created = wait_until(lambda: (answer := answer_to_pod(plane, MESHED)).is_success and answer)
        assert proxy_of(created.json()) is not None
    finally:
        plane.patch(webhook, {"webhooks": [first]})


def make_server_certificate(name, issuer):
    key = ec.generate_private_key(ec.SECP256R1())
    template = make_certificate(name, issuer=issuer, key=key, ca=False).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.issuer)
        .public_key(key.public_key())
        .serial_number(template.serial_number)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return Pair(builder.sign(issuer.key, hashes.SHA256()), key)


def encode(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("name", ["linkerd-sp-validator", "linkerd-policy-validator"])
def test_the_validators_answer(plane, name):
    path = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}-webhook-config"
    judged = plane.get(path)["webhooks"][0]
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    judging = {**judged, "rules": rules, "failurePolicy": "Fail", "objectSelector": {"matchLabels": {"judge": name}}}
    plane.patch(path, {"webhooks": [judging]})
    try:
        body = {"metadata": {"name": "judged", "labels": {"judge": name}}}
        assert plane.post(f"/api/v1/namespaces/{PLAIN}/configmaps?dryRun=All", body)
    finally:
        plane.patch(path, {"webhooks": [judged]})


def test_proxies_connect_to_each_other_and_nothing_fails(plane, shop):
    started = read_handshakes(plane.cluster)
    counted = wait_until(lambda: (now := counted_since(plane, started, 200)) and now)
    assert counted.failed == 0, counted.failures
    assert counted.succeeded == counted.attempted
    assert {pod.split("/")[0] for pod in counted.by_pod} == {shop, NAMESPACE}
    assert all(attempted > 0 for attempted, _ in counted.by_pod.values())


def counted_since(plane, start, count):
    now = read_handshakes(plane.cluster)
    return now if now.attempted >= start.attempted + count else None


def test_pods_that_are_replaced_make_no_failures(plane, shop):
    started = read_handshakes(plane.cluster)
    names = {name_of(pod) for pod in plane.pods(shop)}
    for name in names:
        plane.delete(f"/api/v1/namespaces/{shop}/pods/{name}")
    wait_until(lambda: [is_ready(pod) for pod in plane.pods(shop)] == [True] * len(names))
    assert not names & {name_of(pod) for pod in plane.pods(shop)}
    wait_for_proxies(plane.cluster, 8 + CONTROL_PLANE, 60)
    counted = wait_until(lambda: counted_since(plane, started, 100))
    assert counted.failed == started.failed, counted.failures


def test_a_port_forward_shows_the_leaf_that_a_proxy_uses(plane, shop, root):
    pod = name_of(plane.pods(shop, "app=workload-001")[0])
    name = f"workload-001.{shop}.serviceaccount.identity.{NAMESPACE}.cluster.local"
    shown = forward(plane.cluster, fetch_certificates, shop, pod, 4191, name)
    leaf, _, anchor = verify_chain(shown, [root.certificate], datetime.now(UTC))
    assert anchor == root.certificate
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]
    metrics = forward(plane.cluster, fetch_page, shop, pod, 4191, "/metrics").text
    assert gauge(metrics, "control_identity_cert_expiration_timestamp_seconds") == leaf.not_valid_after_utc.timestamp()
    assert forward(plane.cluster, fetch_page, shop, pod, 4191, "/ready").text == "ready\n"


def test_a_proxy_shows_its_leaf_to_who_asks_for_it_by_name(plane, shop):
    pod = name_of(plane.pods(shop, "app=workload-001")[0])
    with pytest.raises(PodUnreachableError):
        forward(plane.cluster, fetch_certificates, shop, pod, 4191, "somebody.else")


def test_a_port_that_nothing_answers_for_is_refused(plane, shop):
    pod = name_of(plane.pods(shop)[0])
    with pytest.raises(PodUnreachableError, match=r"nothing answers for shop/.* port 81"):
        forward(plane.cluster, fetch_page, shop, pod, 81, "/")


def test_the_identity_services_pod_is_reached_both_ways(plane, root):
    pod = name_of(plane.identity_pod())
    name = f"linkerd-identity.{NAMESPACE}.serviceaccount.identity.{NAMESPACE}.cluster.local"
    shown = forward(plane.cluster, fetch_certificates, NAMESPACE, pod, 4191, name)
    assert verify_chain(shown, [root.certificate], datetime.now(UTC))
    forwarded = forward(plane.cluster, fetch_page, NAMESPACE, pod, 9990, "/metrics").text
    with plane.cluster.client() as api:
        proxied = api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/http:{pod}:9990/proxy/metrics").text
    left = "issuer_cert_ttl_seconds"
    assert gauge(forwarded, left) == pytest.approx(gauge(proxied, left), abs=5)


def gauge(metrics, name):
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_roll_out_waits_for_the_leaves_of_the_new_pods(plane, shop):
    scale = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/linkerd-identity/scale"
    before = {name_of(pod) for pod in plane.pods(shop, "app=workload-002")}
    plane.patch(scale, {"spec": {"replicas": 0}})
    try:
        wait_until(lambda: not plane.pods(NAMESPACE, "linkerd.io/control-plane-component=identity"))
        restart = {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}
        plane.patch(f"/apis/apps/v1/namespaces/{shop}/deployments/workload-002", restart)
        new, *others = wait_until(
            lambda: [pod for pod in plane.pods(shop, "app=workload-002") if name_of(pod) not in before]
        )
        # Twice, so that the Deployment has had the time to take the pod for ready.
        failures = wait_until(lambda: (found := failures_of(plane, shop, new)) and len(found) > 1 and found)
        assert not others
        assert "nothing answers for linkerd/linkerd-identity" in failures[0]
        assert before < {name_of(pod) for pod in plane.pods(shop, "app=workload-002")}
        waiting = plane.get(f"/api/v1/namespaces/{shop}/pods/{name_of(new)}")
        assert waiting["status"]["phase"] == "Running"
        assert not is_ready(waiting)
    finally:
        plane.patch(scale, {"spec": {"replicas": 1}})
    wait_until(lambda: not before & {name_of(pod) for pod in plane.pods(shop, "app=workload-002")})
    wait_for_proxies(plane.cluster, 8 + CONTROL_PLANE, 60)


def name_of(pod):
    return pod["metadata"]["name"]


def failures_of(plane, namespace, pod):
    failures = read_handshakes(plane.cluster).renewal_failures
    return [entry.reason for entry in failures if entry.pod == f"{namespace}/{name_of(pod)}"]


def test_a_pod_can_be_kept_out_of_the_traffic(plane):
    path = f"/api/v1/namespaces/{MESHED}/pods"
    metadata = {"name": "idle", "annotations": {"rehearsal.meshtrust.io/proxy": "none"}}
    idle = plane.post(path, {"metadata": metadata, "spec": {"containers": CONTAINERS}})
    assert proxy_of(idle) is not None
    wait_until(lambda: is_ready(plane.get(f"{path}/idle")))
    assert f"{MESHED}/idle" not in read_handshakes(plane.cluster).by_pod
    plane.delete(f"{path}/idle")


def test_an_identity_service_can_miss_its_issuers_from_a_moment_on(plane, root):
    pod = plane.identity_pod()
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}"
    before = served_issuer(plane)
    for missed, annotation in enumerate(("true", None), start=1):
        plane.patch(path, {"metadata": {"annotations": {"rehearsal.meshtrust.io/misses-reload": annotation}}})
        issuer = plane.set_issuer(root)
        wait_until(lambda count=missed: plane.cluster.log("linkerd-identity", 500).count("is missed") >= count)
        assert served_issuer(plane) == before
    plane.delete(path)
    wait_until(lambda: name_of(plane.identity_pod()) != name_of(pod))
    assert served_issuer(plane) == issuer.certificate


def served_issuer(plane):
    leaf = mesh.request_leaf(plane.cluster, namespace=PLAIN, service_account="default")
    return read_bundle(leaf.chain_pem)[1]


@pytest.mark.soak
def test_a_switch_before_all_proxies_trust_the_new_root_fails_as_in_reality(binaries, linkerd_charts):
    """The guide's order, without a restart of the data plane between the new bundle and the new issuer."""
    old, new = make_certificate("old root"), make_certificate("new root")
    short = {"issuanceLifetime": "20s", "clockSkewAllowance": "1s"}
    with Cluster.start(f"switch-{os.getpid()}") as cluster:
        plane = ControlPlane(cluster, binaries.helm, linkerd_charts)
        plane.create_namespace()
        plane.set_issuer(old)
        plane.install(old.pem, **short)
        make_workloads(cluster, "shop", count=3)
        wait_for_proxies(cluster, 3 + CONTROL_PLANE, 60)
        assert read_handshakes(cluster).failed == 0

        plane.install(old.pem + new.pem, **short)
        wait_for_proxies(cluster, 3 + CONTROL_PLANE, 60)
        started = datetime.now(UTC)
        plane.set_issuer(new)
        assert mesh.wait_event(cluster, "IssuerUpdated", since=started, timeout_seconds=30)
        # A pod from after the switch does not get along with those from before the new bundle, whichever side it is on.
        make_workloads(cluster, "late", count=1)
        for why in UNTRUSTED:
            wait_until(lambda why=why: why in " ".join(reasons(cluster)))
        # Those refuse their next leaves, and then their last ones run out.
        refused = wait_until(lambda: refusals(cluster), 60)
        assert {entry.pod.split("/")[0] for entry in refused} == {"shop"}
        wait_until(lambda: "expired" in " ".join(reasons(cluster)), 60)

        for pod in plane.pods("shop"):
            plane.delete(f"/api/v1/namespaces/shop/pods/{pod['metadata']['name']}")
        wait_until(lambda: [is_ready(pod) for pod in plane.pods("shop")] == [True] * 3)
        wait_for_proxies(cluster, 4 + CONTROL_PLANE, 60)
        healed = read_handshakes(cluster)
        after = wait_until(lambda: counted_since(plane, healed, 50))
        assert after.failed == healed.failed, after.failures[-3:]


def refusals(cluster):
    return [entry for entry in read_handshakes(cluster).renewal_failures if "refuse the leaf" in entry.reason]


def reasons(cluster):
    return [entry.reason for entry in read_handshakes(cluster).failures]
