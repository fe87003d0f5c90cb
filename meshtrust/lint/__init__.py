"""The linter: rules about mesh credentials, the readers of files that it checks, and its reports.

Rules are pure functions of what was read. Imports `pki` and `names` only. What is exported here are the rules that a
deployment checks itself by; what reads files (`reading.files`, `runner`, `rule_sets`) is imported by those who lint.
"""

from meshtrust.lint.requirements import LEAF_LIFETIME
from meshtrust.lint.rule import Finding, Location
from meshtrust.lint.rules.anchors import lint_trust_anchor
from meshtrust.lint.rules.credentials import LeafLifetime
from meshtrust.lint.rules.helm import leaf_of, lint_helm_values
from meshtrust.lint.rules.vault import VAULT_ISSUERS, VaultIssuer
from meshtrust.lint.rules.windows import lint_issuer_window

__all__ = [
    "LEAF_LIFETIME",
    "VAULT_ISSUERS",
    "Finding",
    "LeafLifetime",
    "Location",
    "VaultIssuer",
    "leaf_of",
    "lint_helm_values",
    "lint_issuer_window",
    "lint_trust_anchor",
]
