"""The identity issuer's Secret as anyone may have written it: each thing that keeps a mesh from signing is named."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import pulumi
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtrust.cluster.api import ClusterError
from meshtrust.linkerd.issuer.secret import check_writable, judge_issuer_life, judge_issuer_secret
from meshtrust.stacks.outputs import StackOutputs
from program.checks import issuance
from program.configuration.settings import Settings, load_settings
from rehearsal.mocks import engine_config
from tests.certificates import make_certificate
from tests.fake_cluster import FakeCluster

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def root():
    return make_certificate("root")


def written(issuer, *, root, type_="kubernetes.io/tls", **data):
    texts = {"tls.crt": issuer.pem, "tls.key": issuer.key_pem, "ca.crt": root.pem, **data}
    return {
        "metadata": {"name": "linkerd-identity-issuer", "namespace": "linkerd"},
        "type": type_,
        "data": {
            key: base64.b64encode(text.encode()).decode() if isinstance(text, str) else text.decode()
            for key, text in texts.items()
            if text is not None
        },
    }


def judge(secret, root):
    found = list(judge_issuer_secret(secret, {"2026": root.certificate}, "2026", NOW))
    assert all(str(entry).startswith("Secret linkerd/linkerd-identity-issuer ") for entry in found)
    return [str(entry) for entry in found]


def test_what_linkerd_can_sign_with_is_not_criticised(root):
    assert judge(written(make_certificate("issuer", issuer=root), root=root), root) == []


def test_an_intermediate_between_issuer_and_root_is_followed(root):
    intermediate = make_certificate("intermediate", issuer=root)
    issuer = make_certificate("issuer", issuer=intermediate)
    assert judge(written(issuer, root=root, **{"tls.crt": issuer.pem + intermediate.pem}), root) == []
    [wrong] = judge(written(issuer, root=root), root)
    assert "holds a certificate that is not trusted" in wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type_": "Opaque"}, 'is of type "Opaque", which cert-manager could never take over'),
        ({"tls.crt": None}, "has no tls.crt; it holds ca.crt, tls.key"),
        ({"tls.key": None}, "has no tls.key; it holds ca.crt, tls.crt"),
        ({"ca.crt": None}, "has no ca.crt; it holds tls.crt, tls.key"),
        ({"ca.crt": "text"}, "holds no certificate in ca.crt"),
        ({"tls.crt": b"/w=="}, "holds no certificate"),
        ({"tls.key": "text"}, "has a key that holds no PEM"),
        ({"tls.key": make_certificate().key_pem}, "has a key that does not match its first certificate"),
        (
            {"ca.crt": make_certificate("another").pem},
            "ca.crt holds CN=another, which is not one of the 1 trusted roots",
        ),
    ],
)
def test_what_is_wrong_with_the_secret_is_named(root, change, message):
    wrong = judge(written(make_certificate("issuer", issuer=root), root=root, **change), root)
    assert any(message in entry for entry in wrong), wrong


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"ca": False, "key_cert_sign": False}, "CN=issuer, which is not marked as a CA"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "and Linkerd takes only ECDSA P-256"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "and Linkerd takes only ECDSA P-256"),
    ],
)
def test_what_is_wrong_with_the_certificate_is_named(root, kind, message):
    wrong = judge(written(make_certificate("issuer", issuer=root, **kind), root=root), root)
    assert any(message in entry for entry in wrong), wrong


def test_an_issuer_under_a_root_that_is_not_trusted_is_refused(root):
    another = make_certificate("another")
    wrong = judge(written(make_certificate("issuer", issuer=another), root=another), root)
    assert any("holds a certificate that is not trusted" in entry for entry in wrong)


def test_an_issuer_under_a_trusted_root_that_is_not_the_signer_is_told_apart(root):
    another = make_certificate("another")
    secret = written(make_certificate("issuer", issuer=another), root=another)
    roots = {"2026": root.certificate, "2027": another.certificate}
    [wrong] = judge_issuer_secret(secret, roots, "2026", NOW)
    assert 'is signed under generation "2027", and meshtrust:signer is "2026"' in str(wrong)
    assert 'or set meshtrust:signer to "2027"' in str(wrong)
    assert not list(judge_issuer_secret(secret, roots, "2027", NOW))


def test_an_issuer_that_has_ended_is_refused(root):
    secret = written(make_certificate("issuer", issuer=root, days=1), root=root)
    [wrong] = judge_issuer_secret(secret, {"2026": root.certificate}, "2026", NOW + timedelta(days=2))
    assert "holds CN=issuer, which expired on" in str(wrong)


def test_a_short_life_is_a_warning(root):
    secret = written(make_certificate("issuer", issuer=root, days=5), root=root)
    [warning] = judge_issuer_life(secret, timedelta(days=6), NOW, "Renew it")
    assert warning.severity == "warning"
    assert not list(judge_issuer_life(secret, timedelta(days=4), NOW, "Renew it"))


def test_the_roots_key_beside_it_is_told(root):
    issuer = make_certificate("issuer", issuer=root)
    [wrong] = judge(written(issuer, root=root, **{"ca.crt": root.pem + root.key_pem}), root)
    assert "holds a private key in ca.crt. Remove it there, and if it is the root's rotate to another root" in wrong
    assert root.key_pem.splitlines()[1] not in wrong


def test_no_key_is_ever_repeated(root):
    secret = written(make_certificate("issuer", issuer=root), root=root, **{"ca.crt": root.key_pem})
    assert not any(root.key_pem.splitlines()[1] in entry for entry in judge(secret, root))


def test_a_secret_that_cert_manager_cannot_write_is_refused_before_it_tries(root):
    secret = written(root, root=root, type_="Opaque")
    with pytest.raises(ClusterError, match=r'linkerd/linkerd-identity-issuer is of type "Opaque"'):
        check_writable(secret)


def test_a_secret_that_is_immutable_is_refused_with_the_command_that_deletes_it(root):
    secret = {**written(root, root=root), "immutable": True}
    with pytest.raises(ClusterError, match=r"is immutable, .*delete secret linkerd-identity-issuer -n linkerd"):
        check_writable(secret)


@pytest.mark.parametrize("mode", ["intermediate", "anchor", "pulumi", "external-secret"])
def test_each_mode_that_writes_the_secret_looks_whether_it_can(config, root, mode):
    cluster = FakeCluster()
    issuer = make_certificate("issuer", issuer=root)
    found = {**written(issuer, root=root), "immutable": True}
    cluster.objects["api/v1/namespaces/linkerd/secrets/linkerd-identity-issuer"] = found
    given = {**config, "meshtrust:issuer": {"mode": mode}, "meshtrust:anchorCertificates": {"2026": root.pem}}
    if mode != "external-secret":
        given["meshtrust:anchorKeys"] = {"2026": root.key_pem}
    pulumi.runtime.set_all_config(engine_config(given), ["meshtrust:anchorKeys"])
    settings = load_settings(StackOutputs({}))
    assert isinstance(settings, Settings)
    check = issuance.check(cluster, settings, StackOutputs({}))
    if mode == "external-secret":
        assert asyncio.run(check) is False, "its writer may delete it"
        return
    with pytest.raises(ClusterError, match="is immutable"):
        asyncio.run(check)


def test_a_secret_that_cert_manager_wrote_or_will_make_may_be_written(root):
    check_writable(written(root, root=root))
    check_writable(None)
