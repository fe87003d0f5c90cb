"""PEM files: those of Linkerd are recognised by references, by what they signed, and by their names."""

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from meshtrust.lint.facts import CertificateFacts
from meshtrust.lint.reading.files import PemFile
from meshtrust.lint.reading.kustomize import Generated
from meshtrust.lint.reading.pem_text import read_pem
from meshtrust.names import IDENTITY_ISSUER, PREVIOUS_ANCHOR, SECRET_KEYS, TRUST_ANCHOR, TRUST_ROOTS, TRUST_ROOTS_KEY

PemRole = Literal["issuer", "ca", "bundle"]

_ISSUER, _CA = re.compile(r"issuer|^tls\.crt$|^crt\.pem$"), re.compile(r"intermediate")
_BUNDLE = re.compile(r"anchor|bundle|root|^ca([-._]|cert|$)")
_KEY = re.compile(r"\.key$|[-_.]key\.pem$|^key\.pem$|[-_]key\.der$")
# Names that only files of Linkerd have.
_LINKERD = re.compile(r"linkerd|trust[-_]?anchor|trust[-_]?roots|identity[-_]?(issuer|trust)")
# Names of others' certificates and authorities, in a path or in what a certificate calls its subject.
_OTHERS = re.compile(
    r"""(^|[^a-z])(etcd|o?vpn|openvpn|wireguard|dapr|istio|cilium|consul|vault|kafka|zookeeper|postgres\w*|mysql|mongo\w*
    |elastic\w*|opensearch|kibana|redis|rabbitmq|nats|minio|ldap|nginx|traefik|ingress|haproxy|envoy|front-proxy|apiserver
    |docker|registry|harbor|gitlab|jenkins|webhooks?|injector|validator|tap|spire|mqtt|mosquitto
    |letsencrypt|acme|saml|jwt|oauth|oidc|ssh|radius|eap|tls-?proxy|mitm\w*|squid)([^a-z]|$)""",
    re.VERBOSE,
)
# Names that many trees have in their paths.
_KUBERNETES = re.compile(r"(^|[^a-z])kube(let|rnetes|-\w+)?([^a-z]|$)")


