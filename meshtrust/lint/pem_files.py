"""What a PEM file is for, as far as its name and its certificates tell, and which key belongs to it."""

import re
from pathlib import PurePath
from typing import Literal

from meshtrust.lint.files import PemFile
from meshtrust.lint.pem_text import read_pem

PemRole = Literal["issuer", "ca", "bundle"]

_ISSUER, _CA = re.compile(r"issuer|^tls\.crt$|^crt\.pem$"), re.compile(r"intermediate")
_BUNDLE = re.compile(r"anchor|bundle|root|^ca([.-]|$)")


def role_of(file: PemFile) -> PemRole | None:
    """Return what a file is for: by its name, or else by its first certificate; nothing where it is somebody else's."""
    name, pem = PurePath(file.file).name.lower(), read_pem(file.text)
    if not any(block.label == "CERTIFICATE" for block in pem.blocks):
        return "bundle" if _BUNDLE.search(name) and not pem.blocks else None
    first = pem.certificates[0][1] if pem.certificates else None
    if _ISSUER.search(name) and first is not None and (first.ca or "issuer" in name):
        return "issuer"
    if _CA.search(name):
        return "ca"
    if first is None or all(facts.self_issued and facts.ca for _, facts in pem.certificates):
        return "bundle"
    return "bundle" if _BUNDLE.search(name) and first.ca else None


def key_files(file: str) -> list[str]:
    """Return the names that the key of a certificate's file has by custom."""
    path = PurePath(file)
    names = [f"{path.stem}.key", f"{path.stem}-key.pem", f"{path.stem}.key.pem", f"{path.stem}_key.pem"]
    if path.name == "crt.pem":
        names.insert(0, "key.pem")
    return [str(path.with_name(name)) for name in names if name != path.name]
