"""Reads files for the linter: YAML documents that may matter to Linkerd, and PEM."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from meshtrust.lint.rule import Finding, Location, RuleSet

STDIN = "-"
_YAML_SUFFIXES = {".yaml", ".yml", ".json"}
_PEM_SUFFIXES = {".pem", ".crt", ".cer", ".key"}
_PASSED_OVER = {"node_modules", "__pycache__"}
# Enough for a cluster's dump; more is no file of credentials.
_LARGEST = 20_000_000

_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|$)", re.MULTILINE)
_KIND = re.compile(r"""^kind:[ \t]*["']?([A-Za-z]+)""", re.MULTILINE)
_PEM_LINE = re.compile(r"^-----BEGIN ", re.MULTILINE)
# A document in JSON, or in YAML's own way of it; a template may begin with two braces.
_FLOW = re.compile(r"[-\s]*(\{(?!\{)|\[)")
_KINDS = {
    *("Certificate", "Issuer", "ClusterIssuer", "Secret", "ConfigMap", "Bundle", "Namespace"),
    *("HelmRelease", "Application", "Deployment", "List"),
}
# What makes a document without a kind worth reading: one of the values that the linter judges.
_VALUES = re.compile(
    r"""^[ \t]*["']?(identity|identityTrustAnchorsPEM|identityTrustDomain|webhookFailurePolicy|proxyInjector|"""
    r"""profileValidator|policyValidator|linkerd-control-plane)["']?[ \t]*:""",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML document.

    Attributes:
        file: The file, as it was named.
        value: What it says.
        node: The same with its places; none where they are not known.
        offset: The line of the file, from 0, that the document begins in.
        defaults: Whether it lies beside a Chart.yaml, so that its values are what others come on top of.
    """

    file: str
    value: Any
    node: yaml.Node | None
    offset: int = 0
    defaults: bool = False

    def locate(self, *path: str | int) -> Location:
        """Return where a path stands: its key, or of a text that is written line by line its first line.

        Args:
            path: Positions in lists, and keys joined by dots, which the keys themselves may contain.
        """
        node, line, folded = self.node, None, False
        parts: list[str | int] = [part for part in path if part != ""]
        while parts and node is not None:
            found = _step(node, parts)
            if found is None:
                break
            line, node, parts = found
        if isinstance(node, yaml.ScalarNode) and not parts:
            if node.style == "|":
                line = node.start_mark.line + 1
            else:
                folded = True
        if line is None and self.node is not None:
            line = self.node.start_mark.line
        return Location(self.file, None if line is None else self.offset + line + 1, folded)


def _step(node: yaml.Node, parts: list[str | int]) -> tuple[int, yaml.Node, list[str | int]] | None:
    """Return the line and the node that a path's first part leads to, and the rest of the path."""
    first, *others = parts
    if isinstance(node, yaml.SequenceNode) and isinstance(first, int) and first < len(node.value):
        return node.value[first].start_mark.line, node.value[first], others
    if isinstance(node, yaml.MappingNode):
        name = str(first)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and (name == key.value or name.startswith(f"{key.value}.")):
                rest = name[len(key.value) + 1 :]
                return key.start_mark.line, value, [rest, *others] if rest else others
    return None


@dataclass(frozen=True, kw_only=True)
class PemFile:
    """A file of PEM blocks: its name and its text."""

    file: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Unread:
    """What could not be read.

    Attributes:
        name: The file.
        kind: Why: there is no text, the text is no YAML, or it is a template.
        reason: The same in words.
        location: Where it stands.
    """

    name: str
    kind: str
    reason: str
    location: Location


@dataclass(kw_only=True)
class Material:
    """What was read.

    Attributes:
        documents: YAML documents that may matter.
        pem_files: Files of PEM blocks.
        unread: What could not be read.
        files: How many files were opened.
    """

    documents: list[Document] = field(default_factory=list)
    pem_files: list[PemFile] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    files: int = 0


READING = RuleSet[Unread]("A file")


@READING.rule(
    "MT001",
    "error",
    "The file cannot be read",
    reason="What cannot be read is not judged, and may hold anything.",
    source="meshtrust",
    fix="Name a file or a directory that exists, that this user may read, and that holds text in UTF-8",
)
def _no_text(unread: Unread) -> Iterator[str]:
    if unread.kind == "text":
        yield unread.reason


@READING.rule(
    "MT002",
    "error",
    "The document is no YAML",
    reason="What cannot be read is not judged, and Kubernetes and Helm refuse it as well.",
    source="YAML 1.1, as Kubernetes reads it",
    fix="Correct the line",
)
def _no_yaml(unread: Unread) -> Iterator[str]:
    if unread.kind == "yaml":
        yield unread.reason


@READING.rule(
    "MT003",
    "note",
    "The document is a template",
    reason="A template says what it says only once its values are filled in.",
    source="Helm, chart templates",
    fix="Render it, and judge what comes out: helm template <chart> | meshtrust lint -",
)
def _template(unread: Unread) -> Iterator[str]:
    if unread.kind == "template":
        yield unread.reason


def read_files(paths: Iterable[Path]) -> Material:
    """Read files, directories with all that is below them, and standard input where a path is ``-``.

    Of a directory those files are read whose names end as YAML, JSON and PEM files do. Nothing is raised of what cannot
    be read: it is among `Material.unread`.
    """
    material = Material()
    for path in paths:
        if str(path) == STDIN:
            _read_stdin(material)
        elif path.is_dir():
            for file in _files_below(path, material):
                _read_file(file, material, named=False)
        else:
            _read_file(path, material, named=True)
    return material


def _files_below(directory: Path, material: Material) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        _refuse(material, str(error.filename), f"cannot be read: {error.strerror}")

    for parent, directories, names in os.walk(directory, onerror=unreadable):
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in _PASSED_OVER)
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in _YAML_SUFFIXES | _PEM_SUFFIXES:
                yield Path(parent) / name


