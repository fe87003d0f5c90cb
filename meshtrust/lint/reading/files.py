"""Reader of files for the linter: YAML documents that may matter to Linkerd, and PEM, recognised by content."""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from meshtrust.lint.reading.documents import Document, Text, read_text
from meshtrust.lint.reading.pem_text import BYTE_ORDER_MARK
from meshtrust.lint.rule import Finding, Location, RuleSet, Violation

STDIN = "-"
_YAML_SUFFIXES = {".yaml", ".yml", ".json", ".jsonl", ".ndjson"}
_PEM_SUFFIXES = {".pem", ".crt", ".cer", ".cert", ".key", ".der"}
# Suffixes of templates, after the name of the rendered file.
_TEMPLATE_SUFFIXES = {".gotmpl", ".tmpl", ".tpl", ".tftpl", ".j2", ".jinja", ".jinja2", ".erb", ".in", ".template"}
_PASSED_OVER = {"node_modules", "__pycache__"}
# Enough for a cluster's dump; files of credentials are smaller.
_LARGEST = 20_000_000
_PEM_LINE = re.compile(r"^\ufeff?-----BEGIN ", re.MULTILINE)
_UTF8, _UTF16 = "Save it as UTF-8 without a byte order mark", (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class PemFile:
    """A file of PEM blocks, or one with the name of such a file.

    Attributes:
        file: Its name.
        text: Its text; empty if its bytes are not text.
        below: Its name from the directory that the user named; empty if the user named the file.
        unread: The reason why its bytes are not text, as a predicate, and the fix; None if they are text.
    """

    file: str
    text: str
    below: str = ""
    unread: tuple[str, str | None] | None = None

    @property
    def named(self) -> bool:
        """Whether the user named it, and not a directory above it."""
        return not self.below


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A thing that could not be read.

    Attributes:
        name: The file.
        kind: The cause: it is not text, the text is not YAML, or it is a template.
        reason: The cause as a predicate.
        location: Its place.
        fix: The remedy, if it is more precise than the rule's.
    """

    name: str
    kind: str
    reason: str
    location: Location
    fix: str | None = None


@dataclass(kw_only=True)
class Material:
    """Everything that was read.

    Attributes:
        documents: YAML documents that may matter.
        pem_files: Files of PEM blocks.
        unread: Things that could not be read.
        others: Number of other documents, by their kind.
        files: Number of files that were opened.
    """

    documents: list[Document] = field(default_factory=list)
    pem_files: list[PemFile] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    files: int = 0


READING = RuleSet[Unread]("A file")


@READING.rule(
    "MT001",
    "error",
    "The file cannot be read",
    reason="A file that cannot be read is not judged, and may hold anything.",
    source="meshtrust",
    fix="Name a file or a directory that exists, that this user may read, and that holds text in UTF-8",
    applies=lambda unread: unread.kind == "text",
)
@READING.rule(
    "MT002",
    "error",
    "The document is not YAML",
    reason="A document that cannot be read is not judged, and Kubernetes and Helm refuse it as well.",
    source="YAML 1.1, as Kubernetes reads it",
    fix="Correct the line",
    applies=lambda unread: unread.kind == "yaml",
)
@READING.rule(
    "MT003",
    "note",
    "The document is a template",
    reason="The content of a template is known only after its values are filled in.",
    source="Helm, chart templates; Terraform, templatefile; Jinja",
    fix="Render it, and judge the result: helm template <chart> | meshtrust lint -",
    applies=lambda unread: unread.kind == "template",
)
def _unread(unread: Unread) -> Iterator[Violation]:
    yield Violation(text=unread.reason, fix=unread.fix)


def read_files(paths: Iterable[Path]) -> Material:
    """Read files, directories with all that is below them, and standard input where a path is ``-``.

    Of a directory those files are read whose names end as YAML, JSON and PEM files do. Nothing is raised for
    unreadable files: they are in `Material.unread`.
    """
    material = Material()
    for path in paths:
        if str(path) == STDIN:
            material.files += 1
            _read_bytes("stdin", sys.stdin.buffer.read(_LARGEST + 1), material, below="")
        elif path.is_dir():
            for file in _files_below(path, material):
                _read_file(file, material, below=str(file.relative_to(path)))
        else:
            _read_file(path, material, below="")
    return material


def add_text(material: Material, file: str, text: str) -> None:
    """Add the documents of a text to the material."""
    # YAML may begin with a byte order mark.
    read = read_text(file, text.removeprefix(BYTE_ORDER_MARK), defaults=_is_beside_a_chart(file))
    material.documents += read.documents
    material.others += read.others
    material.unread += unread_of(file, read)


def unread_of(file: str, read: Text) -> list[Unread]:
    """Return the parts of a text that could not be parsed."""
    return [
        Unread(
            name=file,
            kind="template" if one.template else "yaml",
            reason="is a template, which is not judged" if one.template else f"is not YAML: {one.reason}",
            location=Location(file, one.line + 1),
        )
        for one in read.unparsed
    ]


def _files_below(directory: Path, material: Material) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        _refuse(material, str(error.filename), f"cannot be read: {error.strerror}")

    for parent, directories, names in os.walk(directory, onerror=unreadable):
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in _PASSED_OVER)
        for name in sorted(names):
            if not name.startswith(".") and _suffix(name) in _YAML_SUFFIXES | _PEM_SUFFIXES:
                yield Path(parent) / name


def _suffix(name: str) -> str:
    """Return the suffix of a file's name; for a template, that of the rendered file."""
    path = Path(name)
    return (Path(path.stem) if path.suffix.lower() in _TEMPLATE_SUFFIXES else path).suffix.lower()


def _read_file(path: Path, material: Material, *, below: str) -> None:
    material.files += 1
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        _refuse(material, str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return
    _read_bytes(str(path), content, material, below=below)


def _read_bytes(file: str, content: bytes, material: Material, *, below: str) -> None:
    suffix = _suffix(file)
    if len(content) > _LARGEST:
        _refuse(material, file, f"is larger than {_LARGEST // 1_000_000} MB")
        return
    try:
        text = content.decode()
    except UnicodeDecodeError:
        unread = _why_no_text(content)
        # The files around it decide whose PEM file it is; an unreadable YAML file is a finding by itself.
        if suffix in _PEM_SUFFIXES:
            material.pem_files.append(PemFile(file=file, text="", below=below, unread=unread))
        elif not below or suffix in _YAML_SUFFIXES:
            _refuse(material, file, *unread)
        return
    if suffix in _PEM_SUFFIXES or (suffix not in _YAML_SUFFIXES and _PEM_LINE.search(text)):
        material.pem_files.append(PemFile(file=file, text=text, below=below))
    else:
        add_text(material, file, text)


def _why_no_text(content: bytes) -> tuple[str, str | None]:
    if content.startswith(_UTF16):
        return "is UTF-16, and has to be UTF-8 without a byte order mark", _UTF8
    if content[:1] == b"\x30":
        return (
            "is DER, not PEM, and Linkerd reads PEM alone",
            "Turn it into PEM: openssl x509 -inform der -in <file> -out <file>; a key by openssl pkey",
        )
    return "is not text in UTF-8", None


def _refuse(material: Material, file: str, reason: str, fix: str | None = None) -> None:
    material.unread.append(Unread(name=file, kind="text", reason=reason, fix=fix, location=Location(file)))


def _is_beside_a_chart(file: str) -> bool:
    try:
        return Path(file).with_name("Chart.yaml").is_file()
    except (OSError, ValueError):
        return False


def lint_reading(material: Material) -> Iterator[Finding]:
    """Yield a finding for each thing that could not be read."""
    for unread in material.unread:
        yield from READING.check(unread)
