"""A Linkerd installation that was made by other means, described as a stack of this project that takes it over."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from meshtrust.cluster import cert_manager, trust_manager
from meshtrust.cluster.api import SECRETS, Api, ClusterError
from meshtrust.cluster.connection.access import ClusterAccess
from meshtrust.cluster.connection.preflight import cluster_uid
from meshtrust.cluster.helm_release import HelmRelease, read_releases
from meshtrust.linkerd.evidence import Mesh, read_mesh
from meshtrust.linkerd.issuer import secret as issuer_secret
from meshtrust.linkerd.issuer.secret import judge_issuer_secret
from meshtrust.names import (
    CERT_MANAGER_API,
    CERT_MANAGER_GROUP,
    CONTROL_PLANE_CHARTS,
    CRDS_CHARTS,
    IDENTITY_ISSUER,
    LICENSE_SECRET_KEY,
    LICENSE_SECRET_VALUE,
    LICENSE_VALUE,
    LINKERD_CONTROL_PLANE,
    LINKERD_CRDS,
    LINKERD_ENTERPRISE_CONTROL_PLANE,
    TRUST_MANAGER_API,
    TRUST_ROOTS,
)
from meshtrust.pki.chain import find_chain
from meshtrust.pki.durations import format_duration, parse_duration
from meshtrust.pki.pem import fingerprint, to_pem
from meshtrust.pki.private_key import find_private_keys

_PUBLISHED = "https://helm.linkerd.io"
# Values of the chart that follow from the stack's own keys (program/configuration/linkerd_values.py refuses them).
DERIVED_VALUES = (
    "identityTrustAnchorsPEM",
    "identityTrustDomain",
    "identity.externalCA",
    "identity.issuer.scheme",
    "identity.issuer.tls",
)


class AdoptionError(ClusterError):
    """An installation that cannot be taken over as it is; the message says what is in the way, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """A stack that takes an installation over.

    Attributes:
        config: Its configuration, by key without the project's name.
        imports: What `pulumi import --file` reads.
        mode: Who signs the identity issuer from then on.
        notes: What a person has to know, as sentences.
    """

    config: Mapping[str, Any] = field(repr=False)
    imports: Mapping[str, Any]
    mode: str
    notes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class InstallLocation:
    """The place of an installation, and the source of its charts.

    Attributes:
        access: The way to its cluster, by a context.
        namespace: Namespace of Linkerd's control plane.
        charts: Where its charts are; empty for Linkerd's own repository.
    """

    access: ClusterAccess
    namespace: str
    charts: str


async def plan_adoption(api: Api, place: InstallLocation) -> Adoption:
    """Read an installation and describe the stack that takes it over; nothing is changed.

    Args:
        api: Client of the cluster.
        place: Where it is.

    Raises:
        AdoptionError: It is of a kind that no stack can take over.
        ClusterError: It cannot be read.
    """
    uid, mesh, releases, certificate, secret, bundle = await asyncio.gather(
        cluster_uid(api),
        read_mesh(api, place.namespace),
        read_releases(api, place.namespace),
        find_certificate(api, place.namespace),
        api.find(SECRETS, IDENTITY_ISSUER, namespace=place.namespace),
        api.find(trust_manager.BUNDLES, TRUST_ROOTS),
    )
    control_plane, crds = _release(releases, CONTROL_PLANE_CHARTS, place), _release(releases, CRDS_CHARTS, place)
    _check_values(control_plane)
    published = bool(control_plane.value("identity.externalCA"))
    if published and bundle is None:
        msg = (
            f"ConfigMap {place.namespace}/{TRUST_ROOTS} is neither Linkerd's nor trust-manager's "
            "(identity.externalCA is set, and there is no Bundle of that name). Have trust-manager publish it first."
        )
        raise AdoptionError(msg)
    roots = _names(mesh.roots)
    signer = find_signer(mesh, roots)
    check_issuer_secret(secret, roots, signer, place.namespace)
    issuer = describe_issuer(certificate, signer)
    config = {
        "context": place.access.context,
        **({"kubeconfig": place.access.kubeconfig} if place.access.kubeconfig else {}),
        "clusterUid": uid,
        "trustDomain": mesh.trust_domain,
        "anchors": list(roots),
        "signer": signer,
        "anchorCertificates": {name: to_pem(root) + "\n" for name, root in roots.items()},
        "issuer": issuer,
        "linkerd": _linkerd(control_plane, crds, place),
        "certManager": {"install": False},
        "trustBundle": {"mode": "trust-manager", "install": False} if published else {"mode": "helm"},
        "webhooks": {"mode": "chart"},
    }
    return Adoption(
        config=config,
        imports={
            "resources": list(
                _imports(
                    place,
                    uid,
                    crds.name,
                    control_plane.name,
                    has_certificate=certificate is not None,
                    published=published,
                )
            )
        },
        mode=str(issuer["mode"]),
        notes=list(_notes(issuer, control_plane, place)),
    )


