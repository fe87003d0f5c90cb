"""The certificates of Linkerd's webhooks: what is declared for them, and the steps from one authority to another."""

import base64
import itertools

import pulumi
import pytest

from meshtrust.linkerd.webhooks.authority import IllegalAuthorityStepError, check_step
from meshtrust.pki.pem import read_bundle
from tests.recorder import run_program, unwrapped

CERTIFICATE = "kubernetes:cert-manager.io/v1:Certificate"
HOSTS = {
    "linkerd-proxy-injector": "linkerd-proxy-injector.linkerd.svc",
    "linkerd-sp-validator": "linkerd-sp-validator.linkerd.svc",
    "linkerd-policy-validator": "linkerd-policy-validator.linkerd.svc",
}
TWO = {"meshtrust:webhooks.authorities": ["1", "2"], "meshtrust:webhooks.signer": "1"}


def webhook_certificates(recording):
    certificates = recording.of_type(CERTIFICATE)
    return {
        entry.inputs["metadata"]["name"]: entry.inputs for entry in certificates if entry.name.startswith("webhooks-")
    }


def test_each_webhook_has_a_certificate_for_its_service(config):
    recording = run_program(config)
    certificates = webhook_certificates(recording)
    assert set(certificates) == set(HOSTS)
    for name, host in HOSTS.items():
        spec = certificates[name]["spec"]
        assert spec["secretName"] == f"{name}-k8s-tls"
        assert spec["commonName"] == host
        assert spec["dnsNames"] == [host]
        assert spec["isCA"] is False
        assert spec["usages"] == ["server auth"]
        assert spec["issuerRef"] == {"name": "linkerd-webhook-ca-1", "kind": "Issuer", "group": "cert-manager.io"}
        assert spec["privateKey"]["encoding"] == ("PKCS8" if name == "linkerd-policy-validator" else "PKCS1")
        assert certificates[name]["metadata"]["namespace"] == "linkerd"


def test_linkerd_waits_for_the_certificates(config):
    recording = run_program(config)
    waits = recording.depends(recording.named("linkerd-control-plane"))
    assert {f"webhooks-{name}" for name in HOSTS} <= waits


def test_the_authority_is_not_that_of_the_mesh(config):
    recording = run_program(config)
    bundle = recording.outputs["webhooks"]["caBundle"]
    assert not set(read_bundle(bundle)) & set(read_bundle(recording.outputs["trustAnchors"]))
    data = unwrapped(recording.named("webhooks-1-ca").inputs["data"])
    assert read_bundle(base64.b64decode(data["tls.crt"]).decode()) == read_bundle(bundle)


def test_another_authority_is_trusted_before_it_signs(config):
    recording = run_program({**config, **TWO})
    values = recording.named("linkerd-control-plane").inputs["values"]
    bundle = recording.outputs["webhooks"]["caBundle"]
    assert len(read_bundle(bundle)) == 2
    assert {values[section]["caBundle"] for section in ("proxyInjector", "profileValidator", "policyValidator")} == {
        bundle
    }
    assert [
        entry.name for entry in recording.resources if entry.name.endswith("-issuer") and "webhooks" in entry.name
    ] == ["webhooks-1-issuer"]
    switched = run_program({**config, **TWO, "meshtrust:webhooks.signer": "2"})
    issuers = {entry["spec"]["issuerRef"]["name"] for entry in webhook_certificates(switched).values()}
    assert issuers == {"linkerd-webhook-ca-2"}


def test_viz_has_its_own_where_it_is_asked_for(config):
    recording = run_program({**config, "meshtrust:webhooks.vizNamespace": "linkerd-viz"})
    certificates = webhook_certificates(recording)
    assert certificates["tap"]["spec"]["secretName"] == "tap-k8s-tls"
    assert certificates["tap"]["spec"]["dnsNames"] == ["tap.linkerd-viz.svc"]
    assert certificates["tap-injector"]["spec"]["secretName"] == "tap-injector-k8s-tls"
    assert certificates["tap-injector"]["metadata"]["namespace"] == "linkerd-viz"
    assert recording.named("webhooks-viz-1-issuer").inputs["metadata"]["namespace"] == "linkerd-viz"


def test_the_chart_makes_them_where_it_is_to(config):
    recording = run_program({**config, "meshtrust:webhooks.mode": "chart"})
    assert not webhook_certificates(recording)
    assert "proxyInjector" not in recording.named("linkerd-control-plane").inputs["values"]
    assert recording.outputs["webhooks"] == {"mode": "chart"}


@pytest.mark.parametrize(
    ("last", "made"), [({"mode": "chart"}, False), (None, False), ({"mode": "cert-manager"}, True)]
)
def test_unless_it_is_configured_it_stays_as_it_is(config, last, made):
    first = run_program(config).outputs
    webhooks = {**first["webhooks"], **last} if last else None
    recording = run_program(config, last_outputs={**first, "webhooks": webhooks})
    assert bool(webhook_certificates(recording)) == made


def test_they_do_not_go_back_to_the_chart(config):
    last = run_program(config).outputs
    with pytest.raises(pulumi.RunError, match="Helm does not take over Secrets that it has not made"):
        run_program({**config, "meshtrust:webhooks.mode": "chart"}, last_outputs=last)


def test_an_authority_that_is_not_trusted_yet_does_not_sign(config):
    last = run_program(config).outputs
    with pytest.raises(pulumi.RunError, match=r"First deploy meshtrust:webhooks\.authorities") as caught:
        run_program({**config, **TWO, "meshtrust:webhooks.signer": "2"}, last_outputs=last)
    assert "Nothing was changed" in str(caught.value)


def test_webhooks_never_meet_cert_managers_own_pods(config):
    namespace = run_program({**config, "meshtrust:certManager.namespace": "certs"}).named("cert-manager-namespace")
    assert namespace.inputs["metadata"]["labels"] == {"config.linkerd.io/admission-webhooks": "disabled"}


def test_a_stack_without_cert_manager_leaves_them_to_the_chart(config):
    assert not webhook_certificates(run_program({**config, "meshtrust:issuer.mode": "pulumi"}))
    asked = run_program({**config, "meshtrust:issuer.mode": "pulumi", "meshtrust:webhooks.mode": "cert-manager"})
    assert webhook_certificates(asked)
    assert asked.named("cert-manager-release"), "it is installed for the webhooks' sake"


@pytest.mark.parametrize(
    ("last", "wanted", "message"),
    [
        ((["1"], "1"), (["1", "2"], "2"), "would sign the webhooks' certificates before the API server trusts it"),
        ((["1"], "1"), (["2"], "2"), 'First deploy meshtrust:webhooks.authorities ["1", "2"] with'),
        ((["1", "2"], "1"), (["2"], "2"), 'authority "1" would go in the run in which "2" begins to sign'),
    ],
)
def test_a_step_in_which_calls_would_fail_is_refused(last, wanted, message):
    with pytest.raises(IllegalAuthorityStepError, match="First deploy") as caught:
        check_step(last, wanted)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "states",
    [
        [(["1"], "1"), (["1", "2"], "1"), (["1", "2"], "2"), (["2"], "2")],
        [(["1"], "1"), (["1", "2"], "1"), (["1", "2"], "2"), (["1", "2"], "1"), (["1"], "1")],
    ],
)
def test_a_rotation_and_the_way_back_are_let_through(states):
    for last, wanted in itertools.pairwise(states):
        check_step(last, wanted)
