"""A run of the linter: sorts what was read, checks each kind of subject, and gathers the findings."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from meshtrust.lint.context import LintContext
from meshtrust.lint.objects import objects_of
from meshtrust.lint.reading.files import Material, lint_reading
from meshtrust.lint.reading.kustomize import read_kustomizations
from meshtrust.lint.relations.installations import find_installations, find_operators
from meshtrust.lint.relations.issuance import Issuance
from meshtrust.lint.rule import Finding, Location
from meshtrust.lint.subjects.bundles import (
    bundles_in_pem_files,
    find_bundles,
    lint_bundles,
)
from meshtrust.lint.subjects.certificates import lint_certificates
from meshtrust.lint.subjects.cluster import lint_cluster
from meshtrust.lint.subjects.duplicates import lint_duplicates
from meshtrust.lint.subjects.installations import lint_installations, with_certificates
from meshtrust.lint.subjects.pem_files import lint_pem_files, sort_pem_files
from meshtrust.lint.subjects.secrets import lint_secrets
from meshtrust.lint.subjects.webhooks import lint_webhooks
from meshtrust.lint.values import is_placeholder


@dataclass(frozen=True, kw_only=True)
class LintResult:
    """Findings of a run, and how much it judged.

    Attributes:
        findings: The findings, in the order of files and lines.
        files: Number of files that were opened.
        judged: Number of objects, sets of Helm values and PEM files that rules were applied to.
        passed_over: Number of documents without credentials of Linkerd, by their kind.
        pem_files: PEM files that nothing connects with Linkerd.
    """

    findings: list[Finding]
    files: int
    judged: int
    passed_over: Counter[str]
    pem_files: tuple[str, ...]


def lint_material(material: Material, at: datetime) -> LintResult:
    """Judge what was read.

    Args:
        material: What was read.
        at: Moment at which it is judged, with a time zone.
    """
    kustomizations = read_kustomizations(material.documents)
    documents = [*material.documents, *kustomizations.inline]
    objects = [one for document in documents for one in objects_of(document)]
    operators = find_operators(objects)
    installations, unread = find_installations(documents, objects, kustomizations, operators)
    context = LintContext(
        at=at,
        objects=objects,
        kustomizations=kustomizations,
        installations=installations,
        issuance=Issuance(objects, operators, frozenset()),
        carriers={id(one.carrier) for one in installations},
    )
    sources = {source.name for one in context.trust_bundles for source in context.trust_bundle(one).sources}
    sources = {name for name in sources if not is_placeholder(name)}
    if sources:
        context.issuance = Issuance(objects, operators, frozenset(sources))
    context.installations = [with_certificates(context, one) for one in installations]
    context.bundles = find_bundles(context)
    found = [
        *lint_reading(material),
        *(finding for one in unread for finding in lint_reading(Material(unread=[one]))),
        *lint_installations(context),
        *lint_certificates(context),
        *lint_secrets(context),
        *lint_cluster(context),
        *lint_webhooks(context),
    ]
    ours, others = sort_pem_files(context, material)
    context.bundles += bundles_in_pem_files(context, ours)
    found += [*lint_bundles(context), *lint_pem_files(context, ours), *lint_duplicates(context, material)]
    passed_over = Counter(material.others)
    passed_over.update(one.kind for one in context.unjudged())
    return LintResult(
        findings=sorted(dict.fromkeys(found), key=_place),
        files=material.files,
        judged=len(context.judged) + len(installations) + sum(one.pem.unread is None for one in ours),
        passed_over=passed_over,
        pem_files=tuple(file.file for file in others),
    )


def _place(finding: Finding) -> tuple[str, int, str]:
    where = finding.location or Location("")
    return where.file, where.line or 0, finding.rule.id if finding.rule else ""
