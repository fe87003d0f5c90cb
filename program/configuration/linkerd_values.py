"""Checks of the Helm values that a stack adds to Linkerd's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE
from meshtrust.lint import lint_helm_values
from meshtrust.names import LICENSE_SECRET_VALUE, LICENSE_VALUE
from program.configuration.model import Configuration
from program.configuration.report import Report

# Helm values that carry the credentials: set by a stack, they would break the chain.
_OWNED_VALUES = {
    "identityTrustAnchorsPEM": "the bundle follows from meshtrust:anchors",
    "identityTrustDomain": "set meshtrust:trustDomain",
    "identity.externalCA": "set meshtrust:trustBundle.mode trust-manager",
    "identity.issuer.scheme": "the identity issuer is a Secret of type kubernetes.io/tls",
    "identity.issuer.tls": "the identity issuer is in Secret linkerd-identity-issuer",
    LICENSE_VALUE: "set meshtrust:linkerd.license",
    LICENSE_SECRET_VALUE: "set meshtrust:linkerd.licenseSecret",
}

_OWNED_WEBHOOKS = {
    f"{webhook.section}.{value}": "cert-manager issues the webhooks' certificates; or set meshtrust:webhooks.mode chart"
    for webhook in CONTROL_PLANE
    for value in ("externalSecret", "caBundle", "injectCaFrom", "injectCaFromSecret", "crtPEM", "keyPEM")
}


def check_linkerd_values(configuration: Configuration, report: Report) -> None:
    """Check that the values leave the credentials to the program, and keep the linter's rules."""
    key, values = "linkerd.values", configuration.linkerd.values
    owned = _OWNED_VALUES | _OWNED_WEBHOOKS if configuration.webhooks_by_cert_manager else _OWNED_VALUES
    for path, reason in owned.items():
        node: Any = values
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            report.refuse(key, f"sets {path}, which is the program's own", f"Remove it; {reason}")
            return
    for finding in lint_helm_values(values):
        report.add(replace(finding, subject=f"{key} {finding.subject}"))
