import base64
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization

from meshtrust.pki.pem import (
    CertificateSummary,
    PemError,
    normalise_bundle,
    read_bundle,
    read_certificate,
    sha256_hex,
    without_private_keys,
)
from tests.certificates import make_certificate


def test_a_bundle_is_the_same_to_the_byte_however_it_was_written():
    first, second = make_certificate("first"), make_certificate("second")
    tidy = first.pem.strip() + "\n" + second.pem.strip()
    assert normalise_bundle(first.pem, second.pem) == tidy
    assert normalise_bundle(f"# first\r\n{first.pem}\n\n\n{second.pem}\n \n") == tidy
    assert normalise_bundle(first.pem, second.pem, first.pem) == tidy
    assert normalise_bundle(second.pem, first.pem) != tidy, "the order of generations is kept"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "certificate 1 in it cannot be read"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "it holds a PUBLIC KEY block"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----", "it holds a private key"),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(text, message):
    with pytest.raises(PemError, match=message):
        read_bundle(text)


def test_the_fingerprint_is_the_one_that_openssl_shows():
    pair = make_certificate()
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"],
        input=pair.pem,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (
        shown.strip().partition("=")[2].replace(":", "").lower() == CertificateSummary.of(pair.certificate).fingerprint
    )


def test_the_hash_of_a_bundle_is_that_of_sha256sum():
    shown = subprocess.run(["sha256sum"], input="a bundle", capture_output=True, text=True, check=True).stdout
    assert shown.split()[0] == sha256_hex("a bundle")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
        (b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x13"),
        (b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x11"),
    ],
    ids=["a version that there is not", "one extension twice", "an extension that is not what it says"],
)
def test_a_certificate_that_only_looks_sound_is_refused_when_it_is_read(before, after):
    der = make_certificate().certificate.public_bytes(serialization.Encoding.DER)
    assert read_certificate(der)
    broken = der.replace(before, after)
    assert broken != der
    with pytest.raises(PemError, match="not a certificate that can be read"):
        read_certificate(broken)
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(broken).decode()}\n-----END CERTIFICATE-----\n"
    with pytest.raises(PemError, match="certificate 1 in it cannot be read"):
        read_bundle(pem)


def test_private_keys_are_taken_out_of_messages():
    pair = make_certificate()
    assert without_private_keys(f"before {pair.key_pem.strip()} after") == "before [secret] after"
    assert without_private_keys(f"{pair.pkcs8_pem[:80]}") == "[secret]", "also one that is cut short"
    assert without_private_keys(repr(pair.key_pem)) == "'[secret]\\n'"
    assert without_private_keys(pair.pem) == pair.pem
