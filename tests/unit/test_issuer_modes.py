"""Modes of the identity issuer: the resources that each declares, and the key that signs."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from meshtrust.pki.chain import verify_chain
from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, IllegalMoveError, check_move
from meshtrust.pki.pem import read_bundle
from tests.certificates import make_certificate
from tests.recorder import Secret, run_program, unwrapped

ISSUER = "kubernetes:cert-manager.io/v1:Issuer"
CERTIFICATE = "kubernetes:cert-manager.io/v1:Certificate"
SECRET = "kubernetes:core/v1:Secret"
RELEASE = "kubernetes:helm.sh/v3:Release"
LOCALLY_SIGNED = "tls:index/locallySignedCert:LocallySignedCert"


def releases(recording):
    return {entry.inputs["name"] for entry in recording.of_type(RELEASE)}


def content(secret):
    return {key: base64.b64decode(value).decode() for key, value in unwrapped(secret.inputs["data"]).items()}


@pytest.fixture
def brought(config):
    """A stack whose anchor was made elsewhere."""
    root = make_certificate("external root")
    return {**config, "meshtrust:anchorCertificates": {"2026": root.pem}}


@pytest.fixture
def vault(brought):
    issuer = {"mode": "external-issuer", "refs": {"2026": {"name": "vault", "kind": "ClusterIssuer"}}}
    return {**brought, "meshtrust:issuer": issuer}


def test_external_issuer_declares_the_guides_certificate_with_the_given_reference(vault):
    recording = run_program(vault)
    certificate = recording.named("identity-issuer-certificate")
    assert certificate.inputs["spec"]["issuerRef"] == {
        "name": "vault",
        "kind": "ClusterIssuer",
        "group": "cert-manager.io",
    }
    assert certificate.inputs["spec"]["duration"] == "48h"
    assert "pulumi.com/waitFor" not in certificate.inputs["metadata"]["annotations"], "the run waits, and says why"
    kinds = (SECRET, ISSUER, LOCALLY_SIGNED)
    assert not [
        entry.name for kind in kinds for entry in recording.of_type(kind) if entry.name.startswith("identity-issuer")
    ]


def test_linkerd_waits_for_the_certificate_of_an_external_issuer(vault):
    recording = run_program(vault)
    assert "identity-issuer-certificate" in recording.depends(recording.named("linkerd-control-plane"))


def test_a_switch_to_another_generation_refers_to_its_issuer(vault):
    refs = {
        "2026": {"name": "vault"},
        "2027": {"name": "pca", "kind": "AWSPCAIssuer", "group": "awspca.cert-manager.io"},
    }
    config = {
        **vault,
        "meshtrust:anchors": ["2026", "2027"],
        "meshtrust:signer": "2027",
        "meshtrust:anchorCertificates": {"2027": make_certificate("root of the next").pem},
        "meshtrust:issuer": {"mode": "external-issuer", "refs": refs},
    }
    certificate = run_program(config).named("identity-issuer-certificate")
    assert certificate.inputs["spec"]["issuerRef"] == refs["2027"]


def test_external_secret_makes_nothing_and_needs_no_cert_manager(brought):
    recording = run_program({**brought, "meshtrust:issuer.mode": "external-secret"})
    assert releases(recording) == {"linkerd-crds", "linkerd-control-plane"}
    assert not recording.of_type(CERTIFICATE)
    assert not recording.of_type(SECRET)
    assert "certManager.charts" not in recording.outputs["charts"]


def test_pulumi_signs_the_issuer_into_its_secret_without_cert_manager(config):
    recording = run_program({**config, "meshtrust:issuer.mode": "pulumi"})
    assert releases(recording) == {"linkerd-crds", "linkerd-control-plane"}
    [secret] = recording.of_type(SECRET)
    assert secret.inputs["metadata"]["name"] == "linkerd-identity-issuer"
    assert secret.inputs["metadata"]["namespace"] == "linkerd"
    assert secret.inputs["type"] == "kubernetes.io/tls"
    assert isinstance(secret.inputs["data"], Secret)
    data = content(secret)
    [issuer], [root] = read_bundle(data["tls.crt"]), read_bundle(data["ca.crt"])
    assert root == read_bundle(recording.outputs["trustAnchors"])[0]
    assert verify_chain([issuer], [root], datetime.now(UTC))
    assert secret.retain_on_delete, "a mesh has an issuer at every moment, also when the mode changes"
    assert secret.name in recording.depends(recording.named("linkerd-control-plane"))


def test_another_serial_makes_another_issuer_and_nothing_else_does(config):
    def signed(**issuer):
        recording = run_program({**config, "meshtrust:issuer": {"mode": "pulumi", **issuer}})
        [entry] = recording.of_type(LOCALLY_SIGNED)
        return entry

    first, longer, second = signed(), signed(validityDays=3), signed(serial=2)
    assert first.name == longer.name == "identity-issuer-2026-1-certificate"
    assert second.name == "identity-issuer-2026-2-certificate"
    assert first.ignore_changes == ("validityPeriodHours",)
    assert longer.inputs["validityPeriodHours"] == 72
    assert first.inputs["validityPeriodHours"] == 9 * 24 - 1, "a day less than its root, which is of ten days here"


@pytest.mark.parametrize("mode", ["anchor", "intermediate", "pulumi"])
@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_a_root_with_its_key_from_elsewhere_signs(config, mode, kind):
    root = make_certificate("root", key=rsa.generate_private_key(65537, 2048) if kind == "RSA" else None)
    recording = run_program(
        {
            **config,
            "meshtrust:issuer.mode": mode,
            "meshtrust:anchorCertificates": {"2026": root.pem},
            "meshtrust:anchorKeys": {"2026": root.key_pem},
        },
        secret_keys=["meshtrust:anchorKeys"],
    )
    secret = recording.named("identity-issuer-secret" if mode == "pulumi" else "identity-issuer-2026-ca")
    data = content(secret)
    assert verify_chain(read_bundle(data["tls.crt"]), [root.certificate], datetime.now(UTC))[-1] == root.certificate
    assert (data["tls.key"] == root.key_pem) == (mode == "anchor"), "only the guide's mode puts it on the cluster"
    for signed in recording.of_type(LOCALLY_SIGNED):
        assert signed.inputs["caPrivateKeyPem"] == Secret(root.key_pem)
    assert "trust-anchor-2026-key" not in [entry.name for entry in recording.resources]


def test_an_installed_cert_manager_is_used(config):
    recording = run_program({**config, "meshtrust:certManager.install": False})
    assert releases(recording) == {"linkerd-crds", "linkerd-control-plane"}
    assert recording.of_type(CERTIFICATE)


@pytest.mark.parametrize("last", sorted(CERT_MANAGER_MODES))
def test_pulumi_and_cert_manager_never_write_the_same_secret_in_one_run(last):
    with pytest.raises(IllegalMoveError, match='First deploy mode "external-secret"'):
        check_move(last, "pulumi", switches=False)
    with pytest.raises(IllegalMoveError, match='First deploy mode "external-secret" with the present signer'):
        check_move(last, "external-secret", switches=True)
    check_move(last, "external-secret", switches=False)
    check_move("external-secret", "pulumi", switches=True)
    check_move("pulumi", last, switches=True)


def test_the_issuer_of_a_deployment_is_in_its_outputs(vault):
    assert run_program(vault).outputs["issuer"] == {
        "mode": "external-issuer",
        "reference": {"name": "vault", "kind": "ClusterIssuer", "group": "cert-manager.io"},
    }
