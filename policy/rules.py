"""The rules, as functions of a policy pack's arguments, without imports from Pulumi.

Each takes the arguments of a policy (``resource_type``, ``props``, ``name``; or ``resources``) and a function to which
it reports what is wrong, and with which resource where that is not the one it was called for.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SECRET = "kubernetes:core/v1:Secret"  # noqa: S105 a type, not a secret
CERTIFICATE = "kubernetes:cert-manager.io/v1:Certificate"
RELEASE = "kubernetes:helm.sh/v3:Release"
_ANCHOR = "meshtrust:index:TrustAnchor"
_SIGNED = "tls:index/locallySignedCert:LocallySignedCert"
_ROOT = "tls:index/selfSignedCert:SelfSignedCert"
_KEY = "tls:index/privateKey:PrivateKey"
_ISSUER = "linkerd-identity-issuer"
_GUIDE_ANCHOR = "linkerd-trust-anchor"
_CERTIFICATE_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY_BLOCK = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
# A Go duration as cert-manager's fields have it, in the units that anyone gives a certificate's life in.
_DURATION = re.compile(r"(\d+)(h|m|s)")
_UNITS = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
# cert-manager's own, where a Certificate names none (pkg/apis/certmanager/v1, DefaultCertificateDuration).
_DEFAULT_DURATION = timedelta(days=90)

Report = Callable[..., None]


class Resource(Protocol):
    """A resource as a policy is given it."""

    resource_type: str
    props: Mapping[str, Any]
    name: str


class StackResource(Resource, Protocol):
    """A resource of a whole stack: with what it takes from others, by property, and its options."""

    urn: str
    opts: Any
    property_dependencies: Mapping[str, list["StackResource"]]


class Stack(Protocol):
    """A whole stack."""

    resources: list[StackResource]


def anchor_key_on_no_cluster(stack: Stack, report: Report) -> None:
    """Refuse a Secret with the key of a trust anchor: its readers can take every identity until the anchor is retired.

    What the mesh trusts is in the values of Linkerd's release, and in the component of this project. In a preview,
    where neither is known yet, a Secret is recognised by its name in Linkerd's guide.
    """
    secrets = [resource for resource in stack.resources if resource.resource_type == SECRET]
    for secret in secrets:
        name = _name(secret)
        if name == _GUIDE_ANCHOR or name.startswith(f"{_GUIDE_ANCHOR}-"):
            report(f"Secret {name} is to hold the trust anchor's key. Use another issuer.mode than anchor.", secret.urn)
    anchors = [certificate.public_key() for certificate in _certificates(_bundles(stack))]
    for secret in secrets:
        if any(key.public_key() in anchors for key in _keys(_texts(secret.props))):
            report(f"Secret {_name(secret)} is to hold the key of a trust anchor. Keep it off the cluster.", secret.urn)


def issuer_duration(resource: Resource, report: Report, most: timedelta) -> None:
    """Refuse an identity issuer that lives longer than it should, whether cert-manager is asked for it or it is given.

    Args:
        resource: Any resource.
        report: Takes what is wrong.
        most: The longest life.
    """
    if resource.resource_type == CERTIFICATE:
        spec = resource.props.get("spec") or {}
        if spec.get("secretName") != _ISSUER:
            return
        life = _duration(spec.get("duration"))
    elif resource.resource_type == SECRET and _name(resource) == _ISSUER:
        # The issuer comes first, and others of its chain after it.
        chain = list(_certificates([_text(resource.props, "tls.crt")]))
        life = chain[0].not_valid_after_utc - chain[0].not_valid_before_utc if chain else timedelta()
    else:
        return
    if life > most:
        report(f"The identity issuer is to live {_hours(life)}, and may live {_hours(most)} at most.")


def signing_anchors_are_protected(stack: Stack, report: Report) -> None:
    """Refuse a stack that could delete or replace the key or the root that it signs with.

    Which they are follows from what signed certificates take from them: a generation that no longer signs may go.
    """
    signing = {
        source.urn: source
        for resource in stack.resources
        if resource.resource_type == _SIGNED
        for name in ("caCertPem", "caPrivateKeyPem")
        for source in resource.property_dependencies.get(name) or []
        if source.resource_type in (_ROOT, _KEY)
    }
    for urn, source in signing.items():
        if not source.opts.protect:
            report(f"{source.name} signs, and is not protected. Set anchor.protect to true.", urn)


def no_key_in_helm_values(resource: Resource, report: Report) -> None:
    """Refuse a release of Linkerd that takes the issuer's key as a value: it would be in every record of the release.

    Only Helm releases are looked at: what other kinds render is theirs.
    """
    if resource.resource_type != RELEASE:
        return
    values = resource.props.get("values") or {}
    issuer = (values.get("identity") or {}).get("issuer") or {}
    chart = str(resource.props.get("chart") or "").rstrip("/").rpartition("/")[2]
    if (issuer.get("tls") or {}).get("keyPEM"):
        report("The values have identity.issuer.tls.keyPEM. Let a Secret of type kubernetes.io/tls hold the key.")
    elif chart == "linkerd-control-plane" and issuer.get("scheme") != "kubernetes.io/tls":
        scheme = issuer.get("scheme") or "linkerd.io/tls, the chart's default"
        report(f"identity.issuer.scheme is {scheme}, with which Helm keeps the key. Set it to kubernetes.io/tls.")


def _bundles(stack: Stack) -> Iterator[str]:
    """Yield the bundles that a stack has its meshes trust."""
    for resource in stack.resources:
        if resource.resource_type == RELEASE:
            yield str((resource.props.get("values") or {}).get("identityTrustAnchorsPEM") or "")
        elif resource.resource_type == _ANCHOR:
            yield str(resource.props.get("bundle") or "")


def _name(resource: Resource) -> str:
    return str((resource.props.get("metadata") or {}).get("name") or resource.name)


def _texts(props: Mapping[str, Any]) -> list[str]:
    """Return all that a Secret holds."""
    return [_text(props, part) for part in {**(props.get("data") or {}), **(props.get("stringData") or {})}]


def _text(props: Mapping[str, Any], part: str) -> str:
    """Return a part of what a Secret holds, empty if it is missing or cannot be read."""
    plain = (props.get("stringData") or {}).get(part)
    if plain is not None:
        return str(plain)
    try:
        return base64.b64decode(str((props.get("data") or {}).get(part) or ""), validate=True).decode(errors="replace")
    except ValueError:
        # The API server will refuse it.
        return ""


def _certificates(texts: Iterable[str]) -> Iterator[x509.Certificate]:
    for text in texts:
        for block in _CERTIFICATE_BLOCK.finditer(text):
            try:
                yield x509.load_pem_x509_certificate(block.group().encode())
            except ValueError:
                continue


def _keys(texts: Iterable[str]) -> Iterator[Any]:
    for text in texts:
        for block in _KEY_BLOCK.finditer(text):
            try:
                yield load_pem_private_key(block.group().encode(), None)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                # Encrypted, or of no kind that a certificate has.
                continue


def _duration(text: Any) -> timedelta:
    if not text:
        return _DEFAULT_DURATION
    return sum((int(count) * _UNITS[unit] for count, unit in _DURATION.findall(str(text))), timedelta())


def _hours(life: timedelta) -> str:
    return f"{life / timedelta(hours=1):g} hours"
