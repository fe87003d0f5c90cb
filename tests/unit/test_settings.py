"""Bad input: one clear sentence each, all of them at once, before a single resource is registered."""

import base64
import logging
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

import pulumi
import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtrust.stacks.outputs import StackOutputs
from program.configuration.model import FIELDS
from program.configuration.settings import Settings, load_settings
from rehearsal.mocks import Secret, engine_config
from rehearsal.workspace import REPOSITORY
from tests.certificates import make_certificate
from tests.recorder import run_program


def refused(config, **changes):
    """Run the program with changed keys; return what it says when it refuses."""
    changed = {f"meshtrust:{key}": value for key, value in changes.items()}
    with pytest.raises(pulumi.RunError) as caught:
        run_program({**config, **changed})
    return str(caught.value)


def warnings_of(recording):
    return "\n".join(message for level, message in recording.messages if level == logging.WARNING)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("context", None, "meshtrust:context is not set. Run: pulumi config set context <value>"),
        ("context", "", "meshtrust:context is empty"),
        ("linkName", "East_1", 'meshtrust:linkName is "East_1", not a DNS label'),
        ("linkName", "east-1", "only a cluster of a fleet (meshtrust:anchorStack) is known by it"),
        ("anchors", None, "meshtrust:anchors is not set"),
        ("anchors", [], "meshtrust:anchors is empty"),
        ("anchors", "2026", "meshtrust:anchors is 2026, not a list"),
        ("anchors", "first", "meshtrust:anchors is 'first', not a list"),
        ("anchors", [True], "meshtrust:anchors holds True, which is no name. Use lower-case letters"),
        ("anchors", ["2026", "2026"], "which names one twice"),
        (
            "anchors",
            ["2026", "2027"],
            "meshtrust:signer is not set, and there are several in meshtrust:anchors (2026, 2027)",
        ),
        ("signer", "2030", 'meshtrust:signer is "2030", which is not one of meshtrust:anchors (2026)'),
        ("anchor.validityDays", 0, "meshtrust:anchor.validityDays is 0. Set it to 1 or more"),
        ("anchor.validityDays", "ten", "meshtrust:anchor.validityDays is 'ten', not a whole number"),
        (
            "anchor.validityDays",
            36501,
            "meshtrust:anchor.validityDays is 36501, above 36500: the provider that signs counts in Go durations",
        ),
        ("anchor.validityDays", 999999, "a century is enough. Set it to 36500 or less"),
        ("anchor.protect", "maybe", "meshtrust:anchor.protect is 'maybe', not true or false"),
        ("issuer.mode", "vault", 'meshtrust:issuer.mode is "vault". Use one of intermediate, anchor'),
        ("issuer.duration", "2d", 'meshtrust:issuer.duration cannot be read: "2d" is not a Go duration'),
        ("issuer.duration", "30m", 'meshtrust:issuer.duration is "30m", below cert-manager\'s minimum of 1h'),
        ("issuer.duration", "87600h", "the issuer would outlive its trust anchor"),
        ("issuer.renewBefore", "48h", 'meshtrust:issuer.renewBefore is "48h", not below issuer.duration ("48h")'),
        ("issuer.renewBefore", "7320h", 'meshtrust:issuer.renewBefore is "7320h", not below issuer.duration ("48h")'),
        ("issuer.renewBefore", "1m", "below cert-manager's minimum of 5m"),
        ("issuer.serial", "Number 2", 'meshtrust:issuer.serial is "Number 2". Use lower-case letters'),
        ("issuer.serial", True, "meshtrust:issuer.serial is True, not a name"),
        ("issuer.validityDays", 0, "meshtrust:issuer.validityDays is 0"),
        ("issuer.validityDays", 36501, "meshtrust:issuer.validityDays is 36501, above 36500"),
        ("webhooks.mode", "vault", 'meshtrust:webhooks.mode is "vault"'),
        ("webhooks.authorities", [], "meshtrust:webhooks.authorities is empty"),
        ("webhooks.authorities", ["1", "2"], "there are several in meshtrust:webhooks.authorities (1, 2)"),
        (
            "webhooks.signer",
            "3",
            'meshtrust:webhooks.signer is "3", which is not one of meshtrust:webhooks.authorities',
        ),
        ("webhooks.vizNamespace", "Viz", 'meshtrust:webhooks.vizNamespace is "Viz", not a DNS label'),
        (
            "linkerd.values",
            {"proxyInjector": {"caBundle": "x"}},
            "sets proxyInjector.caBundle, which is the program's own",
        ),
        ("trustBundle.mode", "vault", 'meshtrust:trustBundle.mode is "vault". Use one of helm, trust-manager'),
        ("trustBundle.charts", "/nowhere", "where there is no trust-manager/Chart.yaml"),
        ("trustBundle.install", 1, "meshtrust:trustBundle.install is 1, not true or false"),
        ("linkerd.values", {"identity": {"externalCA": True}}, "sets identity.externalCA, which is the program's own"),
        ("certManager.install", "maybe", "meshtrust:certManager.install is 'maybe', not true or false"),
        (
            "issuer.algorithm",
            "RSA",
            "meshtrust:issuer.algorithm is 'RSA', and cannot be configured: Linkerd accepts only",
        ),
        ("issuer.keySize", "384", "Linkerd accepts only ECDSA P-256"),
        ("issuer", "anchor", "meshtrust:issuer is 'anchor', not a map"),
        ("issuer.mode", None, "meshtrust:issuer.mode is not set. Run: pulumi config set --path issuer.mode <value>"),
        (
            "issuer.renewbefore",
            "25h",
            "Did you mean meshtrust:issuer.renewBefore? Otherwise remove it: pulumi config rm --path",
        ),
        ("isuer", {"mode": "anchor"}, "meshtrust:isuer is an unknown key. Did you mean meshtrust:issuer?"),
        ("trustDomain", "Cluster_Local", "not a DNS name"),
        (
            "trustDomain",
            "",
            "meshtrust:trustDomain is empty. Use a DNS name in lower case: pulumi config set trustDomain",
        ),
        ("linkerd.namespace", "", "meshtrust:linkerd.namespace is empty. Use a DNS label"),
        ("linkerd.namespace", "", "pulumi config set --path linkerd.namespace <value>"),
        ("certManager.namespace", "", "meshtrust:certManager.namespace is empty"),
        ("trustBundle.namespace", "", "meshtrust:trustBundle.namespace is empty"),
        ("linkerd.namespace", "Linkerd", "not a DNS label"),
        ("linkerd.charts", "./nowhere", "where there is no linkerd-crds/Chart.yaml"),
        ("certManager.charts", "/nowhere", "where there is no cert-manager/Chart.yaml"),
        ("linkerd.values", ["a"], "meshtrust:linkerd.values is ['a'], not a map"),
        (
            "linkerd.values",
            {"identityTrustAnchorsPEM": "x"},
            "sets identityTrustAnchorsPEM, which is the program's own",
        ),
        ("linkerd.values", {"identity": {"issuer": {"scheme": "linkerd.io/tls"}}}, "sets identity.issuer.scheme"),
        ("anchorCertificates", {"2031": "x"}, 'has "2031", which is not one of meshtrust:anchors'),
        ("anchorCertificates", {"2026": "no pem"}, "it holds no certificate"),
        ("helm.timeoutSeconds", -1, "meshtrust:helm.timeoutSeconds is -1"),
        (
            "helm.timeoutSeconds",
            86401,
            "meshtrust:helm.timeoutSeconds is 86401, above 86400: proxies whose certificates",
        ),
    ],
)
def test_each_mistake_is_named_with_its_key_its_value_and_the_fix(config, key, value, message):
    assert message in refused(config, **{key: value})


