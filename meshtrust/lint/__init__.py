"""The linter: rules about mesh credentials, the readers of files that it checks, and its reports.

Rules are pure functions of what was read. Imports `pki` and `names` only.
"""

from meshtrust.lint.reading.files import READING, read_files
from meshtrust.lint.reading.schema import DUPLICATES, MANIFESTS
from meshtrust.lint.relations.issuance import SIGNINGS
from meshtrust.lint.requirements import LEAF_LIFETIME
from meshtrust.lint.rule import Finding, Location, Rule, Severity
from meshtrust.lint.rules.anchors import ANCHORS, BUNDLES, lint_trust_anchor
from meshtrust.lint.rules.bundles import TRUST_BUNDLES
from meshtrust.lint.rules.certificates import CERTIFICATES
from meshtrust.lint.rules.cluster import NAMESPACES, TRUST_ROOTS_SECRETS
from meshtrust.lint.rules.credentials import CREDENTIALS, LeafLifetime
from meshtrust.lint.rules.helm import HELM, leaf_of, lint_helm_values
from meshtrust.lint.rules.secrets import SECRETS
from meshtrust.lint.rules.vault import VAULT_ISSUERS, VaultIssuer
from meshtrust.lint.rules.webhooks import WEBHOOK_CONFIGURATIONS, WEBHOOK_SECRETS
from meshtrust.lint.rules.windows import LIFETIMES_UNDER_CAS, WINDOWS, lint_issuer_window
from meshtrust.lint.runner import LintResult, lint_material

# The kinds of subjects, in the order of the rules' ids.
RULE_SETS = (
    READING,
    ANCHORS,
    BUNDLES,
    CREDENTIALS,
    WINDOWS,
    LIFETIMES_UNDER_CAS,
    CERTIFICATES,
    SIGNINGS,
    VAULT_ISSUERS,
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
    "VAULT_ISSUERS",
    "Finding",
    "LeafLifetime",
    "LintResult",
    "Location",
    "Rule",
    "Severity",
    "VaultIssuer",
    "leaf_of",
    "lint_helm_values",
    "lint_issuer_window",
    "lint_material",
    "lint_trust_anchor",
    "read_files",
]
