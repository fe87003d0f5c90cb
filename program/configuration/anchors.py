"""Checks of the trust anchor: the generation that signs, and roots that were made outside this program."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from components.trust_anchor import TrustAnchorArgs
from meshtrust.lint import lint_trust_anchor
from meshtrust.pki.issuer_mode import SIGNING_MODES
from meshtrust.pki.pem import fingerprint, read_bundle
from meshtrust.pki.private_key import read_private_key
from meshtrust.stacks.outputs import StackOutputs
from program.configuration.model import Configuration
from program.configuration.report import PREFIX, Report

# A root that ends sooner cannot see a rotation through, and what it signs would outlive it.
_MINIMUM_ANCHOR_LIFE = timedelta(days=7)


def check_signer(configuration: Configuration, report: Report) -> None:
    """Check that the generation that signs is one of them."""
    if configuration.role == "cluster":
        _check_one_of(report, "signer", configuration.signing_generation, "anchors", configuration.anchors)


def check_signing_authority(configuration: Configuration, report: Report) -> None:
    """Check that the webhooks' authority that signs is one of them."""
    authorities = configuration.webhooks.authorities
    _check_one_of(report, "webhooks.signer", configuration.signing_authority, "webhooks.authorities", authorities)


def _check_one_of(report: Report, key: str, signer: str, of: str, names: tuple[str, ...]) -> None:
    known = ", ".join(names)
    if not signer:
        wrong = f"is not set, and there are several in {PREFIX}{of} ({known})"
        report.refuse(key, wrong, "Name the one that signs")
    elif signer not in names:
        wrong = f"is {report.quoted(key, signer)}, which is not one of {PREFIX}{of} ({known})"
        report.refuse(key, wrong, f"Name one of {known}")


def check_external_roots(configuration: Configuration, report: Report) -> None:
    """Check roots that were made outside this program by the linter's rules, and that each has one name."""
    key, seen = "anchorCertificates", set()
    for name, pem in configuration.anchor_certificates.items():
        root = read_bundle(pem)[0]
        quoted = report.quoted(key, name)
        for finding in lint_trust_anchor(root, datetime.now(UTC)):
            # Linkerd trusts any certificate; a generation here is a root, and nothing above it is known.
            not_a_root = finding.rule is not None and finding.rule.id == "MT103"
            severity = "error" if not_a_root else finding.severity
            report.add(replace(finding, subject=key, wrong=f"has {quoted}, which {finding.wrong}", severity=severity))
        if pem in seen:
            report.refuse(key, f"has {quoted}, whose root has another name too", "Name each root once")
        seen.add(pem)


def check_external_keys(configuration: Configuration, report: Report) -> None:
    """Check that each key belongs to a root that was made outside this program."""
    key, roots = "anchorKeys", configuration.anchor_certificates
    for name, pem in configuration.anchor_keys.items():
        if name not in roots:
            wrong = f"has {report.quoted(key, name)}, whose certificate is not in meshtrust:anchorCertificates"
            report.refuse(key, wrong, "Add its root there, or remove the key here")
        elif read_private_key(pem).public_key() != read_bundle(roots[name])[0].public_key():
            wrong = f'has "{name}" with the key of another certificate than meshtrust:anchorCertificates has'
            report.refuse(key, wrong, "Give the key that the root was made with")


def check_external_signer(configuration: Configuration, report: Report) -> None:
    """Check that this stack has the key of an external root that signs here, and that the root does not end soon."""
    signer, mode = configuration.signing_generation, configuration.issuer.mode
    pem = configuration.anchor_certificates.get(signer)
    if pem is None or mode not in SIGNING_MODES:
        return
    end = read_bundle(pem)[0].not_valid_after_utc
    if end - datetime.now(UTC) < _MINIMUM_ANCHOR_LIFE:
        fix = f"Sign with one that is valid for {_MINIMUM_ANCHOR_LIFE.days} days more at least"
        report.refuse("signer", f'is "{signer}", whose root ends on {end:%Y-%m-%d}', fix)
    if signer not in configuration.anchor_keys:
        report.refuse(
            "signer",
            f'is "{signer}", whose root was made elsewhere (meshtrust:anchorCertificates): its key is not here, and in '
            f"mode {mode} this stack signs",
            "Bring its key along (meshtrust:anchorKeys), name a generation that this program makes, or let its owner "
            "sign (meshtrust:issuer.mode external-issuer or external-secret)",
        )


def leave_out_retired(given: dict[str, Any], last: StackOutputs, report: Report) -> None:
    """Take out of a configuration, with a warning, what belongs to generations that are retired.

    Args:
        given: The configuration by name, not checked yet.
        last: The outputs of the last deployment.
        report: Where the warnings go.
    """
    anchors = given.get("anchors")
    goal = set(map(str, anchors)) if isinstance(anchors, list) else set()
    issuer = given.get("issuer")
    sections = {
        "anchorCertificates": given.get("anchorCertificates"),
        "anchorKeys": given.get("anchorKeys"),
        "issuer.refs": issuer.get("refs") if isinstance(issuer, dict) else None,
    }
    for key, entries in sections.items():
        if not isinstance(entries, dict):
            continue
        for name in [name for name in entries if name in last.retired and name not in goal]:
            del entries[name]
            fix = f"Remove it: pulumi config rm --path '{key}[\"{name}\"]'"
            report.warn(key, f'has "{name}", which is retired', fix)


def trust_anchor(configuration: Configuration) -> TrustAnchorArgs:
    """Return what the trust anchor is made from."""
    # Protected is what signs here, and in an anchor stack whatever signs in some cluster.
    signer = configuration.signing_generation
    protectable = (signer,) if signer else configuration.anchors
    return TrustAnchorArgs(
        generations=configuration.anchors,
        signer=signer,
        certificates=configuration.anchor_certificates,
        keys=configuration.anchor_keys,
        trust_domain=configuration.trust_domain,
        validity=timedelta(days=configuration.anchor.validity_days),
        protected=frozenset(protectable) if configuration.anchor.protect else frozenset(),
    )


def external_roots(anchor: TrustAnchorArgs) -> dict[str, str]:
    """Return the fingerprints of the roots that were made elsewhere, by generation."""
    return {generation: fingerprint(read_bundle(pem)[0]) for generation, pem in anchor.certificates.items()}