def test_a_path_written_as_one_name_says_how_to_write_it(config):
    pulumi.runtime.set_all_config({**engine_config(config), "meshtrust:issuer.mode": "anchor"})
    with pytest.raises(pulumi.RunError, match=r"issuer\.mode is written as one name.*config set --path issuer\.mode"):
        load_settings(StackOutputs({}))


@pytest.mark.parametrize(
    "changes",
    [
        # Of several keys of one map, each by itself.
        {"linkerd.namespace": "Upper", "linkerd.charts": "./nowhere", "linkerd.ha": "maybe"},
        # A check on several keys runs if those are valid, whatever else is wrong.
        {"anchors": ["2026", "2027"], "trustDomain": "_", "issuer.duration": "2d"},
        {"webhooks.authorities": ["1", "2"], "webhooks.vizNamespace": "Upper"},
        {"issuer.mode": "external-issuer", "issuer.duration": "2d", "isuer": "x"},
        {"anchor.validityDays": 0, "anchorKeys": {"2026": "x"}, "anchorCertificates": {"2030": "x"}},
        {"role": "leader", "observability.labels": {"a": 5}, "clusters": ["a b"]},
    ],
)
def test_a_mistake_hides_none_in_another_key(config, changes):
    alone = set()
    for key, value in changes.items():
        alone |= {line.partition(" ")[0] for line in refused(config, **{key: value}).split("\n  - ")[1:]}
    together = {line.partition(" ")[0] for line in refused(config, **changes).split("\n  - ")[1:]}
    assert together == alone


