"""The rules of mesh credentials as pure functions: they judge what they are given and read nothing themselves."""

from meshtrust.lint.anchors import ANCHORS, BUNDLES, lint_trust_anchor
from meshtrust.lint.certificates import CERTIFICATES
from meshtrust.lint.cluster import NAMESPACES, TRUST_BUNDLES
from meshtrust.lint.credentials import CREDENTIALS, LEAF_LIFETIME
from meshtrust.lint.files import READING, read_files
from meshtrust.lint.helm import HELM, lint_helm_values
from meshtrust.lint.relations import lint_material
from meshtrust.lint.rule import Finding, Location, Rule, Severity
from meshtrust.lint.secrets import SECRETS
from meshtrust.lint.windows import SUCCESSIONS, WINDOWS, lint_issuer_window

# Every kind of subject that is judged, in the order of the rules' ids.
GROUPS = (
    READING,
    ANCHORS,
    BUNDLES,
    CREDENTIALS,
    WINDOWS,
    SUCCESSIONS,
    CERTIFICATES,
    SECRETS,
    HELM,
    NAMESPACES,
    TRUST_BUNDLES,
)
RULES: tuple[Rule, ...] = tuple(rule for group in GROUPS for rule in group.rules)

__all__ = [
    "GROUPS",
    "LEAF_LIFETIME",
    "RULES",
    "Finding",
    "Location",
    "Rule",
    "Severity",
    "lint_helm_values",
    "lint_issuer_window",
    "lint_material",
    "lint_trust_anchor",
    "read_files",
]
