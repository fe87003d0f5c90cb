"""The search for keys finds one in every notation, and nothing in other texts."""

import base64
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.certificates import make_certificate
from tests.key_material import KeySearch, process_arguments

PAIR = make_certificate()
PKCS8 = PAIR.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
BODY = "".join(PAIR.key_pem.splitlines()[1:-1])


@pytest.mark.parametrize(
    "written",
    [
        PAIR.key_pem,
        json.dumps({"key": PAIR.key_pem}),
        *(base64.b64encode(b"x" * offset + PAIR.key_pem.encode()).decode() for offset in range(3)),
    ],
    ids=["PEM", "JSON", "base64", "base64 from its second byte", "base64 from its third byte"],
)
def test_a_key_is_found_by_its_form(written):
    assert KeySearch().find(f"before {written} after")


@pytest.mark.parametrize(
    "written",
    [
        BODY,
        "\\n".join(PAIR.key_pem.splitlines()[1:-1]),
        PKCS8.hex(),
        base64.b64encode(PKCS8).decode()[20:],
        BODY[:64],
    ],
    ids=["body", "escaped newlines", "hex", "another form", "one line"],
)
def test_a_known_key_is_found_without_its_form(written):
    assert KeySearch([PAIR.key_pem]).find(f"before {written} after")
    assert KeySearch().find(written) is None


def test_a_certificate_and_a_public_key_are_no_key():
    public = PAIR.certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = PAIR.pem + public.decode() + base64.b64encode(PAIR.pem.encode()).decode()
    assert KeySearch([PAIR.key_pem, make_certificate().key_pem]).find(text) is None


def test_a_key_among_the_arguments_of_a_process_is_found():
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", PAIR.key_pem]
    with process_arguments() as places:
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.communicate(b"")
    with pytest.raises(AssertionError, match="a private key as PEM"):
        KeySearch().check({where: text for where, text in places.items() if sys.executable in where})