def test_all_mistakes_are_shown_in_one_run(config):
    message = refused(config, **{"issuer.mode": "x", "trustDomain": "_", "helm.timeoutSeconds": 0})
    assert message.count("\n  - ") == 3
    assert "nothing was changed" in message


def test_a_bundle_with_a_private_key_is_refused_and_the_key_is_not_repeated(config):
    pair = make_certificate()
    message = refused(config, anchorCertificates={"2026": pair.pem + pair.key_pem})
    assert "it holds a private key" in message
    assert "PRIVATE KEY-----" not in message
    assert pair.key_pem.splitlines()[1] not in message


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (lambda: make_certificate(key=ec.generate_private_key(ec.SECP384R1())), "an ECDSA key on secp384r1"),
        (lambda: make_certificate(key=rsa.generate_private_key(65537, 3072)), "an RSA key of 3072 bits"),
        (lambda: make_certificate(ca=False, key_cert_sign=False), "is not marked as a CA"),
        (lambda: make_certificate(path_length=0), "a path length of 0"),
        (lambda: make_certificate(key_cert_sign=False), "a key usage without certificate signing"),
        (lambda: make_certificate(algorithm=hashes.SHA512()), "is not signed with SHA-256"),
        (lambda: make_certificate("leaf", issuer=make_certificate()), "is not self-signed"),
    ],
)
def test_a_root_that_linkerd_would_refuse_is_refused_here(config, pair, message):
    anchors = {"anchors": ["2025", "2026"], "signer": "2026"}
    assert message in refused(config, **anchors, anchorCertificates={"2025": pair().pem})


def test_a_root_from_elsewhere_cannot_sign(config):
    message = refused(config, anchorCertificates={"2026": make_certificate().pem})
    assert 'meshtrust:signer is "2026", whose root was made elsewhere' in message


def test_a_key_in_plaintext_is_refused_and_not_repeated(config):
    root = make_certificate()
    message = refused(config, anchorCertificates={"2026": root.pem}, anchorKeys={"2026": root.key_pem})
    assert "meshtrust:anchorKeys stands in plaintext in the stack's file" in message
    assert "pulumi config set --path --secret anchorKeys.<name> < <file>" in message
    assert root.key_pem.splitlines()[1] not in message


