"""The control plane's Namespace, and the Bundles that select it."""

from collections.abc import Iterator

from meshtrust.lint.context import LintContext
from meshtrust.lint.objects import is_related, nearest
from meshtrust.lint.reading.schema import MANIFESTS, Manifest
from meshtrust.lint.rule import Finding
from meshtrust.lint.rules.bundles import TRUST_BUNDLES
from meshtrust.lint.rules.cluster import NAMESPACES, ControlPlaneNamespace
from meshtrust.lint.values import mapping
from meshtrust.names import (
    CONTROL_PLANE_LABEL,
)


def lint_cluster(context: LintContext) -> Iterator[Finding]:
    """Check the Namespaces of control planes, and the Bundles of trust roots."""
    targets = {one.namespace for one in context.installations if one.namespace}
    for one in context.of_kind("Namespace"):
        if one.name in {"linkerd", *targets} or CONTROL_PLANE_LABEL in mapping(one.get("metadata.labels")):
            context.judged.add(id(one))
            namespace = ControlPlaneNamespace(
                object_name=one.name,
                manifest=mapping(one.manifest),
                cni=context.uses_cni(one.file),
                selector=_selector(context, one.file),
                locate=one.locate,
            )
            yield from NAMESPACES.check(namespace)
    for one in context.trust_bundles:
        context.judged.add(id(one))
        yield from MANIFESTS.check(Manifest(one=one, part=context.is_part(one)))
        yield from TRUST_BUNDLES.check(context.trust_bundle(one))


def _selector(context: LintContext, file: str) -> dict[str, object]:
    """Return the namespace selector of the Bundle of trust roots that goes with a file; empty if none was read."""
    related = [one for one in context.trust_bundles if is_related(one.file, file)]
    near = nearest(related, file, lambda one: one.file)
    return dict(context.trust_bundle(near[0]).selector) if near else {}
