"""Certificates of the tls plugin, checked by openssl, by cryptography's parser and by the real plugin's answers."""

import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rehearsal.providers.values import UNKNOWN
from tests.providers.workbench import CallError

KEY = "tls:index/privateKey:PrivateKey"
REQUEST = "tls:index/certRequest:CertRequest"
SELF_SIGNED = "tls:index/selfSignedCert:SelfSignedCert"
SIGNED = "tls:index/locallySignedCert:LocallySignedCert"


def make(plugin, type_, **inputs):
    """Check and create; return id, inputs and outputs."""
    checked = plugin.check(type_, inputs)
    assert isinstance(checked, dict), checked
    identity, outputs = plugin.create(type_, checked)
    assert identity
    return identity, checked, outputs


def reveal(value):
    return getattr(value, "value", value)


def make_key(plugin, algorithm="ECDSA", curve="P256"):
    return make(plugin, KEY, algorithm=algorithm, **({"ecdsaCurve": curve} if algorithm == "ECDSA" else {}))[2]


def make_root(plugin, key, **inputs):
    return make(
        plugin,
        SELF_SIGNED,
        **{
            "privateKeyPem": reveal(key["privateKeyPem"]),
            "isCaCertificate": True,
            "allowedUses": ["cert_signing", "crl_signing"],
            "validityPeriodHours": 240,
            "subject": {"commonName": "root.linkerd.cluster.local", "organization": "mesh"},
            **inputs,
        },
    )


def make_issuer(plugin, root_key, root, **inputs):
    key = make_key(plugin)
    request = make(
        plugin,
        REQUEST,
        privateKeyPem=reveal(key["privateKeyPemPkcs8"]),
        subject={"commonName": "identity.linkerd.cluster.local"},
        dnsNames=["identity.linkerd.cluster.local"],
        ipAddresses=["127.0.0.1"],
        uris=["spiffe://cluster.local/identity"],
    )[2]
    return make(
        plugin,
        SIGNED,
        **{
            "certRequestPem": request["certRequestPem"],
            "caPrivateKeyPem": reveal(root_key["privateKeyPem"]),
            "caCertPem": root["certPem"],
            "isCaCertificate": True,
            "maxPathLength": 1,
            "allowedUses": ["cert_signing", "server_auth"],
            "validityPeriodHours": 48,
            **inputs,
        },
    )


def load(outputs):
    return x509.load_pem_x509_certificate(outputs["certPem"].encode())


def test_openssl_verifies_a_chain(tls, tmp_path):
    assert shutil.which("openssl"), "openssl is needed for this test"
    root_key = make_key(tls)
    root = make_root(tls, root_key)[2]
    issuer = make_issuer(tls, root_key, root)[2]
    (tmp_path / "root.pem").write_text(root["certPem"])
    (tmp_path / "issuer.pem").write_text(issuer["certPem"])
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "root.pem", tmp_path / "issuer.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr


def test_certificates_carry_what_was_asked_for(tls):
    root_key = make_key(tls)
    root = load(make_root(tls, root_key)[2])
    identity, _, outputs = make_issuer(tls, root_key, make_root(tls, root_key)[2])
    issuer = load(outputs)
    assert identity == str(issuer.serial_number)
    assert issuer.issuer == root.subject
    assert issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "identity.linkerd.cluster.local"
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 1)
    usage = issuer.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign) == (True, False)
    extended = issuer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = issuer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["identity.linkerd.cluster.local"]
    subject_key = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = issuer.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == subject_key.digest
    assert subject_key == x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    assert (issuer.not_valid_after_utc - issuer.not_valid_before_utc).total_seconds() == 48 * 3600


def test_every_kind_of_key_is_made_and_signs(tls):
    for algorithm, curve in (
        ("RSA", ""),
        ("ED25519", ""),
        ("ECDSA", "P224"),
        ("ECDSA", "P256"),
        ("ECDSA", "P384"),
        ("ECDSA", "P521"),
    ):
        key = make_key(tls, algorithm, curve)
        make_root(tls, key, setAuthorityKeyId=True)