def encrypted(pair):
    return pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    ).decode()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (lambda pair: make_certificate().key_pem, "the key of another certificate"),  # noqa: ARG005
        (lambda pair: pair.pem, "it holds no private key"),
        (encrypted, "it is encrypted"),
        (lambda pair: pair.key_pem.replace(pair.key_pem.splitlines()[1], "AAAA"), "its private key cannot be read"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_and_not_repeated(config, key, message):
    root = make_certificate()
    given = key(root)
    config = {**config, "meshtrust:anchorCertificates": {"2026": root.pem}, "meshtrust:anchorKeys": {"2026": given}}
    with pytest.raises(pulumi.RunError) as caught:
        run_program(config, secret_keys=["meshtrust:anchorKeys"])
    assert message in str(caught.value)
    assert given.splitlines()[1] not in str(caught.value)


def test_a_key_without_its_root_is_refused(config):
    config = {**config, "meshtrust:anchorKeys": {"2026": make_certificate().key_pem}}
    with pytest.raises(pulumi.RunError, match="whose certificate is not in meshtrust:anchorCertificates"):
        run_program(config, secret_keys=["meshtrust:anchorKeys"])


def test_a_secret_that_is_not_understood_is_not_repeated(config):
    key = make_certificate().key_pem
    encoded = base64.b64encode(key.encode()).decode()
    for name in ("anchorKeys", "anchor", "anchorKey", "trustDomain"):
        for held in (key, encoded):
            message = refused(config, **{name: {"privateKey": held} if name == "anchor" else held})
            assert key.splitlines()[1] not in message
            assert encoded not in message


@pytest.mark.parametrize("section", ["linkerd", "certManager", "trustBundle"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_private_key_in_helm_values_is_refused_wherever_it_is_and_not_repeated(config, section, encrypted):
    key = make_certificate().key_pem
    values = {
        "webhook": {"keyPEM": key},
        "extra": ["text", {"config": f"a: b\nkey: |\n  {key}\nc: d"}],
        "manifest": f"tls.key: {base64.b64encode(key.encode()).decode()}",
        "cut": key.splitlines()[0],
        "certificate": base64.b64encode(make_certificate().pem.encode()).decode(),
    }
    secret_keys = [f"meshtrust:{section}"] if encrypted else []
    with pytest.raises(pulumi.RunError) as caught:
        run_program({**config, f"meshtrust:{section}.values": values}, secret_keys=secret_keys)
    message = str(caught.value)
    for path in ("webhook.keyPEM", "extra[1].config", "manifest", "cut"):
        assert f"meshtrust:{section}.values.{path} holds a private key" in message
    assert message.count("\n  - ") == 4
    assert ("take the key for known to everyone who can read the stack's file" in message) != encrypted
    assert "Secret" in message
    assert ("meshtrust:webhooks.mode cert-manager" in message) == (section == "linkerd")
    assert not any(line in message for line in key.splitlines()[1:])
    assert str(values["manifest"]) not in message


def test_a_webhooks_key_is_refused_where_the_chart_makes_the_certificates_too(config):
    changes = {
        "webhooks.mode": "chart",
        "linkerd.values": {"proxyInjector": {"crtPEM": "x", "keyPEM": make_certificate().key_pem}},
    }
    assert "meshtrust:linkerd.values.proxyInjector.keyPEM holds a private key" in refused(config, **changes)


def test_a_warning_about_an_encrypted_value_does_not_repeat_it(config):
    values = {"identity": {"issuer": {"issuanceLifetime": 'hush"1d'}}}
    said = warnings_of(run_program({**config, "meshtrust:linkerd.values": values}, secret_keys=["meshtrust:linkerd"]))
    assert "identity.issuer.issuanceLifetime is [secret], which is not a Go duration" in said
    assert "hush" not in said


KUBECONFIG = "apiVersion: v1\nusers:\n- user:\n    client-key-data: hush\n    token: hush\n"


@pytest.mark.parametrize(
    ("content", "encrypted"),
    [
        (KUBECONFIG, False),
        (KUBECONFIG, True),
        (yaml.safe_load(KUBECONFIG), False),
        ("apiVersion: hush", True),
        (base64.b64encode(KUBECONFIG.encode()).decode(), False),
    ],
)
@pytest.mark.parametrize("role", ["cluster", "anchor"])
def test_a_kubeconfig_itself_in_place_of_its_path_is_refused_and_not_repeated(config, caplog, content, encrypted, role):
    config = {**config, "meshtrust:kubeconfig": content, "meshtrust:role": role}
    with pytest.raises(pulumi.RunError) as caught:
        run_program(config, secret_keys=["meshtrust:kubeconfig"] if encrypted else [])
    message = str(caught.value)
    if role == "cluster":
        assert "meshtrust:kubeconfig is a kubeconfig's content, and has to be its path. Save it as a file" in message
        assert "(chmod 600 <file>)" in message
        assert "pulumi config set kubeconfig <file>" in message
        assert ("with other credentials" in message) != encrypted
    else:
        assert "meshtrust:kubeconfig is [secret], and an anchor stack touches no cluster" in message
    assert "hush" not in message + caplog.text
    assert str(content)[:20] not in message + caplog.text


def test_a_path_of_a_kubeconfig_may_be_encrypted(config):
    config = {**config, "meshtrust:kubeconfig": "/home/someone/kubeconfig"}
    recording = run_program(config, secret_keys=["meshtrust:kubeconfig"])
    assert recording.named("cluster").inputs["kubeconfig"] == "/home/someone/kubeconfig"
    assert recording.outputs["kubeconfig"] == Secret("/home/someone/kubeconfig")


def test_a_signer_that_ends_within_days_is_refused(config):
    root = make_certificate(days=6)
    config = {
        **config,
        "meshtrust:anchorCertificates": {"2026": root.pem},
        "meshtrust:anchorKeys": {"2026": root.key_pem},
    }
    with pytest.raises(pulumi.RunError, match='meshtrust:signer is "2026", whose root ends on'):
        run_program(config, secret_keys=["meshtrust:anchorKeys"])


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        ({}, 'meshtrust:issuer.refs does not say which issuer of cert-manager signs under generation "2026"'),
        ({"2026": {}}, 'has "2026" with {}, which is no reference of an issuer'),
        ({"2026": {"name": "a", "apiGroup": "b"}}, "which is no reference of an issuer"),
        ({"2026": "vault"}, "has \"2026\" with 'vault', which is no reference of an issuer"),
        ({"2026": {"name": "a"}, "2030": {"name": "b"}}, 'has "2030", which is not one of meshtrust:anchors'),
        ("vault", "meshtrust:issuer.refs is 'vault', not a map"),
    ],
)
def test_a_reference_that_names_no_issuer_is_refused(config, refs, message):
    issuer = {"mode": "external-issuer", "refs": refs}
    assert message in refused(config, issuer=issuer, anchorCertificates={"2026": make_certificate().pem})


def test_two_generations_cannot_have_the_same_issuer(config):
    issuer = {"mode": "external-issuer", "refs": {"2026": {"name": "vault"}, "2027": {"name": "vault"}}}
    message = refused(config, anchors=["2026", "2027"], signer="2026", issuer=issuer)
    assert 'has "2027" with Issuer.cert-manager.io vault, which signs under another generation too' in message


def test_webhook_values_that_helm_would_fail_on_are_refused_before_it_does(config):
    changes = {"webhooks.mode": "chart", "linkerd.values": {"proxyInjector": {"injectCaFrom": "linkerd/injector"}}}
    message = refused(config, **changes)
    assert "meshtrust:linkerd.values proxyInjector sets injectCaFrom or injectCaFromSecret, and not ext" in message


def test_a_leaf_lifetime_that_linkerd_would_pass_over_is_a_warning(config):
    said = warnings_of(
        run_program({**config, "meshtrust:linkerd.values": {"identity": {"issuer": {"issuanceLifetime": "1d"}}}})
    )
    assert 'meshtrust:linkerd.values identity.issuer.issuanceLifetime is "1d"' in said


def test_a_root_that_ends_soon_is_a_warning(config):
    pair = make_certificate(age=700, days=30)
    anchors = {"meshtrust:anchors": ["2025", "2026"], "meshtrust:signer": "2026"}
    said = warnings_of(run_program({**config, **anchors, "meshtrust:anchorCertificates": {"2025": pair.pem}}))
    assert 'meshtrust:anchorCertificates has "2025", which expires on' in said


def test_a_key_in_a_wrong_place_is_not_repeated(config):
    pair = make_certificate()
    message = refused(config, **{"trustDomain": pair.key_pem, "anchor.protect": pair.pkcs8_pem})
    assert message.count("[secret]") == 2
    assert not any(line in message for line in pair.key_pem.splitlines() + pair.pkcs8_pem.splitlines())


def test_an_rsa_root_of_2048_bits_is_accepted(config):
    pair = make_certificate(key=rsa.generate_private_key(65537, 2048))
    recording = run_program(
        {
            **config,
            "meshtrust:anchors": ["2025", "2026"],
            "meshtrust:signer": "2026",
            "meshtrust:anchorCertificates": {"2025": pair.pem},
        }
    )
    assert set(recording.outputs["roots"]) == {"2025", "2026"}


def test_a_short_renewal_window_is_a_warning_not_an_error(config):
    said = warnings_of(run_program({**config, "meshtrust:issuer.renewBefore": "12h"}))
    assert "below the 24h of a proxy's certificate" in said


def test_a_longer_life_of_leaves_in_linkerd_values_needs_more_of_the_issuer(config):
    values = {"identity": {"issuer": {"issuanceLifetime": "36h"}}}
    said = warnings_of(run_program({**config, "meshtrust:linkerd.values": values}))
    assert 'meshtrust:issuer.renewBefore is "25h", below the 36h of a proxy\'s certificate' in said
    assert "Set issuer.renewBefore to 37h." in said


def test_a_shorter_life_of_leaves_in_linkerd_values_needs_less_of_the_issuer(config):
    values = {"identity": {"issuer": {"issuanceLifetime": "8h"}}}
    recording = run_program({**config, "meshtrust:linkerd.values": values, "meshtrust:issuer.renewBefore": "12h"})
    assert warnings_of(recording) == ""


def test_a_life_of_leaves_that_the_stack_encrypts_is_not_shown(config):
    values = {"identity": {"issuer": {"issuanceLifetime": "36h"}}}
    said = warnings_of(run_program({**config, "meshtrust:linkerd.values": values}, secret_keys=["meshtrust:linkerd"]))
    assert "below the life of a proxy's certificate, issuanceLifetime and clockSkewAllowance together" in said
    assert "36h" not in said
    assert "37h" not in said


def test_what_is_at_most_is_accepted_and_so_is_empty_where_that_means_something(config):
    most = {"meshtrust:anchor.validityDays": 36500, "meshtrust:helm.timeoutSeconds": 86400}
    means_something = dict.fromkeys(
        ("meshtrust:linkName", "meshtrust:anchorStack", "meshtrust:webhooks.vizNamespace"), ""
    )
    recording = run_program({**config, **most, **means_something, "meshtrust:observability.namespace": ""})
    assert recording.named("trust-anchor-2026-root").inputs["validityPeriodHours"] == 876000


def test_a_namespace_that_is_no_text_is_told_once(config):
    assert refused(config, **{"linkerd.namespace": []}).count("\n  - ") == 1


def test_an_update_refuses_to_run_without_a_cluster(config):
    with pytest.raises(pulumi.RunError, match="MESHTRUST_OFFLINE=1 is for previews"):
        run_program(config, preview=False)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"mode": "ask"}, 'meshtrust:gate.mode is "ask". Use one of enforce, warn'),
        ({"overrides": {"introduce-2027": "why"}}, 'has "introduce-2027", which names no step'),
        ({"overrides": {"switch-2027": " "}}, "has switch-2027 without a reason"),
        (
            {"acknowledged": {"switch-2027": {"ExternalWorkload shop/vm-1": ""}}},
            'has "ExternalWorkload shop/vm-1" without a reason',
        ),
        ({"acknowledged": {"ExternalWorkload shop/vm-1": "x"}}, 'has "ExternalWorkload shop/vm-1", which is no step'),
        ({"overrides": "switch-2027"}, "is 'switch-2027', not a map"),
        (
            {"fleetGateways": ["Deployment linkerd-multicluster/linkerd-gateway"]},
            "and this is no stack of a cluster in a fleet (meshtrust:anchorStack). Remove it",
        ),
        (
            {"fleetGateways": ["linkerd-gateway"]},
            "holds 'linkerd-gateway', which is no name of a gateway. Use the name that the refusal has, such as "
            "Deployment linkerd-multicluster/linkerd-gateway",
        ),
        ({"fleetGateways": ["Deployment a/b", "Deployment a/b"]}, "which names one twice"),
        ({"fleetGateways": "Deployment a/b"}, "is 'Deployment a/b', not a list"),
    ],
)
def test_a_gate_that_cannot_be_understood_is_refused(config, gate, message):
    assert message in refused(config, gate=gate)


