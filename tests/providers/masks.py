"""Takes out of a plugin's answers what is different each time, and keeps what is the same."""

import json
import re
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID

from rehearsal.providers.values import UNKNOWN, Secret

# What the Terraform bridge notes for itself (pulumi-terraform-bridge pkg/tfbridge/schema.go, RawStateDelta).
_BRIDGE = {"__meta", "__pulumi_raw_state_delta"}
_KEY_IDS = {ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER}
_VERSIONS = {"resourceVersion", "observedGeneration"}
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n.*?-----END \1-----\n?", re.DOTALL)
_AUTONAME = re.compile(r"\bit-[0-9a-f]{8}\b")
# The text of a provider's documentation follows.
_MISSING = re.compile(r"(Missing required property '\w+'): .*", re.DOTALL)
# The reason follows in the words of what reads or asks: Go's libraries, or Python's.
_REASON = re.compile(r"((?:information from the API server|failed to parse kubeconfig): ).*", re.DOTALL)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
_NUMBERED = {
    "field manager": re.compile(r"\bpulumi-kubernetes-[0-9a-f]{8}\b"),
    "uuid": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "MD5 fingerprint": re.compile(r"([0-9a-f]{2}:){15}[0-9a-f]{2}"),
    "hash": re.compile(r"\b[0-9a-f]{40}\b"),
    "SHA-256 fingerprint": re.compile(r"SHA256:[A-Za-z0-9+/]{43}"),
    "SSH key": re.compile(r"AAAA[A-Za-z0-9+/]{40,}={0,2}"),
    "serial": re.compile(r"\b\d{30,40}\b"),
}


class Masks:
    """Puts a name in the place of each value that is random; the same value gets the same name."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, text: str, name: str) -> None:
        """Have a text replaced by a name wherever it is."""
        self._names[text] = f"<{name}>"

    def masked(self, value: Any) -> Any:
        """Return a value as JSON can hold it, without what is random."""
        if isinstance(value, Secret):
            return {"secret": self.masked(value.value)}
        if value is UNKNOWN:
            return "<unknown>"
        if isinstance(value, dict):
            return {
                self.masked(key): "<version>" if key in _VERSIONS else self.masked(item)
                for key, item in value.items()
                if key not in _BRIDGE
            }
        if isinstance(value, list | tuple):
            return [self.masked(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for known in sorted(self._names, key=len, reverse=True):
            text = text.replace(known, self._names[known])
        text = _MISSING.sub(r"\1", text)
        # Helm 3 counts the errors, and Helm 4 does not.
        text = text.replace("1 error occurred:\n\t* ", "").removesuffix("\n\n")
        text = _REASON.sub(r"\1<reason>", text)
        text = _PEM.sub(lambda found: self._numbered(found[1], found[0]), text)
        for name, pattern in _NUMBERED.items():
            text = pattern.sub(lambda found, name=name: self._numbered(name, found[0]), text)  # type: ignore[misc]
        text = _AUTONAME.sub("<name>", text)
        return _TIME.sub(lambda found: f"<time{' to the nanosecond' if found[1] else ''}>", text)

    def _numbered(self, name: str, text: str) -> str:
        if text not in self._names:
            count = sum(given.startswith(f"<{name} ") for given in self._names.values())
            self._names[text] = f"<{name} {count + 1}>"
            if name in _DESCRIBED:
                described = json.dumps(self.masked(_DESCRIBED[name](text)), sort_keys=True)
                self._names[text] = f"<{name} {count + 1}: {described}>"
        return self._names[text]


def _certificate(text: str) -> dict[str, Any]:
    parsed = x509.load_pem_x509_certificate(text.encode())
    lifetime = parsed.not_valid_after_utc - parsed.not_valid_before_utc
    return {
        "subject": _subject(parsed.subject),
        "issuer": _subject(parsed.issuer),
        "signature": parsed.signature_algorithm_oid.dotted_string,
        "hours": lifetime.total_seconds() / 3600,
        "extensions": _extensions(parsed.extensions),
        "serial": str(parsed.serial_number),
    }


def _request(text: str) -> dict[str, Any]:
    parsed = x509.load_pem_x509_csr(text.encode())
    return {
        "subject": _subject(parsed.subject),
        "signature": parsed.signature_algorithm_oid.dotted_string,
        "extensions": _extensions(parsed.extensions),
    }


def _key(text: str) -> dict[str, Any]:
    loaded = serialization.load_pem_private_key(text.encode(), None)
    return {"kind": type(loaded).__name__, "bits": getattr(loaded, "key_size", None)}


def _subject(name: x509.Name) -> list[list[list[str]]]:
    return [[[part.oid.dotted_string, str(part.value)] for part in together] for together in name.rdns]


def _extensions(extensions: x509.Extensions) -> list[list[Any]]:
    return [[item.oid.dotted_string, item.critical, *_split(item)] for item in extensions]


def _split(extension: x509.Extension[Any]) -> list[str]:
    """Return what an extension holds, the hash of a key apart from the rest."""
    text = extension.value.public_bytes().hex()
    return [text[:-40], text[-40:]] if extension.oid in _KEY_IDS else [text]


_DESCRIBED = {
    "CERTIFICATE": _certificate,
    "CERTIFICATE REQUEST": _request,
    "PRIVATE KEY": _key,
    "EC PRIVATE KEY": _key,
    "RSA PRIVATE KEY": _key,
}