def test_names_of_every_kind_are_in_the_certificate(tls):
    make_root(
        tls,
        make_key(tls),
        isCaCertificate=False,
        setSubjectKeyId=True,
        allowedUses=["digital_signature", "key_encipherment", "any_extended", "client_auth", "timestamping"],
        subject={
            "commonName": "münchen",
            "organization": "mesh & sons",
            "organizationalUnit": "unit",
            "streetAddresses": ["first", "second"],
            "locality": "here",
            "province": "there",
            "country": "DE",
            "postalCode": "12345",
            "serialNumber": "7",
        },
        dnsNames=["one.example", "*.example"],
        ipAddresses=["10.0.0.1", "fe80::1"],
        uris=["spiffe://cluster.local/ns/a/sa/b"],
    )


def test_a_certificate_without_a_subject_has_critical_names(tls):
    inputs = {"isCaCertificate": False, "allowedUses": [], "dnsNames": ["one.example"]}
    make(
        tls,
        SELF_SIGNED,
        privateKeyPem=reveal(make_key(tls)["privateKeyPem"]),
        validityPeriodHours=1,
        **inputs,
    )


def test_a_path_length_of_zero_is_lost(tls):
    root_key = make_key(tls)
    issuer = make_issuer(tls, root_key, make_root(tls, root_key)[2], maxPathLength=0)[2]
    assert load(issuer).extensions.get_extension_for_class(x509.BasicConstraints).value.path_length is None


def test_a_path_length_is_for_authorities_only(tls):
    with pytest.raises(CallError, match="only CAs are allowed to specify MaxPathLen"):
        make_root(tls, make_key(tls), isCaCertificate=False, maxPathLength=1)


def test_what_cannot_be_made_is_refused_in_the_same_words(tls):
    key = make_key(tls)
    root = make_root(tls, key)[2]
    with pytest.raises(CallError, match="Must contain at least one Distinguished Name"):
        make(
            tls,
            SELF_SIGNED,
            privateKeyPem=reveal(key["privateKeyPem"]),
            allowedUses=[],
            validityPeriodHours=1,
            isCaCertificate=True,
        )
    with pytest.raises(CallError, match="doesn't match parent's PublicKey"):
        make_issuer(tls, make_key(tls), root)
    for wrong in ({"caCertPem": "none"}, {"certRequestPem": "none"}, {"caPrivateKeyPem": "none"}):
        with pytest.raises(CallError):
            make_issuer(tls, key, root, **wrong)
    with pytest.raises(CallError, match="Could not determine Authority Key Identifier"):
        make_root(tls, key, isCaCertificate=False, setAuthorityKeyId=True)
    with pytest.raises(CallError):
        make_root(tls, key, ipAddresses=["300.0.0.1"])


def test_unacceptable_inputs_are_told_with_their_place(tls):
    inputs: dict
    for inputs in (
        {},
        {"algorithm": "DSA"},
        {"algorithm": "ECDSA", "ecdsaCurve": "P1"},
        {"algorithm": "DSA", "ecdsaCurve": "P1"},
        {"algorithm": UNKNOWN},
        {"ecdsaCurve": "P1"},
    ):
        tls.check(KEY, inputs)
    given = {"privateKeyPem": "a key", "allowedUses": ["cert_signing"], "validityPeriodHours": 1}
    for inputs in (
        {},
        given,
        {**given, "allowedUses": ["cert_signing", "nonsense"]},
        {**given, "validityPeriodHours": -1},
        {**given, "earlyRenewalHours": -1},
        {**given, "maxPathLength": -2},
        {**given, "allowedUses": UNKNOWN},
        {**given, "allowedUses": [UNKNOWN]},
        {**given, "validityPeriodHours": UNKNOWN},
        {**given, "subject": {"commonName": UNKNOWN}},
    ):
        tls.check(SELF_SIGNED, inputs)
    tls.check(SIGNED, {"caCertPem": "a certificate"})
    tls.check(REQUEST, {})