def test_one_root_under_two_names_is_refused(config):
    root = make_certificate().pem
    message = refused(config, anchors=["2026", "a", "b"], signer="2026", anchorCertificates={"a": root, "b": root})
    assert 'has "b", whose root has another name too' in message


@pytest.mark.parametrize(
    ("key", "value"), [("trustDomain", "Not A Domain"), ("gate.mode", "hunter2"), ("signer", "A b")]
)
def test_a_value_that_is_encrypted_is_not_shown_by_its_refusal(config, key, value):
    section = f"meshtrust:{key.partition('.')[0]}"
    with pytest.raises(pulumi.RunError) as caught:
        run_program({**config, f"meshtrust:{key}": value}, secret_keys=[section])
    assert f"meshtrust:{key} is [secret]" in str(caught.value)
    assert value not in str(caught.value)


SECRET = "hunter2 HUNTER2"
# Every key refuses some of these.
SHAPES = [SECRET, [SECRET], {SECRET: SECRET}, {"2026": SECRET}, {"2026": {SECRET: SECRET}}, {"switch-2027": [SECRET]}]


@pytest.mark.parametrize("role", ["cluster", "anchor"])
@pytest.mark.parametrize("key", FIELDS)
def test_no_value_that_is_encrypted_is_shown_by_a_message_about_it(config, key, role, caplog):
    messages = []
    for value in SHAPES:
        changed = {**config, "meshtrust:role": role, f"meshtrust:{key}": value}
        pulumi.runtime.set_all_config(engine_config(changed), [f"meshtrust:{key.partition('.')[0]}"])
        try:
            load_settings(StackOutputs({}))
        except pulumi.RunError as refusal:
            messages.append(str(refusal))
    # Of a cluster, these may be any text.
    takes_all = role == "cluster" and key in ("context", "clusterUid")
    assert takes_all or any(f"meshtrust:{key}" in message for message in messages)
    assert "hunter2" not in ("".join(messages) + caplog.text).lower()


