"""The rules of mesh credentials as pure functions: they judge what they are given and read nothing themselves."""

from meshtrust.lint.anchors import ANCHORS, BUNDLES, lint_trust_anchor
from meshtrust.lint.bundles import TRUST_BUNDLES
from meshtrust.lint.certificates import CERTIFICATES
from meshtrust.lint.cluster import NAMESPACES, TRUST_ROOTS_SECRETS
from meshtrust.lint.credentials import CREDENTIALS, LeafLifetime
from meshtrust.lint.files import READING, read_files
from meshtrust.lint.helm import HELM, leaf_of, lint_helm_values
from meshtrust.lint.issuance import SIGNINGS
from meshtrust.lint.linkerd import LEAF_LIFETIME
from meshtrust.lint.rule import Finding, Location, Rule, Severity
from meshtrust.lint.runner import LintResult, lint_material
from meshtrust.lint.schema import DUPLICATES, MANIFESTS
from meshtrust.lint.secrets import SECRETS
from meshtrust.lint.webhooks import WEBHOOK_CONFIGURATIONS, WEBHOOK_SECRETS
from meshtrust.lint.windows import LIFETIMES_UNDER_CAS, WINDOWS, lint_issuer_window

# Every kind of subject that is judged, in the order of the rules' ids.
RULE_SETS = (
    READING,
    ANCHORS,
    BUNDLES,
    CREDENTIALS,
    WINDOWS,
    LIFETIMES_UNDER_CAS,
    CERTIFICATES,
    SIGNINGS,
    SECRETS,
    WEBHOOK_SECRETS,
    HELM,
    WEBHOOK_CONFIGURATIONS,
    NAMESPACES,
    TRUST_BUNDLES,
    TRUST_ROOTS_SECRETS,
    MANIFESTS,
    DUPLICATES,
)
RULES: tuple[Rule, ...] = tuple(rule for rules in RULE_SETS for rule in rules.rules)

__all__ = [
    "LEAF_LIFETIME",
    "RULES",
    "RULE_SETS",
    "Finding",
    "LeafLifetime",
    "LintResult",
    "Location",
    "Rule",
    "Severity",
    "leaf_of",
    "lint_helm_values",
    "lint_issuer_window",
    "lint_material",
    "lint_trust_anchor",
    "read_files",
]