async def find_certificate(api: Api, namespace: str) -> Mapping[str, Any] | None:
    """Return the Certificate that is issued into Linkerd's Secret; None if there is none.

    Raises:
        AdoptionError: It has another name than a stack's own.
        ClusterError: It cannot be read.
    """
    if not await cert_manager.has_api(api):
        return None
    async for certificate in api.list(cert_manager.CERTIFICATES, namespace=namespace):
        if certificate["spec"].get("secretName") == IDENTITY_ISSUER:
            name = certificate["metadata"]["name"]
            if name != IDENTITY_ISSUER:
                msg = (
                    f"Certificate {namespace}/{name} is issued into Secret {IDENTITY_ISSUER}, and a stack's own has "
                    f"that name. Make it again as {IDENTITY_ISSUER}; the Secret stays when the old one is deleted."
                )
                raise AdoptionError(msg)
            found: Mapping[str, Any] = certificate
            return found
    return None


def _release(releases: Sequence[HelmRelease], charts: Sequence[str], place: InstallLocation) -> HelmRelease:
    found = next((release for release in releases if release.chart in charts), None)
    if found is None:
        msg = (
            f"Namespace {place.namespace} has no Helm release of chart {' or '.join(charts)}. A stack takes over what "
            "Helm has installed; for what `linkerd install` has made there is another way: docs/runbook.md, Linkerd "
            "installed by the CLI."
        )
        raise AdoptionError(msg)
    return found


def _check_values(release: HelmRelease) -> None:
    if isinstance(release.values.get(LINKERD_CONTROL_PLANE), Mapping):
        msg = (
            f"Release {release.name} is of chart {release.chart} {release.version}, which has its values below "
            f"{LINKERD_CONTROL_PLANE}. Upgrade to a version that has them at the top, such as 2.19, and adopt that."
        )
        raise AdoptionError(msg)
    if release.values.get(LICENSE_VALUE):
        helm = f"helm -n {release.namespace} upgrade {release.name} <chart> --version {release.version} --reuse-values"
        msg = (
            f"Value {LICENSE_VALUE} of release {release.name} is the license, which would stand in plaintext in the "
            f"stack's state. Write it into a Secret, and name that: kubectl -n {release.namespace} create secret "
            f"generic buoyant-license --from-file={LICENSE_SECRET_KEY}=<file>; {helm} --set {LICENSE_VALUE}=null "
            f"--set {LICENSE_SECRET_VALUE}=buoyant-license"
        )
        raise AdoptionError(msg)
    if release.value("identity.issuer.scheme") != issuer_secret.TYPE:
        scheme = release.value("identity.issuer.scheme")
        msg = (
            f'The identity issuer is part of Linkerd\'s release (identity.issuer.scheme is "{scheme}"), with its key '
            "in Helm's history. Move to cert-manager first, as Linkerd's guide has it, with identity.issuer.scheme "
            "kubernetes.io/tls."
        )
        raise AdoptionError(msg)
    for path in find_private_keys(release.values):
        msg = (
            f"Value {path} of release {release.name} is a private key, which would stand in plaintext in the stack's "
            "file. Take it out of the values: have the chart make its webhooks' certificates, or cert-manager."
        )
        raise AdoptionError(msg)


