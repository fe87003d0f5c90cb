"""Looks for private keys where none may be: in what was written, kept and shown, and in the arguments of processes."""

import base64
import gzip
import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from rehearsal.cluster import Cluster
from rehearsal.workspace import Workspace

_HEADER = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")
# Three bytes are four letters of base64, so that a text looks different at each of three offsets; its first and last
# letters depend on what is around it.
_ENCODED = [
    base64.b64encode(b"." * offset + b"PRIVATE KEY-----").decode()[(0, 2, 3)[offset] : -4] for offset in range(3)
]
_SAMPLES_PER_SECOND = 50


class KeySearch:
    """Finds keys by their form, and keys that are known by their content, however it was cut and encoded.

    Args:
        known: Private keys as PEM.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._needles = {needle for pem in known for needle in _needles(pem)}

    def find(self, text: str) -> str | None:
        """Return what a text has of a key; None if it has none."""
        if _HEADER.search(text):
            return "a private key as PEM"
        if any(entry in text for entry in _ENCODED):
            return "a private key as base64 of PEM"
        return self.find_known(text)

    def find_known(self, text: str) -> str | None:
        """Return what a text has of the keys that are known; None if it has none."""
        # Line breaks, and quoted ones, are no disguise.
        flat = re.sub(r"\\n|\s", "", text)
        return next((f"a known key ({kind})" for kind, needle in self._needles if needle in flat), None)

    def check(self, places: dict[str, str]) -> None:
        """Fail where one of the places has a key."""
        found = {where: what for where, text in places.items() if (what := self.find(text))}
        assert not found, found


def _needles(pem: str) -> Iterator[tuple[str, str]]:
    """Yield what betrays a key: its secret number, and the part of each usual encoding that has it."""
    key = load_pem_private_key(pem.encode(), None)
    for name, form in (("traditional", PrivateFormat.TraditionalOpenSSL), ("PKCS8", PrivateFormat.PKCS8)):
        der = key.private_bytes(Encoding.DER, form, NoEncryption())
        body = base64.b64encode(der).decode()
        if isinstance(key, EllipticCurvePrivateKey):
            number = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
            yield "number in hex", number.hex()
            yield "number in base64", base64.b64encode(number).decode().rstrip("=")
            # The public key follows the number in this encoding, and is no secret.
            start = -(-der.index(number) // 3) * 4
            yield f"{name} in base64", body[start : start + 36]
        else:
            # The modulus stands in the first half.
            yield f"{name} in base64", body[len(body) // 2 :][:64]


def kept_and_shown(project: Workspace, cluster: Cluster) -> dict[str, str]:
    """Return what a stack keeps and shows, by where it is: state, outputs, logs, and what others may read on a cluster.

    Secrets are left out, but for the values that Helm keeps of each release: there a key may be, and nowhere else.
    """
    places = {"the outputs": json.dumps(project.outputs())}
    for path in (project.directory / "state").rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            places[str(path)] = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="replace")
    for path in cluster.directory.glob("*.log"):
        places[str(path)] = path.read_text(errors="replace")
    with cluster.client() as api:
        places["ConfigMaps"] = api.get("/api/v1/configmaps").text
        places["events"] = api.get("/api/v1/events").text
        places["Certificates"] = api.get("/apis/cert-manager.io/v1/certificates").text
        releases = api.get("/api/v1/secrets", params={"fieldSelector": "type=helm.sh/release.v1"}).json()["items"]
    assert releases, "a stack has releases"
    for entry in releases:
        record = gzip.decompress(base64.b64decode(base64.b64decode(entry["data"]["release"])))
        # The chart itself makes its webhooks' keys; what this program gives it are the values.
        places[f"values of {entry['metadata']['name']}"] = json.dumps(json.loads(record).get("config"))
    return places


@contextmanager
def process_arguments() -> Iterator[dict[str, str]]:
    """Yield the arguments of every process of this machine that was seen meanwhile, by program."""
    seen: set[str] = set()
    done = threading.Event()
    places: dict[str, str] = {}

    def look() -> None:
        while not done.wait(1 / _SAMPLES_PER_SECOND):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield places
    finally:
        done.set()
        watcher.join()
        places.update({f"arguments of {line.partition(' ')[0]}": "" for line in seen})
        for line in seen:
            places[f"arguments of {line.partition(' ')[0]}"] += line + "\n"
