"""YAML and JSON texts, document by document: which of them may matter to Linkerd, and where in a file things stand."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import yaml

from meshtrust.lint.rule import Location
from meshtrust.lint.values import TEMPLATE

_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|$)", re.MULTILINE)
_KIND = re.compile(r"""^([ \t-]*)["']?kind["']?[ \t]*:[ \t]*(?:!!str[ \t]+)?["']?([A-Za-z]+)""", re.MULTILINE)
# Documents in JSON, or in YAML's own way of it; a template may begin with two braces.
_FLOW = re.compile(r"[-\s]*(\{(?![{%#])|\[(?!\[))")
_KINDS = {
    *("Certificate", "Issuer", "ClusterIssuer", "Secret", "ConfigMap", "Bundle", "ClusterBundle", "Namespace"),
    *("HelmRelease", "Application", "ApplicationSet", "HelmChart", "HelmChartConfig", "HelmChartInflationGenerator"),
    *("Kustomization", "Component", "ControlPlane", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
}
# What makes a document without a kind worth reading: one of the values that the linter judges, or a chart of Linkerd.
_VALUES = re.compile(
    r"""^[ \t-]*["']?(identity|identityTrustAnchorsPEM|identityTrustDomain|webhookFailurePolicy|proxyInjector|"""
    r"""profileValidator|policyValidator|helmCharts|configMapGenerator|secretGenerator)["']?[ \t]*:"""
    r"""|linkerd-(enterprise-)?control-plane|identityTrustAnchors""",
    re.MULTILINE | re.IGNORECASE,
)
_FLOW_KIND = re.compile(r"""["']?kind["']?\s*:\s*["']?([A-Za-z]+)""")
_FLOW_VALUES = re.compile(
    r"""["']?(identityTrust\w+|externalCA|externalSecret|issuanceLifetime|scheme)["']?\s*:|identity\.issuer\."""
)
# Most templates are not about a mesh.
_LINKERD = re.compile(r"linkerd|identityTrust|cert-manager\.io", re.IGNORECASE)
# Texts that make a document of any other kind relevant.
_CARRIED = re.compile(r"identityTrustAnchorsPEM|controlPlaneConfig|linkerd-(enterprise-)?control-plane\b")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML document.

    Attributes:
        file: The file, as it was named.
        value: Its content.
        node: The same with its places; None if they are not known.
        offset: The line of the file, from 0, that the document begins in.
        defaults: Whether it is beside a Chart.yaml, so that its values are defaults which others override.
        duplicates: Keys that stand more than once in one map: the path of each, and its lines in the file, from 1.
    """

    file: str
    value: Any
    node: yaml.Node | None
    offset: int = 0
    defaults: bool = False
    duplicates: tuple[tuple[str, tuple[int, ...]], ...] = ()

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
        # The last of several keys of one name is the one that counts.
        for key, value in reversed(node.value):
            if isinstance(key, yaml.ScalarNode) and (name == key.value or name.startswith(f"{key.value}.")):
                rest = name[len(key.value) + 1 :]
                return key.start_mark.line, value, [rest, *others] if rest else others
    return None


@dataclass(frozen=True, kw_only=True)
class Unparsed:
    """A document that could not be parsed.

    Attributes:
        template: Whether it is a template, whose content is known only after rendering.
        reason: The fault otherwise, in plain words and without any part of the text.
        line: The faulty line of the file, from 0.
    """

    template: bool
    reason: str
    line: int


@dataclass(kw_only=True)
class Text:
    """Documents of a text of YAML or JSON.

    Attributes:
        documents: The documents that may matter to Linkerd.
        unparsed: Those that could not be parsed.
        others: How many documents there are besides, by their kind.
    """

    documents: list[Document] = field(default_factory=list)
    unparsed: list[Unparsed] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


class _Loader(_LOADER):  # type: ignore[misc]
    """Reads YAML as Kubernetes does: a date is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# A tag of somebody's own, such as Ansible's !vault, stands for what is filled in later.
_Loader.add_constructor(None, lambda *_: "<tag:unknown>")

# A value that cannot be made is a ValueError, nesting without end a RecursionError, a map as a key a TypeError.
_BROKEN = (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError)


def read_text(file: str, text: str, *, offset: int = 0, defaults: bool = False, is_relevant: bool = False) -> Text:
    """Return the documents of a text.

    Each document is read on its own, so that one that is broken does not hide the others.

    Args:
        file: The file, as it was named.
        text: What it holds.
        offset: The line of the file, from 0, that the text begins in.
        defaults: Whether the file lies beside a Chart.yaml.
        is_relevant: Whether all of it may matter, whatever it looks like.
    """
    read = Text()
    for chunk, line in _chunks(text):
        kind, matters = _look_at(chunk)
        if not (matters or is_relevant):
            if chunk.strip(" \t\r\n-") and not _is_comment(chunk):
                read.others[kind or "plain document"] += 1
            continue
        try:
            node = _compose(chunk)
            value = _construct(node)
        except _BROKEN as error:
            parsed = _as_json(chunk)
            if parsed is not None:
                read.documents.append(Document(file=file, value=parsed, node=None))
            else:
                unparsed = _unparsed(chunk, error, offset + line)
                # Only the nearest directories count: a whole tree may be below a directory of that name.
                near = "/".join(PurePath(file).parts[-3:])
                if unparsed.template and not _LINKERD.search(f"{near}\n{chunk}"):
                    read.others["template"] += 1
                else:
                    read.unparsed.append(unparsed)
            continue
        if node is not None:
            duplicates = tuple(_duplicates(node, offset + line))
            read.documents.append(
                Document(
                    file=file, value=value, node=node, offset=offset + line, defaults=defaults, duplicates=duplicates
                )
            )
    return read


