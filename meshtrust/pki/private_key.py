"""Private keys as PEM. No message ever quotes one."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtrust.pki.pem import PemError

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# At least as long as the first line of a key's PEM, which is the part that is searched for.
_BASE64 = re.compile(r"[A-Za-z0-9+/]{36,}")


def read_private_key(text: str) -> SigningKey:
    """Return the key of a PEM, in any of the forms that OpenSSL, step and Vault write.

    Raises:
        PemError: The text holds no key, or one that is encrypted, unreadable, or neither ECDSA nor RSA.
    """
    if "PRIVATE KEY-----" not in text:
        msg = "it holds no private key"
        raise PemError(msg)
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except TypeError:
        msg = "it is encrypted; decrypt it, the stack keeps it encrypted by its own key"
        raise PemError(msg) from None
    except (ValueError, UnsupportedAlgorithm):
        msg = "its private key cannot be read"
        raise PemError(msg) from None
    if not isinstance(key, SigningKey):
        msg = "its key is neither ECDSA nor RSA"
        raise PemError(msg)
    return key


def key_to_pem(key: SigningKey) -> str:
    """Return a key as the tls provider, cert-manager and Linkerd all read it: one block, SEC 1 or PKCS #1."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def find_private_keys(values: Any, path: str = "") -> Iterator[str]:
    """Yield the places of private keys in values of any depth, as dotted paths such as ``proxyInjector.keyPEM``.

    A key counts within other text, too, and in base64, as the manifest of a Secret has it.

    Args:
        values: Maps and lists of anything.
        path: Place of the values; empty for the top.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from find_private_keys(value, f"{path}.{name}" if path else str(name))
    elif isinstance(values, list):
        for position, value in enumerate(values):
            yield from find_private_keys(value, f"{path}[{position}]")
    elif isinstance(values, str) and _holds_private_key(values):
        yield path


def holds_private_key(values: Any) -> bool:
    """Whether a private key is anywhere in a text, or in values of any depth, as `find_private_keys` finds it."""
    return next(find_private_keys(values), None) is not None


def _holds_private_key(text: str) -> bool:
    # Four characters are three bytes: the rest may be the beginning of a longer line.
    decoded = (base64.b64decode(found[: len(found) // 4 * 4]) for found in _BASE64.findall(text))
    return "PRIVATE KEY" in text or any(b"PRIVATE KEY" in content for content in decoded)