def _read_stdin(material: Material) -> None:
    material.files += 1
    _read_bytes("stdin", sys.stdin.buffer.read(_LARGEST + 1), material, named=True)


def _read_file(path: Path, material: Material, *, named: bool) -> None:
    material.files += 1
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        _refuse(material, str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return
    _read_bytes(str(path), content, material, named=named)


def _read_bytes(file: str, content: bytes, material: Material, *, named: bool) -> None:
    suffix = Path(file).suffix.lower()
    if len(content) > _LARGEST:
        _refuse(material, file, f"is larger than {_LARGEST // 1_000_000} MB")
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Below a directory such a file is somebody else's: a certificate in DER, a key ring.
        if named or suffix in _YAML_SUFFIXES:
            hint = "; Linkerd reads PEM: openssl x509 -inform der" if suffix in _PEM_SUFFIXES else ""
            _refuse(material, file, f"is not text in UTF-8{hint}")
        return
    if suffix not in _YAML_SUFFIXES and _PEM_LINE.search(text):
        material.pem_files.append(PemFile(file=file, text=text))
    elif suffix not in _PEM_SUFFIXES:
        read_yaml(file, text, material)


def _refuse(material: Material, file: str, reason: str) -> None:
    material.unread.append(Unread(name=file, kind="text", reason=reason, location=Location(file)))


class _Loader(yaml.SafeLoader):
    """Reads YAML as Kubernetes does: a date is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# A tag of somebody's own, such as Ansible's !vault, stands for what is filled in later.
_Loader.add_constructor(None, lambda *_: "<tag:unknown>")


def read_yaml(file: str, text: str, material: Material, offset: int = 0) -> None:
    """Add the documents of a text that may matter to the material.

    Each document is read on its own, so that one that is broken does not hide the others.
    """
    for chunk, line in _documents(text):
        if not _may_matter(chunk):
            continue
        try:
            node = _compose(chunk)
            value = _construct(node)
        except _BROKEN as error:
            parsed = _as_json(chunk)
            if parsed is not None:
                material.documents.append(Document(file=file, value=parsed, node=None))
            else:
                material.unread.append(_broken(file, chunk, error, offset + line))
            continue
        if node is not None:
            material.documents.append(
                Document(file=file, value=value, node=node, offset=offset + line, defaults=_is_beside_a_chart(file))
            )


def _is_beside_a_chart(file: str) -> bool:
    try:
        return Path(file).with_name("Chart.yaml").is_file()
    except (OSError, ValueError):
        return False


# A value that cannot be made is a ValueError, nesting without end a RecursionError, a map as a key a TypeError.
_BROKEN = (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError)


def _documents(text: str) -> Iterator[tuple[str, int]]:
    """Yield the documents of a text, each with the line, from 0, that it begins in."""
    starts = [match.start() for match in _SEPARATOR.finditer(text)]
    if not starts or text[: starts[0]].strip():
        starts.insert(0, 0)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        chunk = text[start:end]
        # Directives belong to the document after them, which says nothing that they change.
        if not chunk.lstrip().startswith("%"):
            yield chunk, text.count("\n", 0, start)


def _may_matter(chunk: str) -> bool:
    kind = _KIND.search(chunk)
    if kind is None:
        return _FLOW.match(chunk) is not None or _VALUES.search(chunk) is not None
    if kind.group(1) == "Deployment":
        return "cert-manager" in chunk
    return kind.group(1) in _KINDS or kind.group(1).endswith("List")


def _compose(chunk: str) -> yaml.Node | None:
    loader = _Loader(chunk)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _construct(node: yaml.Node | None) -> Any:
    if node is None:
        return None
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _as_json(chunk: str) -> Any:
    """Return JSON that YAML does not read, such as one that is indented with tabs."""
    try:
        return json.loads(chunk)
    except (ValueError, RecursionError):
        return None


def _broken(file: str, chunk: str, error: Exception, line: int) -> Unread:
    if "{{" in chunk:
        location = Location(file, line + 1 + chunk.count("\n", 0, chunk.index("{{")))
        return Unread(name=file, kind="template", reason="is a template, which is not judged", location=location)
    mark = getattr(error, "problem_mark", None)
    location = Location(file, line + 1 + (mark.line if mark is not None else 0))
    # The parser's own message quotes the text, which may hold a key.
    problem = re.sub(r"'[^']{2,}'|\"[^\"]{2,}\"", "…", str(getattr(error, "problem", None) or type(error).__name__))
    return Unread(name=file, kind="yaml", reason=f"is no YAML: {problem}", location=location)


def lint_reading(material: Material) -> Iterator[Finding]:
    """Say what could not be read."""
    for unread in material.unread:
        yield from READING.check(unread)
