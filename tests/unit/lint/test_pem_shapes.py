"""Every shape in which people write PEM: the linter's verdict is that of linkerd2's decoder.

What the decoder says of each shape was found by running linkerd2's `DecodePEMCertificates` and `DecodePEMKey`
(pkg/tls/codec.go) under Go 1.26: how many certificates it reads, or None if it refuses the text.
"""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from meshtrust.lint.reading.pem_text import read_pem
from meshtrust.lint.rules.anchors import BUNDLES, Bundle
from meshtrust.lint.rules.credentials import CREDENTIALS, Credentials
from tests.certificates import Pair, make_certificate, make_v1_root

NOW = datetime.now(UTC)
ROOT, OTHER = make_certificate(days=3650), make_certificate("other", days=3650)
PEM, KEY = ROOT.pem, ROOT.key_pem
DER = ROOT.certificate.public_bytes(serialization.Encoding.DER)
ED25519 = make_certificate("ed25519", key=ed25519.Ed25519PrivateKey.generate())
RSA = Pair(ROOT.certificate, rsa.generate_private_key(65537, 2048))
P7 = pkcs7.serialize_certificates([ROOT.certificate], serialization.Encoding.PEM).decode()
LINES = PEM.splitlines()


def labelled(label, pem=PEM):
    return pem.replace("CERTIFICATE", label)


def indented(text, by="  "):
    return "".join(f"{by}{line}\n" for line in text.splitlines())


def encoded(text):
    return base64.b64encode(text.encode()).decode()


