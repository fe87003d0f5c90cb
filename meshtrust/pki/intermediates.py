"""Hand-over of intermediates: the requests that an anchor stack signs, and the certificates that a cluster takes."""

import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from meshtrust.pki.pem import PemError, read_bundle

_NAMED = {x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME}
_COMMON_NAME = re.compile(r"intermediate\.linkerd\.[a-z0-9][-a-z0-9.]*")


class RequestError(Exception):
    """A request that must not be signed; the message gives the reason."""


def check_request(pem: str, stack: str, generation: str, signed: Iterable[str] = ()) -> None:
    """Make sure that a request is the one that the program of a cluster makes, and asks for no more than that.

    A cluster's outputs are written by whoever deploys it, and what is signed here signs for the whole fleet. The
    provider copies the subject and the alternative names of a request into the certificate, and nothing else of it
    (terraform-provider-tls ``internal/provider/resource_locally_signed_cert.go``). So a request has the names that the
    program gives it and no others, is signed for its own stack and generation only, proves that its asker has the key,
    and has a key that Linkerd takes (linkerd2 ``pkg/issuercerts``).

    Args:
        pem: The request as PEM.
        stack: The stack whose output it is.
        generation: The generation that is to sign it.
        signed: Certificates as PEM that were signed for this stack before, also by an earlier name of it: a key that is
            in one of them is this stack's, whatever name its request has.

    Raises:
        RequestError: It differs.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, AttributeError) as error:
        msg = f"it cannot be read ({error})"
        raise RequestError(msg) from error
    # The provider reads it by Go's encoding/pem, which may take another block of the text for the request.
    if pem.strip() != request.public_bytes(Encoding.PEM).decode().strip():
        msg = "it is not one request alone, as the provider writes it"
        raise RequestError(msg)
    if not request.is_signature_valid:
        msg = "its signature does not fit its key"
        raise RequestError(msg)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        msg = "its key is not ECDSA P-256"
        raise RequestError(msg)
    found: dict[x509.ObjectIdentifier, str] = {attribute.oid: str(attribute.value) for attribute in request.subject}
    subject = f'its subject is "{request.subject.rfc4514_string()}"'
    if len(found) != len(list(request.subject)) or found.keys() != _NAMED:
        msg = f"{subject}, and not one common name, organization and organizational unit"
        raise RequestError(msg)
    if not _COMMON_NAME.fullmatch(found[x509.NameOID.COMMON_NAME]):
        msg = f"{subject}, and its common name is not intermediate.linkerd.<trust domain>"
        raise RequestError(msg)
    if list(request.extensions):
        extensions = ", ".join(extension.oid.dotted_string for extension in request.extensions)
        msg = f"it asks for extensions ({extensions}), such as alternative names, which an intermediate does not have"
        raise RequestError(msg)
    expected = {x509.NameOID.ORGANIZATIONAL_UNIT_NAME: f"generation {generation}"}
    if key not in [read_bundle(certificate)[0].public_key() for certificate in signed]:
        expected[x509.NameOID.ORGANIZATION_NAME] = stack.rpartition("/")[2]
    for oid, value in expected.items():
        if found[oid] != value:
            msg = f'{subject}, and has no "{value}" of its own'
            raise RequestError(msg)


def check_intermediate(pem: str, root_pem: str, *, may_sign_a_ca: bool) -> None:
    """Make sure that a signed CA certificate has the parts that it was to have, whatever the provider did.

    Args:
        pem: The certificate as PEM.
        root_pem: The root that signed it.
        may_sign_a_ca: Whether another CA may follow below it.

    Raises:
        RequestError: It differs, or outlives its root.
    """
    certificate, root = read_bundle(pem)[0], read_bundle(root_pem)[0]
    extensions = certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    # The provider drops a path length of 0: a CA below which no CA may follow has no path length.
    length = 1 if may_sign_a_ca else None
    wrong = [
        text
        for text, is_wrong in {
            f"it ends {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, after its root": (
                certificate.not_valid_after_utc > root.not_valid_after_utc
            ),
            "it is not a CA": not constraints.ca,
            f"its path length is {constraints.path_length}": constraints.path_length != length,
            "its key usage is not that of a CA alone": not usage.key_cert_sign
            or usage.digital_signature
            or usage.key_encipherment,
            "it has extended key usages": any(entry.oid == ExtensionOID.EXTENDED_KEY_USAGE for entry in extensions),
        }.items()
        if is_wrong
    ]
    if wrong:
        msg = "; ".join(wrong)
        raise RequestError(msg)


def choose_signed(candidates: Iterable[str], request_pem: str, root_pem: str) -> str:
    """Return the certificate that was signed for a request under a root; empty if none was.

    Args:
        candidates: Certificates as PEM, the best first; empty ones are passed over.
        request_pem: The request.
        root_pem: The root.
    """
    try:
        key = x509.load_pem_x509_csr(request_pem.encode()).public_key()
        [root] = read_bundle(root_pem)
    except ValueError:
        return ""
    for candidate in filter(None, candidates):
        try:
            certificate = read_bundle(candidate)[0]
            certificate.verify_directly_issued_by(root)
        except (PemError, ValueError, TypeError, InvalidSignature):
            continue
        if certificate.public_key() == key:
            return candidate
    return ""
