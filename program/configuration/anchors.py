"""What a stack says of its trust anchor: generations, the one that signs, and roots that were made elsewhere."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from components.trust_anchor import TrustAnchorArgs
from meshtrust.lint import lint_trust_anchor
from meshtrust.pki.issuer_mode import SIGNING_MODES, IssuerMode
from meshtrust.pki.pem import PemError, fingerprint, normalise_bundle, read_bundle
from meshtrust.pki.private_key import key_to_pem, read_private_key
from program.configuration.names import choose_signer, read_names
from program.configuration.reader import Reader

# A root that ends sooner cannot see a rotation through, and what it signs would outlive it.
_MINIMUM_ANCHOR_LIFE = timedelta(days=7)


def read_anchor(reader: Reader, mode: IssuerMode, trust_domain: str, *, names_signer: bool) -> TrustAnchorArgs:
    """Return what the trust anchor is made from.

    Args:
        reader: Reads the configuration.
        mode: Who signs the identity issuer.
        trust_domain: The mesh's.
        names_signer: Whether one of the generations signs in this stack; in an anchor stack none does.
    """
    generations = read_names(reader, "anchors", "2026")
    certificates = _read_anchor_certificates(reader, generations)
    keys = _read_anchor_keys(reader, certificates)
    signer = reader.optional_name("signer")
    if names_signer:
        signer = choose_signer(reader, "signer", signer, "anchors", generations)
    if names_signer and signer in certificates and mode in SIGNING_MODES:
        _check_brought_signer(reader, mode, signer, certificates[signer], has_key=signer in keys)
    return TrustAnchorArgs(
        generations=generations,
        signer=signer,
        certificates=certificates,
        keys=keys,
        trust_domain=trust_domain,
        validity=reader.days("anchor.validityDays"),
        protected=frozenset(_protectable(generations, signer)) if reader.flag("anchor.protect") else frozenset(),
    )


def _protectable(generations: tuple[str, ...], signer: str) -> tuple[str, ...]:
    """Return what may be protected: what signs here, or in an anchor stack whatever signs in some cluster."""
    return (signer,) if signer else generations


def _read_anchor_certificates(reader: Reader, generations: tuple[str, ...]) -> dict[str, str]:
    key = "anchorCertificates"
    certificates: dict[str, str] = {}
    for generation, pem in reader.mapping(key).items():
        if generation not in generations:
            reader.refuse(
                key,
                f'has "{generation}", which is not one of meshtrust:anchors',
                "Add it there, or remove it here",
            )
        try:
            roots = read_bundle(str(pem))
        except PemError as error:
            reader.refuse(
                key,
                f'has "{generation}", which cannot be used: {error}',
                "Give the root's certificate as PEM",
            )
            continue
        if len(roots) > 1:
            reader.refuse(
                key, f'has "{generation}" with {len(roots)} certificates', "Give the root's certificate alone"
            )
        for finding in lint_trust_anchor(roots[0], datetime.now(UTC)):
            wrong = f'has "{generation}", which {finding.wrong}'
            # Linkerd trusts any certificate; a generation here is a root, and nothing above it is known.
            no_root = finding.rule is not None and finding.rule.id == "MT103"
            severity = "error" if no_root else finding.severity
            reader.findings.append(replace(finding, subject=reader.full_name(key), wrong=wrong, severity=severity))
        if normalise_bundle(str(pem)) in certificates.values():
            reader.refuse(key, f'has "{generation}", whose root has another name too', "Name each root once")
        certificates[generation] = normalise_bundle(str(pem))
    return certificates


def _read_anchor_keys(reader: Reader, certificates: Mapping[str, str]) -> dict[str, str]:
    name = "anchorKeys"
    keys: dict[str, str] = {}
    for generation, pem in reader.secrets(name).items():
        if generation not in certificates:
            reader.refuse(
                name,
                f'has "{generation}", whose certificate is not in meshtrust:anchorCertificates',
                "Add its root there, or remove the key here",
            )
            continue
        try:
            key = read_private_key(str(pem))
        except PemError as error:
            reader.refuse(name, f'has "{generation}", which cannot be used: {error}', "Give the root's key as PEM")
            continue
        if key.public_key() != read_bundle(certificates[generation])[0].public_key():
            reader.refuse(
                name,
                f'has "{generation}" with the key of another certificate than meshtrust:anchorCertificates has',
                "Give the key that the root was made with",
            )
        keys[generation] = key_to_pem(key)
    return keys


def _check_brought_signer(reader: Reader, mode: str, signer: str, certificate: str, *, has_key: bool) -> None:
    if not has_key:
        reader.refuse(
            "signer",
            f'is "{signer}", whose root was made elsewhere (meshtrust:anchorCertificates): its key is not here, and in '
            f"mode {mode} this stack signs",
            "Bring its key along (meshtrust:anchorKeys), name a generation that this program makes, or let its owner "
            "sign (meshtrust:issuer.mode external-issuer or external-secret)",
        )
    end = read_bundle(certificate)[0].not_valid_after_utc
    if end - datetime.now(UTC) < _MINIMUM_ANCHOR_LIFE:
        reader.refuse(
            "signer",
            f'is "{signer}", whose root ends on {end:%Y-%m-%d}',
            f"Sign with one that is valid for {_MINIMUM_ANCHOR_LIFE.days} days more at least",
        )


def brought_roots(anchor: TrustAnchorArgs) -> dict[str, str]:
    """Return the fingerprints of the roots that were made elsewhere, by generation."""
    return {generation: fingerprint(read_bundle(pem)[0]) for generation, pem in anchor.certificates.items()}
