"""Each rule of the policy pack refuses what it is about, and nothing that the program itself declares by default."""

import base64
from datetime import timedelta
from types import SimpleNamespace

import pytest

from policy import rules
from tests.certificates import make_certificate
from tests.recorder import REPOSITORY, run_program, unwrapped

ROOT = make_certificate()
INTERMEDIATE = make_certificate("intermediate", issuer=ROOT)
ISSUER = make_certificate("identity.linkerd.cluster.local", issuer=ROOT, days=2)
WEEK = timedelta(days=7)


def resource(kind, props, name="some"):
    return SimpleNamespace(resource_type=kind, props=props, name=name)


def secret(name, certificate, key=None, *, plain=False):
    texts = {"tls.crt": certificate, **({"tls.key": key} if key else {})}
    encoded = {part: base64.b64encode(text.encode()).decode() for part, text in texts.items()}
    held = {"stringData": texts} if plain else {"data": encoded}
    return resource(rules.SECRET, {"metadata": {"name": name}, **held})


def found(rule, judged, *more):
    reports = []
    rule(judged, lambda message, urn=None: reports.append((message, urn) if urn else message), *more)
    return reports


def stack(*resources, bundle=ROOT.pem, kind=rules.RELEASE):
    """A stack whose mesh trusts a bundle."""
    told = {"values": {"identityTrustAnchorsPEM": bundle}} if kind == rules.RELEASE else {"bundle": bundle}
    for entry in resources:
        entry.urn = f"urn:{entry.props.get('metadata', {}).get('name')}"
    return SimpleNamespace(resources=[resource(kind, told), *resources])


