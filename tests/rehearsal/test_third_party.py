"""A third party that writes the issuer's Secret in its own way: each way is named, and none breaks a running mesh."""

import pytest

from meshtrust.names import IDENTITY_ISSUER, KUBERNETES_TLS
from rehearsal.third_party import SecretWriter
from tests.certificates import make_certificate
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.test_vault import command

pytestmark = pytest.mark.soak

SUBJECT = "identity.linkerd.cluster.local"


@pytest.fixture(scope="module")
def root():
    return make_certificate("root of the owner", days=3650)


def keys_of(issuer, root):
    return {"tls.crt": issuer.pem, "tls.key": issuer.key_pem, "ca.crt": root.pem}


def previewed(stack):
    """Return whether a preview succeeds, and what it says."""
    result = stack.project.capture("preview", "--non-interactive")
    said = " ".join((result.stdout + result.stderr).split())
    assert "Traceback" not in said
    return result.returncode == 0, said


def verified(stack):
    """Return what `meshtrust verify` ends with, and what it says."""
    result = command(stack, "verify")
    return result.returncode, " ".join(result.stdout.split())


def test_each_habit_of_a_writer_is_named_and_the_mesh_goes_on_through_all_of_them(make_stack, cluster, root):
    stack = make_stack("third-party", anchorCertificates={"2026": root.pem})
    with cluster.client() as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": "linkerd"}}).raise_for_status()
    opaque = SecretWriter(cluster, "linkerd", IDENTITY_ISSUER)
    typed = SecretWriter(cluster, "linkerd", IDENTITY_ISSUER, type=KUBERNETES_TLS)

    # Of type Opaque: refused before anything is deployed, and a warning later.
    first = make_certificate(SUBJECT, issuer=root)
    opaque.create(keys_of(first, root))
    said = stack.refused("preview")
    assert 'is of type "Opaque"' in said
    assert "Delete it and write it again with type kubernetes.io/tls" in said
    opaque.delete()
    typed.create(keys_of(first, root))
    stack.up()

    def serves(issuer):
        """Whether a proxy that asks now gets a certificate of an issuer."""
        return stack.leaf_verifies()[1] == issuer.certificate

    assert serves(first)

    # The key before the certificate, in two writes.
    second = make_certificate(SUBJECT, issuer=root)
    typed.update({"tls.key": second.key_pem})
    succeeded, said = previewed(stack)
    assert succeeded, said
    assert "Put the certificate and the key there that were issued together" in said
    assert serves(first)
    typed.update({"tls.crt": second.pem})
    wait_until(lambda: serves(second))

    # Without the root that `linkerd check` reads.
    typed.update({"ca.crt": None})
    _, said = verified(stack)
    assert "ca.crt" in said
    assert serves(second)

    # A bundle in tls.crt: first the issuer, then its root, which does no harm; then the root first.
    third = make_certificate(SUBJECT, issuer=root)
    typed.update({**keys_of(third, root), "tls.crt": third.pem + root.pem})
    wait_until(lambda: serves(third))
    assert previewed(stack)[0]
    typed.update({"tls.crt": root.pem + third.pem})
    succeeded, said = previewed(stack)
    assert succeeded, said
    assert "Write the issuer's own certificate first" in said
    assert serves(third)

    # Deleted, and made again as Opaque.
    typed.delete()
    succeeded, said = previewed(stack)
    assert not succeeded
    assert "nobody has written Secret linkerd/linkerd-identity-issuer" in said
    assert serves(third)
    fourth = make_certificate(SUBJECT, issuer=root)
    opaque.create(keys_of(fourth, root))
    wait_until(lambda: serves(fourth))
    succeeded, warned = previewed(stack)
    assert succeeded, warned
    assert 'is of type "Opaque"' in warned
    opaque.delete()
    typed.create(keys_of(fourth, root))
    assert verified(stack)[0] == 0
    assert serves(fourth)
