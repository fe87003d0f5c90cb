"""Repeated keys in documents that rules were applied to."""

from collections.abc import Iterator

from meshtrust.lint.context import LintContext
from meshtrust.lint.reading.files import Material
from meshtrust.lint.reading.schema import DUPLICATES, Duplicate
from meshtrust.lint.rule import Finding, Location


def lint_duplicates(context: LintContext, material: Material) -> Iterator[Finding]:
    """Yield the keys that stand twice in the documents that rules were applied to."""
    titles: dict[int, list[str]] = {}
    for one in context.objects:
        if id(one) in context.judged or id(one) in context.carriers:
            titles.setdefault(id(one.document), []).append(one.title)
    for document in material.documents:
        named = titles.get(id(document), ["Helm value"] if id(document) in context.carriers else [])
        for path, lines in document.duplicates if named else ():
            title = named[0] if len(named) == 1 else "The document's"
            location = Location(document.file, lines[-1])
            yield from DUPLICATES.check(Duplicate(title=title, path=path, lines=lines, location=location))