PROJECT = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())["config"]
TYPES = {str: "string", int: "integer", bool: "boolean", timedelta: "string", dict: "object", tuple: "array"}


def test_the_project_file_and_the_models_have_the_same_keys():
    assert list(PROJECT.keys() ^ FIELDS.keys()) == []


@pytest.mark.parametrize("key", FIELDS)
def test_the_project_file_has_the_type_and_the_choices_of_the_model(key):
    declared: Any = PROJECT[key]
    annotation: Any = FIELDS[key].annotation
    if get_origin(annotation) is Literal:
        assert declared["type"] == "string"
        for choice in filter(None, get_args(annotation)):
            assert f'"{choice}"' in declared["description"], "the description names each choice"
        return
    assert declared["type"] == TYPES[get_origin(annotation) or annotation]
    if declared["type"] == "array":
        assert declared["items"] == {"type": "string"}
    # A limit that the description names is that of the model.
    for limit in (getattr(entry, "le", None) for entry in FIELDS[key].metadata):
        assert limit is None or str(limit) in declared["description"]


def test_each_default_of_the_project_file_is_one_that_the_models_take(config):
    pulumi.runtime.set_all_config(engine_config(config))
    settings = load_settings(StackOutputs({}))
    assert isinstance(settings, Settings)
    assert {key for key in FIELDS if "default" not in PROJECT[key]} == {"anchors"}, "which a stack has to name"