def _chunks(text: str) -> Iterator[tuple[str, int]]:
    """Yield the documents of a text, each with the line, from 0, that it begins in."""
    starts = [match.start() for match in _SEPARATOR.finditer(text)]
    if not starts or text[: starts[0]].strip():
        starts.insert(0, 0)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        chunk, line = text[start:end], text.count("\n", 0, start)
        if chunk.lstrip("- \t\r\n\ufeff")[:1] == "{":
            yield from _json_objects(chunk, line)
        # Directives belong to the document after them, and change nothing in it.
        elif not re.match(r"\s*%(YAML|TAG)\b", chunk):
            yield chunk, line


def _json_objects(chunk: str, line: int) -> Iterator[tuple[str, int]]:
    """Yield the objects of a text that has several in JSON one after the other; or the text, if it has but one."""
    decoder, position, found = json.JSONDecoder(), chunk.index("{"), []
    while position < len(chunk):
        try:
            _, end = decoder.raw_decode(chunk, position)
        except (ValueError, RecursionError):
            break
        found.append((chunk[position:end], line + chunk.count("\n", 0, position)))
        position = end + len(chunk[end:]) - len(chunk[end:].lstrip(", \t\r\n"))
    yield from found if len(found) > 1 and position >= len(chunk) else [(chunk, line)]


def _look_at(chunk: str) -> tuple[str, bool]:
    """Return the kind of a document, empty if it has none, and whether the document may matter to Linkerd."""
    kinds = _KIND.findall(chunk)
    if _FLOW.match(chunk) is not None:
        kinds = kinds or [("", kind) for kind in _FLOW_KIND.findall(chunk)]
        matters = any(kind in _KINDS or kind.endswith("List") for _, kind in kinds)
        return kinds[0][1] if kinds else "", matters or _FLOW_VALUES.search(chunk) is not None
    if not kinds:
        return "", _VALUES.search(chunk) is not None
    # Manifests may hold others as texts, above the line of their own kind.
    _, kind = min(kinds, key=lambda found: len(found[0]))
    if kind == "Deployment" and "cert-manager" in chunk:
        return kind, True
    return kind, kind in _KINDS or kind.endswith("List") or _CARRIED.search(chunk) is not None


def _is_comment(chunk: str) -> bool:
    return all(line.strip(" \t\r-")[:1] in ("", "#") for line in chunk.split("\n"))


def _compose(chunk: str) -> yaml.Node | None:
    loader = _Loader(chunk)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
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


def _duplicates(root: yaml.Node, offset: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the keys that stand in one map more than once, each with its lines in the file, from 1."""
    waiting: list[tuple[str, yaml.Node]] = [("", root)]
    seen: set[int] = set()
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(f"{path}[{index}]", item) for index, item in enumerate(node.value)]
            continue
        lines: dict[str, list[int]] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            below = f"{path}.{name}".lstrip(".")
            waiting.append((below, value))
            if name and name != "<<":
                lines.setdefault(below, []).append(offset + key.start_mark.line + 1)
        yield from ((name, tuple(where)) for name, where in lines.items() if len(where) > 1)


def _unparsed(chunk: str, error: Exception, line: int) -> Unparsed:
    mark = getattr(error, "problem_mark", None)
    template = TEMPLATE.search(chunk)
    if template is not None:
        return Unparsed(template=True, reason="", line=line + chunk.count("\n", 0, template.start()))
    problem = str(getattr(error, "problem", None) or error)
    reason = next((reason for pattern, reason in _PROBLEMS if pattern.search(problem)), _PROBLEM)
    return Unparsed(template=False, reason=reason, line=line + (mark.line if mark is not None else 0))


# The parser's own words are about its parts, and quote the text, which may hold a key.
_PROBLEMS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"tab|'\\t'", "a tab stands where YAML wants blanks"),
        (r"cannot start any token", "the line begins with a character that needs quotes"),
        (r"mapping values are not allowed", "a colon stands where no key can be, or the line is indented too deep"),
        (
            r"could not find expected ':'",
            "a line without a colon stands where a key belongs, as a text that lost its indentation does",
        ),
        (
            r"unexpected end of stream|found end|expected ',' or|expected '\]'|expected '\}'",
            "a quote or a bracket is not closed",
        ),
        (r"undefined alias", "an alias (*) names no anchor (&)"),
        (r"unhashable|unacceptable key|hash", "a map or a list stands where a key belongs"),
        (r"recursion|nest|depth", "it is nested too deep"),
        (r"special characters|not allowed|control char", "it holds a character that YAML does not allow"),
    )
)
_PROBLEM = "the line is not indented as those around it, or the text breaks off"