def test_a_preview_says_what_is_known(tls):
    tls.create(KEY, {"algorithm": "ECDSA", "ecdsaCurve": "P256"}, preview=True)
    tls.create(KEY, {"algorithm": "RSA"}, preview=True)
    tls.create(REQUEST, {"privateKeyPem": UNKNOWN, "subject": {"commonName": "a"}}, preview=True)
    certificate = {"allowedUses": ["cert_signing"], "validityPeriodHours": 1}
    tls.create(SELF_SIGNED, {"privateKeyPem": UNKNOWN, **certificate}, preview=True)
    given = {"caCertPem": UNKNOWN, "caPrivateKeyPem": UNKNOWN, "certRequestPem": UNKNOWN, **certificate}
    tls.create(SIGNED, given, preview=True)
    tls.create(REQUEST, {"privateKeyPem": reveal(make_key(tls)["privateKeyPem"])}, preview=True)
    tls.create(SELF_SIGNED, {"privateKeyPem": UNKNOWN, **certificate, "validityPeriodHours": UNKNOWN}, preview=True)
    tls.create(SELF_SIGNED, {"privateKeyPem": UNKNOWN, **certificate, "earlyRenewalHours": UNKNOWN}, preview=True)
    tls.create(SIGNED, {**given, "maxPathLength": 1, "isCaCertificate": True, "earlyRenewalHours": 2}, preview=True)


def test_a_spelled_out_default_is_no_change(tls):
    _, inputs, outputs = make(tls, KEY, algorithm="ECDSA")
    assert tls.diff(KEY, outputs, inputs, {**inputs, "ecdsaCurve": "P224"})["changes"] == "DIFF_NONE"
    assert tls.diff(KEY, outputs, {**inputs, "rsaBits": 2048}, inputs)["changes"] == "DIFF_NONE"
    assert tls.diff(KEY, outputs, inputs, {**inputs, "ecdsaCurve": "P256"})["replaces"] == ["ecdsaCurve"]


def test_every_other_input_replaces_a_resource(tls):
    _, inputs, outputs = make(tls, KEY, algorithm="ECDSA", ecdsaCurve="P256")
    tls.diff(KEY, outputs, inputs, {"algorithm": "ECDSA"})
    tls.diff(KEY, outputs, inputs, {"algorithm": "RSA"})
    tls.diff(KEY, outputs, inputs, {"algorithm": UNKNOWN})
    _, inputs, request = make(tls, REQUEST, privateKeyPem=reveal(outputs["privateKeyPem"]), dnsNames=["a.example"])
    change: dict
    for change in ({"dnsNames": ["b.example"]}, {"privateKeyPem": UNKNOWN}, {"subject": {"commonName": "a"}}):
        tls.diff(REQUEST, request, inputs, {**inputs, **change})
    root_key = make_key(tls)
    _, inputs, root = make_root(tls, root_key)
    for change in (
        {"subject": {"commonName": "other"}},
        {"subject": {**inputs["subject"], "country": "DE"}},
        {"validityPeriodHours": 241},
        {"allowedUses": ["cert_signing"]},
        {"allowedUses": ["crl_signing", "cert_signing"]},
        {"allowedUses": ["cert_signing", "crl_signing", "server_auth"]},
        {"isCaCertificate": False},
        {"setSubjectKeyId": True},
        {"setSubjectKeyId": False},
        {"maxPathLength": 1},
        {"maxPathLength": 0},
        {"dnsNames": ["one.example"]},
        {"privateKeyPem": UNKNOWN},
        {"earlyRenewalHours": 1},
        {"earlyRenewalHours": 0},
        {"earlyRenewalHours": 240},
        {"earlyRenewalHours": 300},
        {"validityPeriodHours": 241, "earlyRenewalHours": 1},
    ):
        tls.diff(SELF_SIGNED, root, inputs, {**inputs, **change})
    tls.update(SELF_SIGNED, "id", root, inputs, {**inputs, "earlyRenewalHours": 300}, preview=True)
    _, inputs, issuer = make_issuer(tls, root_key, root)
    for change in ({"caCertPem": UNKNOWN}, {"caPrivateKeyPem": UNKNOWN}, {"certRequestPem": UNKNOWN}):
        tls.diff(SIGNED, issuer, inputs, {**inputs, **change})
    tls.diff(SIGNED, issuer, inputs, {**inputs, "maxPathLength": 2})
    tls.diff(SIGNED, issuer, inputs, {name: value for name, value in inputs.items() if name != "maxPathLength"})