# By shape: the text, how many certificates Linkerd reads of it (None: it refuses), and a part of what the linter says.
SHAPES = {
    "one": (PEM, 1, ""),
    "one without a newline at its end": (PEM.rstrip(), 1, ""),
    "two": (PEM + OTHER.pem, 2, ""),
    "X.509 v1": (make_v1_root().pem, 1, ""),
    "CRLF": (PEM.replace("\n", "\r\n"), 1, ""),
    "blanks after lines": (PEM.replace("\n", " \t\n"), 1, ""),
    "blanks within lines": (PEM.replace(LINES[2], f"{LINES[2][:9]} {LINES[2][9:]}"), 1, ""),
    "in lines of 76": ("\n".join([LINES[0], "".join(LINES[1:-1]), LINES[-1]]), 1, ""),
    "text before": (f"subject=CN = root\nissuer=CN = root\n{PEM}", 1, ""),
    "text between": (f"{PEM}# the next\n\n{OTHER.pem}", 2, ""),
    "headers": (PEM.replace(LINES[0], f"{LINES[0]}\nfriendlyName: root"), 1, ""),
    "empty": ("", 0, "it is empty"),
    "blank": (" \n\t\n", None, "it is blank"),
    "no PEM": ("ca.crt goes here", None, "it holds no PEM"),
    "byte order mark": ("\ufeff" + PEM, None, "UTF-8 byte order mark"),
    "byte order mark before the second": (PEM + "\ufeff" + OTHER.pem, None, "behind a byte order mark"),
    "UTF-16 as text": (PEM.encode("utf-16-le").decode(), None, "it is UTF-16"),
    "DER as text": (DER.decode(errors="replace"), None, "it is DER, not PEM"),
    "base64 twice": (encoded(PEM), None, "it is base64 of PEM"),
    "base64 of DER": (base64.b64encode(DER).decode(), None, "base64 without BEGIN and END lines"),
    "indented": (indented(PEM), None, "a BEGIN line that is indented"),
    "indented second": (PEM + indented(OTHER.pem), None, "a BEGIN line that is indented"),
    "indented first": (indented(PEM) + OTHER.pem, 1, "a BEGIN line that is indented"),
    "in quotes": (f'"{PEM}"', None, "does not stand at the start of its line"),
    "escaped line breaks": (PEM.replace("\n", "\\n"), None, "line breaks written out"),
    "line ends of CR": (PEM.replace("\n", "\r"), None, "has only CR as line ends"),
    "in one line": (PEM.replace("\n", " "), None, "its whole PEM in one line"),
    "without END": ("\n".join(LINES[:-1]) + "\n", None, "has no END line"),
    "without BEGIN": ("\n".join(LINES[1:]) + "\n", None, "holds no certificate"),
    "another END": (PEM.replace("END CERTIFICATE", "END CERT"), None, "an END line of another name"),
    "four dashes": (PEM.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE----"), None, "five dashes"),
    "cut": (PEM.replace(LINES[2], LINES[2][:-1]), None, "followed by text that is not base64"),
    "a line missing": (PEM.replace(f"{LINES[2]}\n", ""), None, "cannot be read"),
    "no content": ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", None, "cannot be read"),
    "TRUSTED CERTIFICATE": (labelled("TRUSTED CERTIFICATE"), 0, "a block TRUSTED CERTIFICATE"),
    "X509 CERTIFICATE": (labelled("X509 CERTIFICATE"), 0, "a block X509 CERTIFICATE"),
    "PKCS7": (P7, 0, "a block PKCS7"),
    "request": (labelled("CERTIFICATE REQUEST"), 0, "a block CERTIFICATE REQUEST"),
    "key before": (KEY + PEM, 0, "holds a private key"),
    "key between": (PEM + KEY + OTHER.pem, 1, "holds a private key"),
    "key after, and a blank line": (PEM + KEY + "\n", 1, "holds a private key"),
    "TRUSTED CERTIFICATE between": (PEM + labelled("TRUSTED CERTIFICATE") + OTHER.pem, 1, "TRUSTED CERTIFICATE"),
    "blank line after": (PEM + "\n", None, "a blank line after its last certificate"),
    "text after": (PEM + "# the end\n", None, "text after its last certificate"),
    "blank after without a newline": (PEM + " ", None, "a blank line after its last certificate"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_linter_says_of_a_bundle_what_linkerd_does_with_it(shape):
    text, count, says = SHAPES[shape]
    errors = [
        str(found) for found in BUNDLES.check(Bundle(name="Bundle", text=text, at=NOW)) if found.severity == "error"
    ]
    assert len(read_pem(text).certificates) == (count or 0) or count is None
    assert bool(errors) == bool(says)
    assert any(says in error for error in errors) or not says, errors
    if not count:
        assert errors, "what Linkerd refuses is an error"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_linter_says_of_a_chain_what_linkerd_does_with_it(shape):
    text, count, says = SHAPES[shape]
    credentials = Credentials(name="Chain", role="ca", chain=text, key=None, roots=None, at=NOW)
    errors = [found for found in CREDENTIALS.check(credentials) if found.rule and found.rule.id == "MT216"]
    assert bool(errors) == bool(says)
    if not count:
        assert errors, "what Linkerd refuses is an error"


def key_form(pair, encoding, form, encryption=None):
    return pair.key.private_bytes(encoding, form, encryption or serialization.NoEncryption()).decode()


PEM_FORM, FORMS = serialization.Encoding.PEM, serialization.PrivateFormat
PASSWORD = serialization.BestAvailableEncryption(b"x")
PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
# By shape: the text, and whether Linkerd reads a key of it.
KEYS = {
    "EC": (KEY, True),
    "EC as PKCS8": (ROOT.pkcs8_pem, True),
    "EC on P-384": (Pair(ROOT.certificate, ec.generate_private_key(ec.SECP384R1())).key_pem, True),
    "RSA": (RSA.key_pem, True),
    "RSA as PKCS8": (RSA.pkcs8_pem, True),
    "with a newline after": (KEY + "\n\n", True),
    "with text before": (f"the key\n{KEY}", True),
    "before the certificate": (KEY + PEM, True),
    "indented": (indented(KEY), False),
    "after its parameters": (PARAMETERS + KEY, False),
    "after the certificate": (PEM + KEY, False),
    "Ed25519": (ED25519.pkcs8_pem, False),
    "encrypted": (key_form(ROOT, PEM_FORM, FORMS.PKCS8, PASSWORD), False),
    "encrypted the old way": (key_form(ROOT, PEM_FORM, FORMS.TraditionalOpenSSL, PASSWORD), False),
    "of OpenSSH": (key_form(ROOT, PEM_FORM, FORMS.OpenSSH), False),
    "of another label": (ROOT.pkcs8_pem.replace("PRIVATE KEY", "EC PRIVATE KEY"), False),
    "PKCS8 labelled RSA": (RSA.pkcs8_pem.replace("PRIVATE KEY", "RSA PRIVATE KEY"), False),
    "byte order mark": ("\ufeff" + KEY, False),
    "base64 twice": (encoded(KEY), False),
    "empty": ("", False),
}


@pytest.mark.parametrize("shape", KEYS)
def test_the_linter_says_of_a_key_what_linkerd_does_with_it(shape):
    text, is_read = KEYS[shape]
    credentials = Credentials(name="Key", role="ca", chain=PEM, key=text, roots=None, at=NOW)
    errors = [str(found) for found in CREDENTIALS.check(credentials) if found.rule and found.rule.id == "MT211"]
    assert bool(errors) != is_read
    assert not any(line in str(errors) for line in KEY.splitlines()[1:-1])