def test_no_model_has_a_default_beside_that_of_the_project_file():
    assert [key for key, field in FIELDS.items() if not field.is_required()] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster": {"fromStack": "infra"}}, "meshtrust:context is 'kind-test', and the kubeconfig is an output"),
        (
            {"cluster": {"fromStack": "infra"}, "context": "", "kubeconfig": "/home/kubeconfig"},
            "meshtrust:kubeconfig is '/home/kubeconfig', and the kubeconfig is an output of another stack",
        ),
        ({"cluster": {"output": "admin"}}, 'meshtrust:cluster.output is "admin", and no stack is named whose output'),
        (
            {"cluster": {"fromStack": "a/b/c/d"}},
            'meshtrust:cluster.fromStack is "a/b/c/d". Use the name of a stack, or',
        ),
        (
            {"context": "in-cluster", "kubeconfig": "/home/kubeconfig"},
            "meshtrust:kubeconfig is '/home/kubeconfig', and meshtrust:context is \"in-cluster\"",
        ),
        (
            {"role": "anchor", "context": "", "cluster": {"fromStack": "infra"}},
            "meshtrust:cluster.fromStack is 'infra', and an anchor stack touches no cluster. Remove it: pulumi config "
            "rm --path cluster.fromStack",
        ),
    ],
)
def test_a_cluster_is_named_in_one_way(config, changes, message):
    assert message in refused(config, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linkerd.namespace": "kube-system"}, 'linkerd.namespace is "kube-system", which is Kubernetes\' own'),
        ({"certManager.namespace": "linkerd"}, 'certManager.namespace is "linkerd", as meshtrust:linkerd.namespace is'),
        (
            {"trustBundle.mode": "trust-manager", "trustBundle.namespace": "cert-manager"},
            'trustBundle.namespace is "cert-manager", as meshtrust:certManager.namespace is, and the program makes it',
        ),
    ],
)
def test_two_parts_share_no_namespace_since_one_may_be_removed_without_the_other(config, changes, message):
    assert message in refused(config, **changes)