def _names(roots: Sequence[x509.Certificate]) -> dict[str, x509.Certificate]:
    """Return the roots by the year that each began in, with a suffix if two began in the same."""
    named: dict[str, x509.Certificate] = {}
    for root in sorted(roots, key=lambda root: root.not_valid_before_utc):
        year = str(root.not_valid_before_utc.year)
        name = next(name for name in (year, *(f"{year}-{number}" for number in range(2, 1000))) if name not in named)
        named[name] = root
    return named


def find_signer(mesh: Mesh, roots: Mapping[str, x509.Certificate]) -> str:
    """Return which of a mesh's roots, by their names, has signed its issuer.

    Raises:
        AdoptionError: None of them has.
    """
    chain = find_chain(mesh.issuer, list(roots.values()), datetime.now(UTC))
    if not chain:
        msg = (
            f"Secret {mesh.namespace}/{IDENTITY_ISSUER} holds no issuer that chains to a trusted root. Put the mesh "
            "right first: meshtrust verify"
        )
        raise AdoptionError(msg)
    return next(name for name, known in roots.items() if fingerprint(known) == fingerprint(chain[-1]))


def check_issuer_secret(
    secret: Mapping[str, Any] | None, roots: Mapping[str, x509.Certificate], signer: str, namespace: str
) -> None:
    """Make sure that the identity issuer's Secret can serve a stack as it is.

    Args:
        secret: The Secret; None if there is none.
        roots: The roots of the mesh, by name.
        signer: The one that has signed.
        namespace: Namespace of Linkerd's control plane.

    Raises:
        AdoptionError: It cannot.
    """
    found = secret or {"metadata": {"namespace": namespace}}
    judged = judge_issuer_secret(found, roots, signer, datetime.now(UTC))
    wrong = [finding for finding in judged if finding.severity == "error"]
    if wrong:
        listed = "\n".join(f"  - {finding}" for finding in wrong)
        msg = f"The identity issuer is not as a stack needs it:\n{listed}"
        raise AdoptionError(msg)


def describe_issuer(certificate: Mapping[str, Any] | None, signer: str) -> dict[str, Any]:
    """Return ``meshtrust:issuer`` of a stack in which the issuer is signed as it is now.

    Args:
        certificate: The Certificate that is issued into its Secret; None if there is none.
        signer: The generation that signs.
    """
    if certificate is None:
        return {"mode": "external-secret"}
    spec = certificate["spec"]
    reference = spec["issuerRef"]
    # cert-manager's own defaults, where the Certificate has none.
    duration = parse_duration(spec.get("duration") or "2160h")
    renew_before = parse_duration(spec["renewBefore"]) if spec.get("renewBefore") else duration / 3
    return {
        "mode": "external-issuer",
        "refs": {
            signer: {
                "name": reference["name"],
                "kind": reference.get("kind") or "Issuer",
                "group": reference.get("group") or CERT_MANAGER_GROUP,
            }
        },
        "duration": format_duration(duration),
        "renewBefore": format_duration(renew_before),
    }


