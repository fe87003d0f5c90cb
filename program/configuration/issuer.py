"""Checks of the identity issuer: its lifetime, and the issuers of cert-manager that sign it."""

from datetime import timedelta

from components.identity_issuer import IssuerPolicy
from meshtrust.lint import leaf_of, lint_issuer_window
from program.configuration.model import Configuration
from program.configuration.report import Report


def check_lifetime(configuration: Configuration, report: Report) -> None:
    """Check the issuer's lifetime against cert-manager, the trust anchor and the proxies, by the linter's rules."""
    issuer, validity = configuration.issuer, timedelta(days=configuration.anchor.validity_days)
    leaf = leaf_of(configuration.linkerd.values, hidden=report.is_encrypted("linkerd.values"))
    for finding in lint_issuer_window(issuer.duration, issuer.renew_before, validity, leaf):
        report.add(finding)


def check_references(configuration: Configuration, report: Report) -> None:
    """Check that each generation has an issuer of cert-manager of its own, and the one that signs has one."""
    key, references = "issuer.refs", configuration.issuer.refs
    seen = set()
    for name, reference in references.items():
        if reference in seen:
            shown = f"{report.quoted(key, name)} with {report.masked(key, reference, str(reference))}"
            fix = "Give each generation an issuer of its own: another one is what makes cert-manager re-issue"
            report.refuse(key, f"has {shown}, which signs under another generation too", fix)
        seen.add(reference)
    signer = configuration.signing_generation
    if configuration.issuer.mode == "external-issuer" and signer not in references:
        report.refuse(
            key,
            f'does not say which issuer of cert-manager signs under generation "{signer}"',
            f"Name it: pulumi config set --path 'issuer.refs[\"{signer}\"].name' <name>, and its kind and group "
            "likewise if they are not Issuer and cert-manager.io",
        )


def issuer_policy(configuration: Configuration) -> IssuerPolicy:
    """Return who signs the identity issuer, and for how long."""
    issuer = configuration.issuer
    return IssuerPolicy(
        mode=issuer.mode,
        trust_domain=configuration.trust_domain,
        duration=issuer.duration,
        renew_before=issuer.renew_before,
        reference=issuer.refs.get(configuration.signing_generation),
        serial=issuer.serial,
        validity=timedelta(days=issuer.validity_days),
    )