@pytest.mark.parametrize("kind", [rules.RELEASE, "meshtrust:index:TrustAnchor"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_secret_with_an_anchors_key_is_refused_whatever_its_name(kind, plain):
    judged = stack(secret("ca", make_certificate().pem, ROOT.key_pem, plain=plain), kind=kind)
    assert found(rules.anchor_key_on_no_cluster, judged) == [
        ("Secret ca is to hold the key of a trust anchor. Keep it off the cluster.", "urn:ca")
    ]


@pytest.mark.parametrize("name", ["linkerd-trust-anchor", "linkerd-trust-anchor-2027"])
def test_a_secret_of_the_guides_name_is_refused_before_its_content_is_known(name):
    [(_, urn)] = found(rules.anchor_key_on_no_cluster, stack(resource(rules.SECRET, {"metadata": {"name": name}})))
    assert urn == f"urn:{name}"


@pytest.mark.parametrize(
    "judged",
    [
        secret("roots", ROOT.pem),
        secret("linkerd-identity-issuer", f"{ISSUER.pem}{ROOT.pem}", ISSUER.key_pem),
        secret("linkerd-issuer-ca-2026", f"{INTERMEDIATE.pem}{ROOT.pem}", INTERMEDIATE.key_pem),
        # Webhooks have a root of their own, which no proxy trusts.
        secret("webhook-ca", (webhooks := make_certificate("webhooks")).pem, webhooks.key_pem),
        resource(rules.SECRET, {"metadata": {"name": "token"}, "data": {"token": "no base64!"}}),
        resource(rules.SECRET, {}),
        resource("kubernetes:core/v1:ConfigMap", {"metadata": {"name": "linkerd-trust-anchor"}}),
    ],
)
def test_a_root_without_its_key_and_other_keys_are_let_through(judged):
    assert found(rules.anchor_key_on_no_cluster, stack(judged)) == []


@pytest.mark.parametrize(
    ("judged", "hours"),
    [
        (resource(rules.CERTIFICATE, {"spec": {"secretName": "linkerd-identity-issuer", "duration": "169h"}}), "169"),
        (resource(rules.CERTIFICATE, {"spec": {"secretName": "linkerd-identity-issuer"}}), "2160"),
        (secret("linkerd-identity-issuer", make_certificate(issuer=ROOT, days=20).pem), "481"),
    ],
)
def test_an_issuer_that_lives_too_long_is_refused(judged, hours):
    assert found(rules.issuer_duration, judged, WEEK) == [
        f"The identity issuer is to live {hours} hours, and may live 168 hours at most."
    ]


@pytest.mark.parametrize(
    "judged",
    [
        resource(rules.CERTIFICATE, {"spec": {"secretName": "linkerd-identity-issuer", "duration": "167h59m60s"}}),
        resource(rules.CERTIFICATE, {"spec": {"secretName": "web", "duration": "8760h"}}),
        secret("linkerd-identity-issuer", ISSUER.pem),
        secret("web", make_certificate(days=400).pem),
        resource(rules.SECRET, {"metadata": {"name": "linkerd-identity-issuer"}}),
    ],
)
def test_an_issuer_that_lives_long_enough_and_other_certificates_are_let_through(judged):
    assert found(rules.issuer_duration, judged, WEEK) == []


@pytest.mark.parametrize(
    ("props", "message"),
    [
        ({"chart": "linkerd-control-plane"}, "linkerd.io/tls, the chart's default"),
        (
            {
                "chart": "charts/linkerd-control-plane",
                "values": {"identity": {"issuer": {"scheme": "linkerd.io/tls"}}},
            },
            "is linkerd.io/tls",
        ),
        ({"chart": "mine", "values": {"identity": {"issuer": {"tls": {"keyPEM": "key"}}}}}, "keyPEM"),
    ],
)
def test_a_key_among_helms_values_is_refused(props, message):
    [told] = found(rules.no_key_in_helm_values, resource(rules.RELEASE, props))
    assert message in told


def test_another_chart_and_the_right_scheme_are_let_through():
    right = {"chart": "linkerd-control-plane", "values": {"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}}}
    for props in (right, {"chart": "cert-manager"}, {}):
        assert found(rules.no_key_in_helm_values, resource(rules.RELEASE, props)) == []


def stack_of(*, root=True, key=True, old=False):
    """A stack in which one generation signs, and another one no longer does."""

    def made(kind, name, *, protect, sources=None):
        return SimpleNamespace(
            resource_type=kind,
            urn=f"urn:{name}",
            name=name,
            props={},
            opts=SimpleNamespace(protect=protect),
            property_dependencies=sources or {},
        )

    signing_root = made("tls:index/selfSignedCert:SelfSignedCert", "root", protect=root)
    signing_key = made("tls:index/privateKey:PrivateKey", "key", protect=key)
    request = made("tls:index/privateKey:PrivateKey", "own", protect=False)
    signed = made(
        "tls:index/locallySignedCert:LocallySignedCert",
        "intermediate",
        protect=False,
        sources={"caCertPem": [signing_root], "caPrivateKeyPem": [signing_key], "certRequestPem": [request]},
    )
    retiring = made("tls:index/selfSignedCert:SelfSignedCert", "old root", protect=old)
    return SimpleNamespace(resources=[signing_root, signing_key, request, signed, retiring])


def test_what_signs_has_to_be_protected():
    assert found(rules.signing_anchors_are_protected, stack_of()) == []
    [(message, urn)] = found(rules.signing_anchors_are_protected, stack_of(root=False))
    assert (urn, message) == ("urn:root", "root signs, and is not protected. Set anchor.protect to true.")
    assert len(found(rules.signing_anchors_are_protected, stack_of(root=False, key=False))) == 2


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, set()),
        ({"meshtrust:issuer.mode": "anchor"}, {"anchor_key_on_no_cluster"}),
        ({"meshtrust:issuer.mode": "pulumi"}, {"issuer_duration"}),
        ({"meshtrust:issuer.duration": "200h"}, {"issuer_duration"}),
    ],
)
def test_what_the_program_declares_passes_unless_it_is_told_to_do_what_a_rule_refuses(config, changes, refused):
    recording = run_program({**config, **changes})
    judged = [resource(entry.type, _plain(entry.inputs), entry.name) for entry in recording.resources]
    for entry in judged:
        entry.urn = entry.name
    told = {
        rule.__name__
        for rule, more in ((rules.issuer_duration, (WEEK,)), (rules.no_key_in_helm_values, ()))
        for entry in judged
        if found(rule, entry, *more)
    }
    if found(rules.anchor_key_on_no_cluster, SimpleNamespace(resources=judged)):
        told.add("anchor_key_on_no_cluster")
    # The stand-in for the tls provider gives a certificate ten days, whatever it is asked for.
    assert told == refused


def _plain(value):
    """Properties as a policy sees them: secrets as what they hold."""
    value = unwrapped(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def test_the_pack_has_the_packages_of_the_program_in_its_versions():
    lines = {name: set((REPOSITORY / name / "requirements.txt").read_text().splitlines()) for name in (".", "policy")}
    shared = {line for line in lines["policy"] if "==" in line and not line.startswith("pulumi-policy")}
    assert shared <= lines["."]