@pytest.mark.parametrize("part", ["certManager", "trustBundle"])
def test_a_part_that_is_there_may_be_in_any_namespace(config, part):
    there = {"certManager": {"install": False, "namespace": "kube-system"}, "trustBundle": {"namespace": "linkerd"}}
    run_program({**config, f"meshtrust:{part}": there[part]})


ENTERPRISE = {"linkerd.distribution": "enterprise"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ENTERPRISE,
            'meshtrust:linkerd.license is not set, and meshtrust:linkerd.distribution is "enterprise", whose charts '
            "need one. Encrypt it: pulumi config set --path --secret linkerd.license < <file>. Or name a Secret",
        ),
        ({**ENTERPRISE, "linkerd.license": " "}, "meshtrust:linkerd.license is not set"),
        (
            {"linkerd.licenseSecret": "buoyant-license"},
            'meshtrust:linkerd.licenseSecret is set, and only meshtrust:linkerd.distribution "enterprise" takes',
        ),
        ({**ENTERPRISE, "linkerd.licenseSecret": "Buoyant_License"}, 'licenseSecret is "Buoyant_License", not a DNS'),
        ({"linkerd.distribution": "stable"}, 'distribution is "stable". Use one of opensource, enterprise'),
        ({"linkerd.values": {"license": "x"}}, "sets license, which is the program's own. Remove it; set meshtrust"),
        (
            {**ENTERPRISE, "linkerd.licenseSecret": "l", "linkerd.charts": "/nowhere"},
            "where there is no linkerd-enterprise-control-plane/Chart.yaml",
        ),
        ({"linkerd.charts": "/nowhere", "linkerd.crdsChart": "acme-crds"}, "where there is no acme-crds/Chart.yaml"),
        (
            {"linkerd.crdsRelease": "linkerd-control-plane"},
            'linkerd.controlPlaneRelease names "linkerd-control-plane", which is what meshtrust:linkerd.crdsRel',
        ),
        (
            {"linkerd.crdsChart": "acme", "linkerd.controlPlaneChart": "acme"},
            'linkerd.controlPlaneChart names "acme", which is what meshtrust:linkerd.crdsChart names too. Name another',
        ),
    ],
)
def test_a_distribution_that_lacks_something_is_refused(config, changes, message):
    assert message in refused(config, **changes)


def test_a_license_in_plaintext_is_refused_and_not_repeated(config):
    message = refused(config, **ENTERPRISE, **{"linkerd.license": "hush"})
    assert "meshtrust:linkerd.license stands in plaintext in the stack's file. Remove it there" in message
    assert "hush" not in message


@pytest.mark.parametrize("key", ["anchorKeys", "linkerd.license"])
@pytest.mark.parametrize("value", ["hush", ["hush"], {"secure": ["hush"]}, [5]])
def test_a_secret_in_a_form_that_is_not_its_own_is_not_repeated(config, key, value):
    message = refused(config, **ENTERPRISE, **{key: value})
    assert f"meshtrust:{key} " in message
    assert "hush" not in message
    assert "[5]" not in message


def test_two_licenses_are_refused(config):
    given = {**config, "meshtrust:linkerd": {"distribution": "enterprise", "license": "hush", "licenseSecret": "l"}}
    with pytest.raises(pulumi.RunError, match=r"licenseSecret is set, and meshtrust:linkerd\.license is set") as caught:
        run_program(given, secret_keys=["meshtrust:linkerd"])
    assert "hush" not in str(caught.value)
