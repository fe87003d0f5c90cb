"""Values for Linkerd's chart, but for those that carry credentials."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE
from meshtrust.lint import lint_helm_values
from program.configuration.reader import Reader

# Helm values that carry the credentials. Set from outside, they would break the chain behind the program's back.
_OWNED_VALUES = {
    "identityTrustAnchorsPEM": "the bundle follows from meshtrust:anchors",
    "identityTrustDomain": "set meshtrust:trustDomain",
    "identity.externalCA": "set meshtrust:trustBundle.mode trust-manager",
    "identity.issuer.scheme": "the identity issuer is a Secret of type kubernetes.io/tls",
    "identity.issuer.tls": "the identity issuer is in Secret linkerd-identity-issuer",
}

_OWNED_WEBHOOKS = {
    f"{webhook.section}.{value}": "cert-manager issues the webhooks' certificates; or set meshtrust:webhooks.mode chart"
    for webhook in CONTROL_PLANE
    for value in ("externalSecret", "caBundle", "injectCaFrom", "injectCaFromSecret", "crtPEM", "keyPEM")
}


def read_linkerd_values(reader: Reader, *, owns_webhooks: bool) -> dict[str, Any]:
    """Return the values that the stack adds.

    Args:
        reader: Reads the configuration.
        owns_webhooks: Whether the program has the webhooks' certificates made, whose values are then its own.
    """
    owned = _OWNED_VALUES | _OWNED_WEBHOOKS if owns_webhooks else _OWNED_VALUES
    values = reader.helm_values(
        "linkerd.values",
        "have the webhooks' certificates made (meshtrust:webhooks.mode cert-manager); a key of anything else belongs "
        "into a Secret",
    )
    for path, reason in owned.items():
        node: Any = values
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            reader.refuse("linkerd.values", f"sets {path}, which is the program's own", f"Remove it; {reason}")
            return values
    for finding in lint_helm_values(values):
        subject = f"{reader.full_name('linkerd.values')} {finding.subject}"
        # What a rule quotes is a value.
        wrong = re.sub('".*"', "[secret]", finding.wrong) if reader.is_encrypted("linkerd.values") else finding.wrong
        reader.findings.append(replace(finding, subject=subject, wrong=wrong))
    return values
