"""Kubernetes objects in the documents, and the nearest of several."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeVar

from meshtrust.lint.reading.documents import Document
from meshtrust.lint.rule import Location
from meshtrust.lint.values import at, mapping, sequence, text

T = TypeVar("T")

# Lists are nested this deep at most.
_DEEPEST_LIST = 3
# Manifests stand this deep in a resource that carries values at most.
_DEEPEST_OBJECT = 8
_CARRIERS = {"HelmRelease", "Application", "ApplicationSet"}


@dataclass(frozen=True, kw_only=True)
class Object:
    """A Kubernetes object and its place.

    Attributes:
        document: The document that holds it.
        path: Path to it in the document.
        manifest: Its content.
    """

    document: Document
    path: tuple[str | int, ...]
    manifest: Any

    @property
    def file(self) -> str:
        """The file, as it was named."""
        return self.document.file

    @property
    def kind(self) -> str:
        """Its kind."""
        return text(self.manifest.get("kind"))

    @property
    def group(self) -> str:
        """Group of its API; empty for the core."""
        return text(self.manifest.get("apiVersion")).rpartition("/")[0]

    @property
    def name(self) -> str:
        """Its name."""
        return text(at(self.manifest, "metadata.name"))

    @property
    def namespace(self) -> str:
        """Its namespace; empty if it does not name one."""
        return text(at(self.manifest, "metadata.namespace"))

    @property
    def title(self) -> str:
        """Its kind, namespace and name, as a sentence begins with it."""
        return f"{self.kind} {'/'.join(filter(None, (self.namespace, self.name)))}".strip()

    def get(self, path: str) -> Any:
        """Return the value at a dotted path; None if there is none."""
        return at(self.manifest, path)

    def locate(self, path: str) -> Location:
        """Return the place of a dotted path."""
        return self.document.locate(*self.path, path)


def objects_of(document: Document) -> Iterator[Object]:
    """Yield the objects of a document; a List, or a list of manifests, yields its items."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), document.value)]
    while waiting:
        path, manifest = waiting.pop(0)
        if isinstance(manifest, list) and not path:
            waiting += [((index,), item) for index, item in enumerate(manifest)]
            continue
        kind = text(mapping(manifest).get("kind"))
        if kind.endswith("List") and len(path) < 2 * _DEEPEST_LIST:
            waiting += [((*path, "items", index), item) for index, item in enumerate(_items(manifest))]
        elif kind and mapping(manifest).get("apiVersion"):
            yield Object(document=document, path=path, manifest=manifest)
            if kind in _CARRIERS:
                yield from _embedded(document, path, manifest)
        elif not path:
            yield from _embedded(document, path, manifest)


def _embedded(document: Document, path: tuple[str | int, ...], value: Any) -> Iterator[Object]:
    """Yield the objects within another, such as further manifests in a chart's values."""
    waiting = [(path, value)]
    while waiting:
        where, found = waiting.pop(0)
        is_object = isinstance(found, Mapping) and text(found.get("kind")) and text(found.get("apiVersion"))
        if is_object and isinstance(found.get("metadata"), Mapping) and where != path:
            yield Object(document=document, path=where, manifest=found)
        elif len(where) < len(path) + _DEEPEST_OBJECT:
            members = found.items() if isinstance(found, Mapping) else enumerate(sequence(found))
            waiting += [((*where, key if isinstance(key, int) else str(key)), member) for key, member in members]


def _items(manifest: Mapping[str, Any]) -> list[Any]:
    """Return the items of a List; items without a kind get that of their typed List."""
    given = {"apiVersion": manifest.get("apiVersion"), "kind": text(manifest.get("kind")).removesuffix("List")}
    return [
        {**given, **item} if given["kind"] and isinstance(item, Mapping) else item
        for item in sequence(manifest.get("items"))
    ]


def same_namespace(one: Object, other: Object) -> bool:
    """Whether two objects may be in one namespace; one that does not name its namespace may be in any."""
    return not one.namespace or not other.namespace or one.namespace == other.namespace


def is_related(one: str, other: str) -> bool:
    """Whether two files are in one directory, or one below the other's directory, as the files of one cluster are."""
    first, second = PurePath(one).parts[:-1], PurePath(other).parts[:-1]
    shortest = min(len(first), len(second))
    return first[:shortest] == second[:shortest]


def nearest(candidates: Sequence[T], file: str, file_of: Callable[[T], str]) -> list[T]:
    """Return the candidates whose file shares the most directories with a file, or those of the file itself."""

    def shared(candidate: T) -> int:
        other = file_of(candidate)
        if other == file:
            return len(PurePath(file).parts)
        count = 0
        for one, another in zip(PurePath(file).parts[:-1], PurePath(other).parts[:-1], strict=False):
            if one != another:
                break
            count += 1
        return count

    closest = max(map(shared, candidates), default=0)
    return [candidate for candidate in candidates if shared(candidate) == closest]
