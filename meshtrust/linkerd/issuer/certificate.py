"""The identity issuer's certificate, read without its key where that can be done.

The Secret has both, and Kubernetes grants it as a whole. What cert-manager wrote into it stands in a CertificateRequest
too, which holds no key: it is enough for whoever may not read the Secret.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from meshtrust.cluster.api import (
    SECRETS,
    Api,
    ClusterError,
    ForbiddenError,
    MalformedError,
    certificates_of,
)
from meshtrust.cluster.cert_manager import CERTIFICATE_REQUESTS, CERTIFICATES
from meshtrust.names import (
    CERTIFICATE_ANNOTATION,
    IDENTITY_ISSUER,
    LINKERD_TLS,
    REVISION_ANNOTATION,
    SECRET_KEYS,
)


@dataclass(frozen=True, kw_only=True)
class IssuerCertificate:
    """The certificate of the identity issuer.

    Attributes:
        source: The object that it was read from, as a sentence names it.
        chain: The issuer and what stands between it and a root; empty where there is none.
        roots: The root that came with it, where ``linkerd check`` looks for the trust anchor; None if that is the
            bundle.
    """

    source: str
    chain: tuple[x509.Certificate, ...] = ()
    roots: tuple[x509.Certificate, ...] | None = ()


async def read_issuer_certificate(api: Api, namespace: str) -> IssuerCertificate:
    """Return the identity issuer's certificate: from the Secret, or by cert-manager where that may not be read.

    Args:
        api: Client of the cluster.
        namespace: Namespace of Linkerd's control plane.

    Raises:
        ClusterError: It is not a certificate, or cannot be read; or neither the Secret nor a CertificateRequest may be.

    Source: the chart's value ``identity.issuer.scheme``. With its default, ``linkerd.io/tls``, the Secret has keys of
    Linkerd's own, and no root (linkerd2 ``pkg/k8s/labels.go``, ``pkg/issuercerts/issuercerts.go``).
    """
    name = f"Secret {namespace}/{IDENTITY_ISSUER}"
    try:
        secret = await api.find(SECRETS, IDENTITY_ISSUER, namespace=namespace)
    except ForbiddenError as forbidden:
        issued = await _read_request(api, namespace, forbidden)
        return _certificates(issued["status"], "certificate", "ca", f"CertificateRequest {_name(issued)}")
    data, certificate_key = (secret or {}).get("data") or {}, SECRET_KEYS[LINKERD_TLS][0]
    if data.get(certificate_key) and not data.get("tls.crt"):
        return IssuerCertificate(source=name, chain=_decoded(data, certificate_key, name), roots=None)
    return _certificates(data, "tls.crt", "ca.crt", name)


async def _read_request(api: Api, namespace: str, forbidden: ForbiddenError) -> dict[str, Any]:
    """Return the request whose answer cert-manager has written into the Secret.

    It is the one of the Certificate's current revision: the revision is raised when the Secret has been written
    (cert-manager ``pkg/controller/certificates/issuing/issuing_controller.go``, issueCertificate).
    """
    try:
        certificates = [item async for item in api.list(CERTIFICATES, namespace=namespace)]
        requests = [item async for item in api.list(CERTIFICATE_REQUESTS, namespace=namespace)]
    except ClusterError:
        certificates = requests = []
    for certificate in certificates:
        if certificate["spec"].get("secretName") == IDENTITY_ISSUER:
            marks = {
                CERTIFICATE_ANNOTATION: certificate["metadata"]["name"],
                REVISION_ANNOTATION: str((certificate.get("status") or {}).get("revision")),
            }
            for request in requests:
                annotations = request["metadata"].get("annotations") or {}
                if marks.items() <= annotations.items() and (request.get("status") or {}).get("certificate"):
                    return request
    msg = (
        f"{forbidden} Where cert-manager issues it, the right to list certificates and certificaterequests is enough "
        "(deploy/rbac/read-only.yaml); else only the Secret has it (deploy/rbac/issuer-secret.yaml)."
    )
    raise ForbiddenError(msg) from forbidden


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _certificates(data: Mapping[str, str], chain: str, root: str, source: str) -> IssuerCertificate:
    return IssuerCertificate(source=source, chain=_decoded(data, chain, source), roots=_decoded(data, root, source))


def _decoded(data: Mapping[str, str], key: str, source: str) -> tuple[x509.Certificate, ...]:
    where = f"{key} of {source}"
    try:
        text = base64.b64decode(data.get(key) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        msg = f"{where} is not text in base64. Let cert-manager issue it again, or correct the tool that writes it."
        raise MalformedError(msg) from None
    return certificates_of(text, where)
