"""What the tls and random providers make, checked by others: openssl, and cryptography's parser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.engine.workbench import Workbench

CHAIN = """
root_key = tls.PrivateKey("root-key", algorithm="ECDSA", ecdsa_curve="P256")
root = tls.SelfSignedCert("root", private_key_pem=root_key.private_key_pem, is_ca_certificate=True,
    allowed_uses=["cert_signing", "crl_signing"], validity_period_hours=240,
    subject=tls.SelfSignedCertSubjectArgs(common_name="root.linkerd.cluster.local", organization="mesh"))
key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
request = tls.CertRequest("request", private_key_pem=key.private_key_pem_pkcs8,
    subject=tls.CertRequestSubjectArgs(common_name="identity.linkerd.cluster.local"),
    dns_names=["identity.linkerd.cluster.local"], ip_addresses=["127.0.0.1"])
issuer = tls.LocallySignedCert("issuer", cert_request_pem=request.cert_request_pem,
    ca_private_key_pem=root_key.private_key_pem, ca_cert_pem=root.cert_pem, is_ca_certificate=True,
    max_path_length=int(os.environ.get("PATH_LENGTH", "1")), allowed_uses=["cert_signing", "server_auth"],
    validity_period_hours=48)
for name, value in {"root": root.cert_pem, "issuer": issuer.cert_pem, "key": key.private_key_pem,
        "pkcs8": key.private_key_pem_pkcs8, "openssh": key.public_key_openssh,
        "print": key.public_key_fingerprint_sha256, "ends": issuer.validity_end_time,
        "ready": issuer.ready_for_renewal}.items():
    pulumi.export(name, value)
"""


@pytest.fixture
def chain(bench: Workbench) -> dict:
    bench.program(CHAIN)
    bench.up()
    return bench.outputs()


def test_openssl_verifies_the_chain(chain: dict, tmp_path: Path) -> None:
    assert shutil.which("openssl"), "openssl is needed for this test"
    (tmp_path / "root.pem").write_text(chain["root"])
    (tmp_path / "issuer.pem").write_text(chain["issuer"])
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "root.pem", tmp_path / "issuer.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr


def test_the_certificates_carry_what_was_asked_for(chain: dict) -> None:
    root = x509.load_pem_x509_certificate(chain["root"].encode())
    issuer = x509.load_pem_x509_certificate(chain["issuer"].encode())
    key = serialization.load_pem_private_key(chain["key"].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert issuer.public_key() == key.public_key()
    assert issuer.issuer == root.subject
    assert issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "identity.linkerd.cluster.local"
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 1)
    usage = issuer.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.crl_sign
    extended = issuer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = issuer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["identity.linkerd.cluster.local"]
    subject_key = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = issuer.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == subject_key.digest
    assert subject_key == x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    assert (issuer.not_valid_after_utc - issuer.not_valid_before_utc).total_seconds() == 48 * 3600


def test_the_ids_are_those_of_the_real_provider(chain: dict, bench: Workbench) -> None:
    resources = bench.resources()
    issuer = x509.load_pem_x509_certificate(chain["issuer"].encode())
    assert resources["issuer"]["id"] == str(issuer.serial_number)
    assert len(resources["key"]["id"]) == 40
    assert chain["openssh"].startswith("ecdsa-sha2-nistp256 ")
    assert chain["print"].startswith("SHA256:")
    assert chain["pkcs8"].startswith("-----BEGIN PRIVATE KEY-----")
    assert chain["ready"] is False


def test_a_path_length_of_zero_is_lost_as_with_the_real_provider(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up(PATH_LENGTH="0")
    issuer = x509.load_pem_x509_certificate(bench.outputs()["issuer"].encode())
    assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length is None


def test_a_spelled_out_default_is_no_change_and_a_certificate_due_for_renewal_is_replaced(bench: Workbench) -> None:
    program = """
    key = tls.PrivateKey("key", algorithm="ECDSA"{curve})
    tls.SelfSignedCert("cert", private_key_pem=key.private_key_pem, allowed_uses=["digital_signature"],
        validity_period_hours=10, early_renewal_hours={early})
    """
    bench.program(program.format(curve="", early=0))
    bench.up()
    bench.program(program.format(curve=', ecdsa_curve="P224"', early=0))
    assert bench.plan() == []
    bench.program(program.format(curve="", early=11))
    assert bench.plan() == [("update", "cert")]
    bench.up()
    assert bench.plan() == [("replace", "cert")]


def test_a_ca_without_a_name_or_with_a_foreign_key_is_refused(bench: Workbench) -> None:
    bench.program(
        """
        key = tls.PrivateKey("key", algorithm="ED25519")
        tls.SelfSignedCert("cert", private_key_pem=key.private_key_pem, allowed_uses=[], validity_period_hours=1,
            is_ca_certificate=True)
        """
    )
    result = bench.run("up", "--yes", "--skip-preview")
    assert result.code == 1
    assert "Must contain at least one Distinguished Name" in result.out


def test_random_values_have_the_wanted_shape_and_stay(bench: Workbench) -> None:
    bench.program(
        """
        identity = random.RandomId("id", byte_length=4, prefix="mesh-")
        text = random.RandomString("text", length=8, special=False, upper=False, min_numeric=3)
        password = random.RandomPassword("password", length=12, override_special="!")
        unique = random.RandomUuid("uuid")
        pulumi.export("hex", identity.hex)
        pulumi.export("dec", identity.dec)
        pulumi.export("text", text.result)
        pulumi.export("password", password.result)
        pulumi.export("uuid", unique.result)
        """
    )
    bench.up()
    found = bench.outputs()
    assert found["hex"].startswith("mesh-")
    assert int(found["dec"].removeprefix("mesh-")) == int(found["hex"].removeprefix("mesh-"), 16)
    assert len(found["text"]) == 8
    assert found["text"].isalnum()
    assert found["text"] == found["text"].lower()
    assert sum(letter.isdigit() for letter in found["text"]) >= 3
    assert len(found["password"]) == 12
    assert "password" not in bench.ok("stack", "output").out.split("[secret]")[1]
    assert bench.resources()["password"]["id"] == "none"
    bench.ok("up", "--yes", "--expect-no-changes")
    assert bench.outputs() == found