def _linkerd(control_plane: HelmRelease, crds: HelmRelease, place: InstallLocation) -> dict[str, Any]:
    is_enterprise = control_plane.chart == LINKERD_ENTERPRISE_CONTROL_PLANE
    # The stable line's charts have semantic versions, the edge releases' are dates.
    line = "stable" if int(control_plane.version.split(".")[0]) < 2000 else "edge"
    published = "" if is_enterprise else f"{_PUBLISHED}/{line}"
    charts = place.charts or published
    names = {"crdsRelease": crds, "controlPlaneRelease": control_plane}
    license_secret = str(control_plane.value(LICENSE_SECRET_VALUE) or "")
    return {
        "namespace": place.namespace,
        **({"distribution": "enterprise"} if is_enterprise else {}),
        **({"licenseSecret": license_secret} if license_secret else {}),
        **{key: release.name for key, release in names.items() if release.name != release.chart},
        **({"charts": charts} if charts else {}),
        "version": control_plane.version,
        **({"crdsVersion": crds.version} if crds.version != control_plane.version else {}),
        "installGatewayApi": bool(crds.value("installGatewayAPI")),
        "values": _without(control_plane.values, (*DERIVED_VALUES, LICENSE_SECRET_VALUE)),
    }


def _without(values: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Return values without those at some paths, and without the maps that they leave empty."""
    kept = {}
    for key, value in values.items():
        below = [path.partition(".")[2] for path in paths if path.partition(".")[0] == key]
        if "" in below:
            continue
        cut = _without(value, below) if below and isinstance(value, Mapping) else value
        if cut != {} or value == {}:
            kept[key] = cut
    return kept


def _imports(
    place: InstallLocation, uid: str, crds: str, control_plane: str, *, has_certificate: bool, published: bool
) -> Iterator[dict[str, Any]]:
    """Yield the resources of the program that are there already, under its own names."""
    yield {
        "type": "pulumi:providers:kubernetes",
        "name": "cluster",
        "inputs": {**place.access.provider_inputs(), "clusterIdentifier": uid},
    }
    yield _component("ControlPlaneNamespace", "linkerd-namespace")
    yield _resource("core/v1:Namespace", "linkerd-namespace", place.namespace, "linkerd-namespace")
    if has_certificate:
        yield _component("IdentityIssuer", "identity-issuer")
        yield _resource(
            f"{CERT_MANAGER_API}:Certificate",
            "identity-issuer-certificate",
            f"{place.namespace}/{IDENTITY_ISSUER}",
            "identity-issuer",
        )
    if published:
        yield _component("TrustBundle", "trust-bundle")
        yield _resource(f"{TRUST_MANAGER_API}:Bundle", "trust-bundle-bundle", TRUST_ROOTS, "trust-bundle")
    yield _component("Linkerd", "linkerd")
    for name, release in ((LINKERD_CRDS, crds), (LINKERD_CONTROL_PLANE, control_plane)):
        yield _resource("helm.sh/v3:Release", name, f"{place.namespace}/{release}", "linkerd")


def _component(kind: str, name: str) -> dict[str, Any]:
    # A component and its child may have the same name in the program, and may not in the file.
    return {
        "type": f"meshtrust:index:{kind}",
        "name": f"{name}-component",
        "logicalName": name,
        "component": True,
    }


def _resource(type_: str, name: str, id_: str, parent: str) -> dict[str, Any]:
    return {
        "type": f"kubernetes:{type_}",
        "name": name,
        "id": id_,
        "parent": f"{parent}-component",
        "provider": "cluster",
    }


def _notes(issuer: Mapping[str, Any], control_plane: HelmRelease, place: InstallLocation) -> Iterator[str]:
    if issuer["mode"] == "external-secret":
        yield f"No Certificate is issued into Secret {place.namespace}/{IDENTITY_ISSUER}: whoever writes it goes on."
    else:
        yield (
            "The issuer that signs today goes on to sign. To have this project sign instead, rotate to a generation of "
            "its own, with meshtrust:issuer.mode intermediate from the switch on."
        )
    yield (
        f"The first `pulumi up` upgrades release {control_plane.name} once, because its pods get the bundle's hash as "
        "an annotation: the control plane restarts, and nothing else does."
    )
    if not place.charts:
        yield f"Helm does not record the source of its charts; {_PUBLISHED} is assumed (--charts for another source)."
