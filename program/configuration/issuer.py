"""What a stack says of its identity issuer: who signs it, for how long, and when it is renewed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from components.identity_issuer import IssuerPolicy, IssuerReference
from components.trust_anchor import TrustAnchorArgs
from meshtrust.lint import LeafLifetime, lint_issuer_window
from meshtrust.names import CERT_MANAGER_GROUP
from meshtrust.pki.issuer_mode import IssuerMode
from program.configuration.reader import Reader


def read_issuer(
    reader: Reader, mode: IssuerMode, trust_domain: str, anchor: TrustAnchorArgs, leaf: LeafLifetime
) -> IssuerPolicy:
    """Return who signs the identity issuer under a trust anchor, and for how long.

    Args:
        reader: Reads the configuration.
        mode: Who signs.
        trust_domain: The mesh's.
        anchor: The trust anchor.
        leaf: How long the certificates live that the issuer signs.
    """
    duration, renew_before = reader.duration("issuer.duration"), reader.duration("issuer.renewBefore")
    if duration is not None and renew_before is not None:
        for finding in lint_issuer_window(duration, renew_before, anchor.validity, leaf):
            reader.findings.append(replace(finding, subject=reader.full_name(finding.subject)))
    references = _read_references(reader, anchor.generations)
    if mode == "external-issuer" and anchor.signer not in references:
        reader.refuse(
            "issuer.refs",
            f'does not say which issuer of cert-manager signs under generation "{anchor.signer}"',
            f"Name it: pulumi config set --path 'issuer.refs[\"{anchor.signer}\"].name' <name>, and its kind and group "
            "likewise where they are not Issuer and cert-manager.io",
        )
    return IssuerPolicy(
        mode=mode,
        trust_domain=trust_domain,
        duration=duration or timedelta(),
        renew_before=renew_before or timedelta(),
        reference=references.get(anchor.signer),
        serial=reader.name("issuer.serial"),
        validity=reader.days("issuer.validityDays"),
    )


def _read_references(reader: Reader, generations: tuple[str, ...]) -> dict[str, IssuerReference]:
    key = "issuer.refs"
    references: dict[str, IssuerReference] = {}
    for generation, given in reader.mapping(key).items():
        if generation not in generations:
            reader.refuse(
                key, f'has "{generation}", which is not one of meshtrust:anchors', "Add it there, or remove it here"
            )
            continue
        members = {"kind": "Issuer", "group": CERT_MANAGER_GROUP, **given} if isinstance(given, Mapping) else {}
        if sorted(members) != ["group", "kind", "name"] or not all(
            isinstance(value, str) and value for value in members.values()
        ):
            reader.refuse(
                key,
                f'has "{generation}" with {given!r}, which is no reference of an issuer',
                "Give its name, and its kind and group where they are not Issuer and cert-manager.io",
            )
            continue
        reference = IssuerReference(**members)
        if reference in references.values():
            reader.refuse(
                key,
                f'has "{generation}" with {reference}, which signs under another generation too',
                "Give each generation an issuer of its own: a switch to another is what makes cert-manager issue anew",
            )
        references[generation] = reference
    return references
