"""Private keys as PEM. No message ever quotes one."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtrust.pem import PemError

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def read_private_key(text: str) -> SigningKey:
    """Return the key of a PEM, in any of the forms that OpenSSL, step and Vault write.

    Raises:
        PemError: There is none, it is encrypted, cannot be read, or is neither ECDSA nor RSA.
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
