"""Pulumi's passphrase secrets provider: what is secret is encrypted in stack files and deployments.

The format is Pulumi's own, so that the real CLI reads what this engine writes and the other way round: the salt
text `v1:<base64 salt>:<check>` holds the word "pulumi" encrypted, every ciphertext is `v1:<nonce>:<data>` (both
base64), AES-256-GCM under PBKDF2-SHA256 with 1,000,000 rounds over an 8-byte salt
(pulumi/pulumi: pkg/secrets/passphrase, sdk/go/common/resource/config/crypt.go).
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rehearsal.engine.errors import CliError

ROUNDS = 1_000_000
_CHECK_WORD = "pulumi"


class Crypter:
    """Encrypts and decrypts with one passphrase and salt.

    A plaintext that was decrypted or encrypted before keeps its ciphertext, so that a deployment file changes only
    where the deployment did.
    """

    def __init__(self, key: bytes, salt_text: str) -> None:
        self._aead = AESGCM(key)
        self.salt_text = salt_text
        self._ciphertexts: dict[str, str] = {}

    @classmethod
    def create(cls, passphrase: str) -> Crypter:
        """A crypter on a new random salt."""
        salt = os.urandom(8)
        crypter = cls(_derive(passphrase, salt), "")
        crypter.salt_text = f"v1:{base64.b64encode(salt).decode()}:{crypter.encrypt(_CHECK_WORD)}"
        return crypter

    @classmethod
    def open(cls, passphrase: str, salt_text: str) -> Crypter:
        """A crypter on the salt text of a stack file or a deployment.

        Raises:
            CliError: the passphrase is not the one the salt text was made with, or the text is malformed.
        """
        version, _, rest = salt_text.partition(":")
        salt, _, check = rest.partition(":")
        if version != "v1" or not check:
            raise CliError("malformed state value: encryptionsalt must look like v1:<salt>:v1:<nonce>:<data>")
        crypter = cls(_derive(passphrase, base64.b64decode(salt)), salt_text)
        try:
            correct = crypter.decrypt(check) == _CHECK_WORD
        except CliError:
            correct = False
        if not correct:
            raise CliError("getting stack configuration: get stack secrets manager: incorrect passphrase")
        return crypter

    def encrypt(self, plaintext: str) -> str:
        """Encrypt a text."""
        if plaintext not in self._ciphertexts:
            nonce = os.urandom(12)
            data = self._aead.encrypt(nonce, plaintext.encode(), None)
            self._ciphertexts[plaintext] = f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(data).decode()}"
        return self._ciphertexts[plaintext]

    def decrypt(self, ciphertext: str) -> str:
        """Decrypt a text.

        Raises:
            CliError: the ciphertext is malformed, or was made with another passphrase.
        """
        try:
            version, nonce, data = ciphertext.split(":")
            if version != "v1":
                raise ValueError(version)
            plaintext = self._aead.decrypt(base64.b64decode(nonce), base64.b64decode(data), None).decode()
        except (ValueError, InvalidTag) as error:
            raise CliError(
                "a secret could not be decrypted: it is damaged, or was encrypted with another passphrase"
            ) from error
        self._ciphertexts[plaintext] = ciphertext
        return plaintext


def passphrase() -> str:
    """The passphrase of PULUMI_CONFIG_PASSPHRASE, or of the file that PULUMI_CONFIG_PASSPHRASE_FILE names.

    Raises:
        CliError: neither is set, or the file cannot be read.
    """
    given = os.environ.get("PULUMI_CONFIG_PASSPHRASE")
    if given is not None:
        return given
    file = os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise CliError(f"unable to read PULUMI_CONFIG_PASSPHRASE_FILE: {error}") from error
    raise CliError(
        "getting stack configuration: get stack secrets manager: passphrase must be set with "
        "PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE environment variables"
    )


@cache
def _derive(phrase: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", phrase.encode(), salt, ROUNDS, dklen=32)
