"""The hand-over of intermediates: what an anchor stack signs of what a cluster asks for, and what a cluster takes."""

from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from meshtrust.pem import PemError, read_bundle


class RequestError(Exception):
    """A request that must not be signed; the message says why."""


def check_request(pem: str, stack: str, generation: str) -> None:
    """Make sure that a request is the one that the program of a cluster makes.

    A cluster's outputs are written by whoever deploys it, and what is signed here signs for the whole fleet. So a
    request is signed for its own stack and generation only, proves that its asker has the key, and has a key that
    Linkerd takes (linkerd2 ``pkg/issuercerts``).

    Args:
        pem: The request as PEM.
        stack: The stack whose output it is.
        generation: The generation that is to sign it.

    Raises:
        RequestError: It is another one.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
    except ValueError as error:
        msg = f"it cannot be read ({error})"
        raise RequestError(msg) from error
    if not request.is_signature_valid:
        msg = "its signature does not fit its key"
        raise RequestError(msg)
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        msg = "its key is not ECDSA P-256"
        raise RequestError(msg)
    expected = {
        x509.NameOID.ORGANIZATION_NAME: stack.rpartition("/")[2],
        x509.NameOID.ORGANIZATIONAL_UNIT_NAME: f"generation {generation}",
    }
    for oid, value in expected.items():
        found = [str(attribute.value) for attribute in request.subject.get_attributes_for_oid(oid)]
        if found != [value]:
            msg = f'its subject is "{request.subject.rfc4514_string()}", and has no "{value}" of its own'
            raise RequestError(msg)


def choose_signed(candidates: Iterable[str], request_pem: str, root_pem: str) -> str:
    """Return the certificate that was signed for a request under a root, or nothing.

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
