"""The linter's rules, in sets by kind of subject."""

from meshtrust.lint.reading.files import READING
from meshtrust.lint.reading.schema import DUPLICATES, MANIFESTS
from meshtrust.lint.relations.issuance import SIGNINGS
from meshtrust.lint.rule import Rule
from meshtrust.lint.rules.anchors import ANCHORS, BUNDLES
from meshtrust.lint.rules.bundles import TRUST_BUNDLES
from meshtrust.lint.rules.certificates import CERTIFICATES
from meshtrust.lint.rules.cluster import NAMESPACES, TRUST_ROOTS_SECRETS
from meshtrust.lint.rules.credentials import CREDENTIALS
from meshtrust.lint.rules.helm import HELM
from meshtrust.lint.rules.secrets import SECRETS
from meshtrust.lint.rules.vault import VAULT_ISSUERS
from meshtrust.lint.rules.webhooks import WEBHOOK_CONFIGURATIONS, WEBHOOK_SECRETS
from meshtrust.lint.rules.windows import LIFETIMES_UNDER_CAS, WINDOWS

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
