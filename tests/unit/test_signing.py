"""Certificates that the program signs itself: Linkerd accepts them, and cert-manager has nothing to object to."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from components.identity_issuer.arguments import IssuerPolicy, IssuerReference
from components.identity_issuer.certificate import certificate_spec
from components.webhook_certificates import certificate_spec as webhook_spec
from meshtrust.linkerd.issuer.secret import judge_issuer_secret
from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE
from meshtrust.pki.chain import verify_chain
from meshtrust.pki.pem import read_bundle
from meshtrust.pki.private_key import read_private_key
from meshtrust.pki.signing import sign_certificate
from tests.certificates import make_certificate
from tests.unit.test_issuer_secret import written

NOW = datetime.now(UTC).replace(microsecond=0)
POLICY = IssuerPolicy(
    mode="anchor",
    trust_domain="cluster.local",
    duration=timedelta(hours=48),
    renew_before=timedelta(hours=25),
    reference=None,
    serial="1",
    validity=timedelta(days=365),
)
SPEC = certificate_spec(POLICY, IssuerReference(name="linkerd-trust-anchor", kind="Issuer", group="cert-manager.io"))


def judged(content, root):
    secret = written(make_certificate("unused"), root=root, **content)
    return [str(found) for found in judge_issuer_secret(secret, {"2026": root.certificate}, "2026", NOW)]


def test_an_issuer_is_one_that_linkerd_accepts_under_a_root_and_under_an_intermediate():
    root = make_certificate("root")
    assert judged(sign_certificate(SPEC, root.pem, root.key_pem, NOW), root) == []
    intermediate = make_certificate("intermediate", issuer=root)
    content = sign_certificate(SPEC, intermediate.pem + root.pem, intermediate.key_pem, NOW)
    assert judged(content, root) == []
    assert len(read_bundle(content["tls.crt"])) == 2, "the intermediate goes with it, and the root does not"
    assert read_bundle(content["ca.crt"]) == [root.certificate]


def test_an_rsa_root_signs_too():
    root = make_certificate("root", key=rsa.generate_private_key(65537, 2048))
    assert judged(sign_certificate(SPEC, root.pem, root.key_pem, NOW), root) == []


@pytest.mark.parametrize("identifier", [b"", b"chosen by its owner"], ids=["none", "of its own"])
def test_a_certificate_names_the_key_of_its_ca_as_the_ca_does_so_that_openssl_finds_it(identifier, tmp_path):
    root = make_certificate("root", key_identifier=identifier)
    content = sign_certificate(SPEC, root.pem, root.key_pem, NOW)
    (tmp_path / "root.pem").write_text(root.pem)
    (tmp_path / "issuer.pem").write_text(content["tls.crt"])
    command = ["openssl", "verify", "-CAfile", str(tmp_path / "root.pem"), str(tmp_path / "issuer.pem")]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_certificate_is_as_long_lived_as_its_spec_says_and_ends_with_its_ca_at_the_latest():
    root = make_certificate("root")
    [made] = read_bundle(sign_certificate(SPEC, root.pem, root.key_pem, NOW)["tls.crt"])
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(hours=48)
    short = make_certificate("root", not_after=NOW + timedelta(hours=2))
    [made] = read_bundle(sign_certificate(SPEC, short.pem, short.key_pem, NOW)["tls.crt"])
    assert made.not_valid_after_utc == short.certificate.not_valid_after_utc


@pytest.mark.parametrize("webhook", CONTROL_PLANE, ids=lambda webhook: webhook.service)
def test_a_webhook_gets_a_certificate_for_its_name_and_a_key_in_its_encoding(webhook):
    root = make_certificate("root")
    content = sign_certificate(webhook_spec(webhook, "linkerd-webhook-ca-1", "mesh"), root.pem, root.key_pem, NOW)
    [made] = read_bundle(content["tls.crt"])
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{webhook.service}.mesh.svc"]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    form = "EC PRIVATE KEY" if webhook.encoding == "PKCS1" else "PRIVATE KEY"
    assert content["tls.key"].startswith(f"-----BEGIN {form}-----")
    assert read_private_key(content["tls.key"]).public_key() == made.public_key()
    assert verify_chain([made], [root.certificate], NOW)


def test_each_certificate_has_a_key_of_its_own():
    root = make_certificate("root")
    keys = {sign_certificate(SPEC, root.pem, root.key_pem, NOW)["tls.key"] for _ in range(2)}
    assert len(keys) == 2