@dataclass(frozen=True, kw_only=True)
class LinkerdFile:
    """A PEM file of Linkerd's.

    Attributes:
        pem: The file.
        role: Its purpose.
        name: Its name, for the beginning of a sentence.
        key: The file of the private key that goes with it; None if it was not read.
    """

    pem: PemFile
    role: PemRole
    name: str
    key: PemFile | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Objects and certificates of Linkerd that were read, besides PEM files.

    Attributes:
        generated: Objects that Kustomize makes from files.
        directories: Directories with documents of Linkerd.
        others: Whether there are other documents.
        roots: Roots that Linkerd trusts by its configuration.
        issuers: First certificates of identity issuers.
    """

    generated: Sequence[Generated] = ()
    directories: frozenset[str] = frozenset()
    others: bool = False
    roots: Sequence[CertificateFacts] = ()
    issuers: Sequence[CertificateFacts] = ()


def sort_files(files: Sequence[PemFile], around: Surroundings) -> tuple[list[LinkerdFile], list[PemFile]]:
    """Return the files that are Linkerd's, and the others.

    A file is Linkerd's if an object of Linkerd refers to it, if its key signed a known identity issuer, if it has a
    name of Linkerd, or if it is beside such a file. A file with a common name, such as ``ca.crt``, is also Linkerd's
    if no other document is around it.

    Args:
        files: The files.
        around: What else was read.
    """
    by_name = {os.path.normpath(file.file): file for file in files}
    found = {id(one.pem): one for one in _referred(by_name, around.generated)}
    roles = {id(file): role for file in files if (role := role_of(file)) is not None}
    sure = [file for file in files if id(file) in roles and id(file) not in found and _is_surely_linkerds(file)]
    directories = around.directories | {_directory(file) for file in sure if roles[id(file)] == "issuer"}
    issuers = [*around.issuers, *(facts for file in sure if roles[id(file)] == "issuer" for facts in _first(file))]
    for file in files:
        if id(file) in found or id(file) not in roles:
            continue
        if file in sure or (not _is_others(file) and _is_kin(file, directories, issuers, around)):
            key = next((by_name[name] for name in key_files(file.file) if name in by_name), None)
            found[id(file)] = LinkerdFile(pem=file, role=roles[id(file)], name=file.file, key=key)
    linkerds = [found[id(file)] for file in files if id(file) in found]
    keys = {id(one.key) for one in linkerds if one.key is not None}
    return linkerds, [file for file in files if id(file) not in found and id(file) not in keys]


def _is_kin(
    file: PemFile, directories: frozenset[str], issuers: Sequence[CertificateFacts], around: Surroundings
) -> bool:
    certificates = [facts for _, facts in read_pem(file.text).certificates]
    trusted = {facts.fingerprint for facts in around.roots}
    if any(facts.fingerprint in trusted or any(facts.issued(issuer) for issuer in issuers) for facts in certificates):
        return True
    return _directory(file) in directories or not (around.others or around.roots)


def _is_surely_linkerds(file: PemFile) -> bool:
    name = PurePath(file.file).name.lower()
    if file.named or (_LINKERD.search(file.below.lower()) and not _OTHERS.search(name)):
        return True
    return "issuer" in name and not _is_others(file)


def _is_others(file: PemFile) -> bool:
    names = [PurePath(file.below).name.lower()]
    names += [facts.subject.lower() for _, facts in read_pem(file.text).certificates[:1]]
    return any(map(_OTHERS.search, [file.below.lower(), *names])) or any(map(_KUBERNETES.search, names))


def _first(file: PemFile) -> list[CertificateFacts]:
    return [facts for _, facts in read_pem(file.text).certificates[:1]]


def _directory(file: PemFile) -> str:
    return str(PurePath(file.file).parent)


def _referred(by_name: dict[str, PemFile], generated: Sequence[Generated]) -> list[LinkerdFile]:
    """Return the files that Kustomize makes Linkerd's objects of."""
    found = []
    for one in generated:
        file = by_name.get(one.source)
        if file is None:
            continue
        name = f"{file.file}, which becomes {one.key} of {one.kind} {one.name},"
        if one.kind == "ConfigMap" and (one.name, one.key) == (TRUST_ROOTS, TRUST_ROOTS_KEY):
            found.append(LinkerdFile(pem=file, role="bundle", name=name))
        for certificate, private in SECRET_KEYS.values():
            if (
                one.kind == "Secret"
                and one.key == certificate
                and one.name in (IDENTITY_ISSUER, TRUST_ANCHOR, PREVIOUS_ANCHOR)
            ):
                beside = [other for other in generated if other.name == one.name and other.key == private]
                keys = [by_name[other.source] for other in beside if other.source in by_name]
                role: PemRole = "issuer" if one.name == IDENTITY_ISSUER else "ca"
                found.append(LinkerdFile(pem=file, role=role, name=name, key=next(iter(keys), None)))
    return found


def role_of(file: PemFile) -> PemRole | None:
    """Return the purpose of a file of Linkerd: by its name, or else by its first certificate."""
    name, pem = PurePath(file.file).name.lower(), read_pem(file.text)
    if any("KEY" in block.label for block in pem.blocks[:1]) or (not pem.blocks and _KEY.search(name)):
        return None
    first = pem.certificates[0][1] if pem.certificates else None
    if _ISSUER.search(name) and (first is None or first.ca or "issuer" in name):
        return "issuer"
    if _CA.search(name):
        return "ca"
    roots = [facts for _, facts in pem.certificates if facts.self_signed and (facts.ca or facts.is_v1)]
    is_root = first is None or first.ca or first.self_signed
    all_roots = bool(roots) and len(roots) == len(pem.certificates)
    return "bundle" if all_roots or ((_BUNDLE.search(name) or file.named) and is_root) else None


def key_files(file: str) -> list[str]:
    """Return the usual names of the key file of a certificate's file."""
    path = PurePath(os.path.normpath(file))
    names = [f"{path.stem}.key", f"{path.stem}-key.pem", f"{path.stem}.key.pem", f"{path.stem}_key.pem"]
    if path.name == "crt.pem":
        names.insert(0, "key.pem")
    return [str(path.with_name(name)) for name in names if name != path.name]