def test_hours_of_early_renewal_change_in_place(tls):
    identity, inputs, root = make_root(tls, make_key(tls))
    new = {**inputs, "earlyRenewalHours": 1}
    assert tls.diff(SELF_SIGNED, root, inputs, new)["replaces"] == []
    tls.update(SELF_SIGNED, identity, root, inputs, new, preview=True)
    updated = tls.update(SELF_SIGNED, identity, root, inputs, new)
    assert updated["certPem"] == root["certPem"]
    assert updated["earlyRenewalHours"] == 1
    assert tls.diff(SELF_SIGNED, updated, new, new)["changes"] == "DIFF_NONE"
    tls.diff(SELF_SIGNED, updated, new, inputs)
    reverted = tls.update(SELF_SIGNED, identity, updated, new, inputs)
    assert tls.diff(SELF_SIGNED, reverted, inputs, inputs)["changes"] == "DIFF_NONE"


def test_a_certificate_that_is_due_is_replaced_although_no_input_changed(tls):
    root_key = make_key(tls)
    root = make_root(tls, root_key)[2]
    for given in ({}, {"earlyRenewalHours": 0}, {"earlyRenewalHours": 1}):
        lifetime = {**given, "validityPeriodHours": given.get("earlyRenewalHours", 0)}
        for type_, (identity, inputs, due) in (
            (SELF_SIGNED, make_root(tls, root_key, **lifetime)),
            (SIGNED, make_issuer(tls, root_key, root, **lifetime)),
        ):
            assert tls.diff(type_, due, inputs, inputs)["replaces"] == ["readyForRenewal"]
            tls.diff(type_, due, inputs, {**inputs, "allowedUses": ["crl_signing"]})
            refreshed = tls.read(type_, identity, due, inputs)
            assert refreshed["properties"]["readyForRenewal"] is True
            tls.diff(type_, refreshed["properties"], refreshed["inputs"], inputs)


def test_what_is_in_the_state_is_all_that_there_is_to_read(tls):
    key = make(tls, KEY, algorithm="ED25519")
    root = make_root(tls, make_key(tls))
    for type_, (identity, inputs, outputs) in ((KEY, key), (SELF_SIGNED, root)):
        assert tls.read(type_, identity, outputs, inputs)["properties"] == outputs
        tls.delete(type_, identity, outputs, inputs)


def test_a_signer_that_is_no_authority_is_warned_of(tls):
    key = make_key(tls)
    make_issuer(tls, key, make_root(tls, key, isCaCertificate=False)[2])
    assert len(tls.engine.warnings()) == 1
    assert "does not appear to be a valid Certificate Authority" in tls.engine.warnings()[0]


def test_nothing_can_be_imported(tls):
    for type_ in (KEY, REQUEST, SELF_SIGNED, SIGNED):
        with pytest.raises(CallError, match="Import Not Implemented"):
            tls.read(type_, "id")


def test_another_version_of_the_plugin_replaces_no_provider(tls):
    tls.check_config({}, {"version": "5.6.2"})
    tls.diff_config({"version": "5.0.0"}, {"version": "5.6.2"})
    tls.diff_config({}, {"proxy": {"url": "http://proxy.example"}})
