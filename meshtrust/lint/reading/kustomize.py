"""Kustomize: which files are patches or are patched, and what generators make of files."""

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from meshtrust.lint.reading.documents import Document, read_text
from meshtrust.lint.rule import Location
from meshtrust.lint.values import at, mapping, sequence, text

# Flux has a resource of the same name, which applies a directory of a repository and may patch it.
_FLUX = "kustomize.toolkit.fluxcd.io/"
_PATCHES = ("patches", "patchesStrategicMerge", "patchesJson6902")


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A member of a ConfigMap or a Secret that a generator makes.

    Attributes:
        kind: ConfigMap or Secret.
        name: Name of the object.
        key: Name of the member.
        source: The file that it is made of; empty if its text stands in the Kustomization.
        text: Its text, if that stands in the Kustomization.
        location: Where it is asked for.
    """

    kind: str
    name: str
    key: str
    source: str
    text: str
    location: Location


@dataclass(kw_only=True)
class Kustomizations:
    """All Kustomizations that were read, taken together.

    Attributes:
        patches: Files that are patches.
        patched: Files and directories whose objects are patched.
        below: Directories likewise, by their names from the top of a repository.
        generated: What generators make.
        inline: Patches that stand in a Kustomization as texts.
    """

    patches: set[str] = field(default_factory=set)
    patched: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)
    generated: list[Generated] = field(default_factory=list)
    inline: list[Document] = field(default_factory=list)

    def is_part(self, file: str) -> bool:
        """Whether a file is a patch, or its objects are patched, so that a missing field may be set elsewhere."""
        path = os.path.normpath(file)
        known = path in self.patches or any(path == one or path.startswith(one + os.sep) for one in self.patched)
        return known or any(f"/{one}/" in f"/{PurePath(path).as_posix()}" for one in self.below)


def read_kustomizations(documents: Sequence[Document]) -> Kustomizations:
    """Return the patches and generators in the Kustomizations among all documents."""
    read = Kustomizations()
    for document in documents:
        name = PurePath(document.file).name
        kind = mapping(document.value).get("kind")
        if text(mapping(document.value).get("apiVersion")).startswith(_FLUX):
            patches = sequence(at(document.value, "spec.patches"))
            for index, patch in enumerate(patches):
                read.inline += _inline(document, ("spec.patches", index), patch, text(mapping(patch).get("patch")))
            if patches:
                read.below.add(os.path.normpath(text(at(document.value, "spec.path")) or "."))
        elif kind in ("Kustomization", "Component") or name.startswith("kustomization."):
            _read(document, read)
    return read


def _read(document: Document, read: Kustomizations) -> None:
    patched = False
    for member in _PATCHES:
        for index, patch in enumerate(sequence(at(document.value, member))):
            patched = True
            path = text(patch) or text(mapping(patch).get("path"))
            inline = path if "\n" in path else text(mapping(patch).get("patch"))
            if inline:
                read.inline += _inline(document, (member, index), patch, inline)
            elif path:
                read.patches.add(_beside(document, path))
    if patched:
        for resource in [*sequence(at(document.value, "resources")), *sequence(at(document.value, "bases"))]:
            if text(resource):
                read.patched.add(_beside(document, text(resource)))
    read.generated += _generated(document)


def _inline(document: Document, path: tuple[str, int], patch: Any, inline: str) -> list[Document]:
    where = (*path, "patch") if mapping(patch) else path
    location = document.locate(*where)
    offset = 0 if location.line is None or location.folded else location.line - 1
    found = []
    for one in read_text(document.file, inline, offset=offset, is_relevant=True).documents:
        operations = sequence(one.value)
        target = mapping(mapping(patch).get("target"))
        if operations and target.get("kind"):
            found.append(replace(one, value=_from_operations(operations, target), node=None, offset=offset))
        elif mapping(one.value):
            found.append(one)
    return found


def _from_operations(operations: list[Any], target: Any) -> dict[str, Any]:
    """Return the part of an object that JSON patches (RFC 6902) set, as far as they go through maps."""
    manifest: dict[str, Any] = {
        "apiVersion": f"{text(target.get('group'))}/{text(target.get('version')) or 'v1'}".lstrip("/"),
        "kind": target.get("kind"),
        "metadata": {"name": text(target.get("name")), "namespace": text(target.get("namespace"))},
    }
    for operation in operations:
        if mapping(operation).get("op") not in ("add", "replace"):
            continue
        *parents, last = text(mapping(operation).get("path")).lstrip("/").split("/")
        node = manifest
        for name in parents:
            below = node.setdefault(name.replace("~1", "/").replace("~0", "~"), {})
            if not isinstance(below, dict):
                break
            node = below
        else:
            node[last.replace("~1", "/").replace("~0", "~")] = operation.get("value")
    return manifest


def _generated(document: Document) -> Iterator[Generated]:
    for kind, member in (("ConfigMap", "configMapGenerator"), ("Secret", "secretGenerator")):
        for index, generator in enumerate(sequence(at(document.value, member))):
            name = text(mapping(generator).get("name"))
            for way in ("files", "literals"):
                for position, given in enumerate(sequence(mapping(generator).get(way))):
                    key, equals, rest = text(given).partition("=")
                    path = rest if equals else key
                    yield Generated(
                        kind=kind,
                        name=name,
                        key=key if equals else PurePath(key).name,
                        source=_beside(document, path) if way == "files" else "",
                        text=rest.strip("\"'") if way == "literals" else "",
                        location=document.locate(member, index, way, position),
                    )


def _beside(document: Document, path: str) -> str:
    return os.path.normpath(PurePath(document.file).parent / path)
