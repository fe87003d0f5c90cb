"""Linkerd's identity service, as operators and proxies see it: the stand-in and the real one, side by side.

Each expectation is held by both. The real one runs where LINKERD_CONTROLLER names it, or it is on PATH.
"""

import base64
import os
import re
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshtrust.cluster.connection.port_forward import fetch_page
from meshtrust.linkerd.issuer.secret import is_refused, judge_issuer_secret
from rehearsal import mesh
from rehearsal.cluster import Cluster, ClusterError
from tests.certificates import make_certificate
from tests.rehearsal.control_plane import NAMESPACE, ControlPlane, forward, wait_until

pytestmark = pytest.mark.soak

NAME = "default.linkerd.serviceaccount.identity.linkerd.cluster.local"
SERVICE_NAME = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/linkerd-identity-issuer"
SKIPPED = "Skipping issuer update as certs could not be read from disk: "
UNVERIFIED = "failed to verify issuer credentials for 'identity.linkerd.cluster.local' with trust anchors: "
# What `openssl ecparam -genkey` writes before the key (RFC 5480, section 2.1.1.1: secp256r1).
EC_PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
LIFETIME, SKEW = timedelta(hours=24), timedelta(seconds=20)


@pytest.fixture(
    scope="module", params=["stand-in", pytest.param("real", marks=pytest.mark.needs("linkerd-controller"))]
)
def plane(request, binaries, linkerd_charts, root):
    """A control plane whose identity service is the one or the other."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stand-in":
            patch.setenv("LINKERD_CONTROLLER", "")
        with Cluster.start(f"identity-{os.getpid()}") as cluster:
            assert (cluster.controller is not None) == (request.param == "real")
            installed = ControlPlane(cluster, binaries.helm, linkerd_charts)
            installed.create_namespace()
            installed.set_issuer(root)
            installed.install(root.pem)
            yield installed


@pytest.fixture(scope="module")
def root():
    return make_certificate("root.linkerd.cluster.local", days=365)


@pytest.fixture(autouse=True)
def good_again(request, root):
    """Leave an issuer that is in use behind each test."""
    yield
    if "plane" not in request.fixturenames:
        return
    plane = request.getfixturevalue("plane")
    if plane.get(SECRET)["type"] != "kubernetes.io/tls":
        plane.delete(SECRET)
    issuer = plane.set_issuer(root)
    wait_until(lambda: served_until(plane) == pytest.approx(issuer.certificate.not_valid_after_utc.timestamp(), abs=5))


def served_until(plane):
    """End of the issuer in use, by the gauge."""
    try:
        page = forward(plane.cluster, fetch_page, NAMESPACE, plane.identity_pod()["metadata"]["name"], 9990, "/metrics")
    except Exception:  # noqa: BLE001 - a pod that starts again is asked again
        return None
    found = re.search(r"^issuer_cert_ttl_seconds (\S+)$", page.text, re.MULTILINE)
    assert found, page.text
    return datetime.now(UTC).timestamp() + float(found[1])


def put(plane, **files):
    data = {name.replace("_", "."): base64.b64encode(text.encode()).decode() for name, text in files.items() if text}
    # A Secret of this type has both files; one that lacks a file is of another type, which cannot be changed in place.
    kind = "kubernetes.io/tls" if files["tls_key"] else "Opaque"
    metadata = {"name": "linkerd-identity-issuer"}
    if plane.get(SECRET)["type"] != kind:
        plane.delete(SECRET)
    plane.apply(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data})


def bad_issuers(root):
    """Faults of an issuer, with the message of the service."""
    good = make_certificate("identity", issuer=root)
    expired = make_certificate("identity", issuer=root, age=2, days=-1)
    client_only = make_certificate("identity", issuer=root, extended_usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    elsewhere = make_certificate("identity", issuer=make_certificate("another root"))
    leaf = make_certificate("identity", issuer=root, ca=False)
    edwards = make_certificate("identity", issuer=root, key=ed25519.Ed25519PrivateKey.generate())
    read = "failed to read CA from disk: "
    return {
        "another root": (
            elsewhere.pem,
            elsewhere.key_pem,
            UNVERIFIED + "x509: certificate signed by unknown authority",
        ),
        "expired": (
            expired.pem,
            expired.key_pem,
            UNVERIFIED + "x509: certificate has expired or is not yet valid: current time T is after T"
            " - Current Time : T - Invalid before T - Invalid After T",
        ),
        "no CA": (
            leaf.pem,
            leaf.key_pem,
            "failed to verify issuer certificate: it must be an intermediate-CA, but it is not",
        ),
        "usage": (
            client_only.pem,
            client_only.key_pem,
            UNVERIFIED + "x509: certificate specifies an incompatible key usage",
        ),
        "another key": (good.pem, elsewhere.key_pem, read + "tls: Public and private key do not match"),
        "a blank line": (good.pem + "\n", good.key_pem, read + "not a PEM certificate"),
        "a key as certificate": (good.key_pem, good.key_pem, read + "No certificates found"),
        "no PEM as key": (good.pem, "nothing", read + "not PEM-encoded"),
        "an Ed25519 key": (
            edwards.pem,
            edwards.pkcs8_pem,
            read + "unsupported PKCS#8 encoded private key type: 'ed25519.PrivateKey', "
            "linkerd2 only supports ECDSA and RSA private keys",
        ),
        "an indented certificate": (f"  {good.pem}", good.key_pem, read + "not a PEM certificate"),
        "a byte order mark": (f"\ufeff{good.pem}", good.key_pem, read + "not a PEM certificate"),
        "its root first": (root.pem + good.pem, good.key_pem, read + "tls: Public and private key do not match"),
        "EC parameters before its key": (
            good.pem,
            EC_PARAMETERS + good.key_pem,
            read + "unsupported block type: 'EC PARAMETERS'",
        ),
        "no key": (
            good.pem,
            "",
            read + "open /var/run/linkerd/identity/issuer/tls.key: no such file or directory",
        ),
    }


WRONG = list(bad_issuers(make_certificate()))


def without_times(message):
    time = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+ ][-+:\d]*( UTC)?)( m=\S+)?"
    return re.sub(time, "T", message)


def test_a_new_issuer_is_taken_over_and_told(plane, root):
    since = datetime.now(UTC)
    issuer = plane.set_issuer(root)
    event = mesh.wait_event(plane.cluster, "IssuerUpdated", since=since, timeout_seconds=30)
    assert (event.type, event.message) == ("Normal", "Updated identity issuer")
    assert leaf_of(plane)[1] == issuer.certificate
    until = served_until(plane)
    assert until == pytest.approx(issuer.certificate.not_valid_after_utc.timestamp(), abs=5)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bad_issuer_is_skipped_and_told(plane, root, wrong):
    before = leaf_of(plane)[1]
    certificate, key, why = bad_issuers(root)[wrong]
    since = datetime.now(UTC)
    put(plane, tls_crt=certificate, tls_key=key)
    event = wait_until(lambda: newest(plane, since, SKIPPED + why))
    judged = judge_issuer_secret(plane.get(SECRET), {"2026": root.certificate}, "2026", datetime.now(UTC))
    assert any(map(is_refused, judged)), "`meshtrust verify` says the same"
    assert event["type"] == "Warning"
    assert event["involvedObject"]["kind"] == "Deployment"
    assert event["involvedObject"]["name"] == "linkerd-identity"
    assert event["source"]["component"] == "linkerd-identity"
    assert leaf_of(plane)[1] == before


def test_an_issuer_with_an_rsa_key_is_taken_over_and_signs_nothing(plane, root):
    """It is what `meshtrust verify` and previews refuse, though the service takes it."""
    issuer = make_certificate("identity", issuer=root, key=rsa.generate_private_key(65537, 2048))
    put(plane, tls_crt=issuer.pem, tls_key=issuer.key_pem)

    def refused():
        try:
            leaf_of(plane)
        except grpc.RpcError as error:
            return error
        return None

    error = wait_until(refused)
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "requested SignatureAlgorithm does not match private key type" in error.details()
    judged = judge_issuer_secret(plane.get(SECRET), {"2026": root.certificate}, "2026", datetime.now(UTC))
    assert "Linkerd takes only ECDSA P-256" in str([str(finding) for finding in judged if is_refused(finding)])


def newest(plane, since, message):
    """The event with a message, once it is there; its times are not compared."""
    events = plane.get(f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason=IssuerUpdateSkipped")["items"]
    said = [entry for entry in events if datetime.fromisoformat(entry["lastTimestamp"]) >= since.replace(microsecond=0)]
    # From the tenth of a kind on, the recorder of both says so (client-go tools/record/events_cache.go).
    again = f"(combined from similar events): {message}"
    found = [entry for entry in said if without_times(entry["message"]) in (message, again)]
    return found[0] if found else None


@pytest.mark.parametrize("wrong", ["another root", "no CA", "a blank line"])
def test_a_service_with_a_bad_issuer_does_not_start(plane, root, wrong):
    certificate, key, why = bad_issuers(root)[wrong]
    put(plane, tls_crt=certificate, tls_key=key)
    assert f"Failed to initialize identity service: {why}" in why_it_ended(plane)


@pytest.mark.parametrize(
    ("bundle", "why"),
    [("", "not a PEM certificate|no certificates found"), ("nothing", "not a PEM certificate")],
)
def test_a_service_with_a_bad_bundle_does_not_start(plane, root, bundle, why):
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/linkerd-identity-trust-roots"
    plane.patch(path, {"data": {"ca-bundle.crt": bundle}})
    try:
        assert re.search(f"Failed to read trust anchors: ({why})", why_it_ended(plane))
    finally:
        plane.patch(path, {"data": {"ca-bundle.crt": root.pem.strip()}})


def why_it_ended(plane):
    """Start the service again, and return what its container ended with."""
    labels = "linkerd.io/control-plane-component=identity"
    old = {pod["metadata"]["name"] for pod in plane.pods(NAMESPACE, labels)}
    for name in old:
        plane.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")

    def ended():
        for pod in plane.pods(NAMESPACE, labels):
            for status in pod.get("status", {}).get("containerStatuses", []):
                last = status.get("lastState", {}).get("terminated")
                if pod["metadata"]["name"] not in old and status["name"] == "identity" and last:
                    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
                    return last["message"]
        return None

    return wait_until(ended)


def test_a_leaf_is_as_a_proxy_knows_it(plane):
    chain = leaf_of(plane)
    leaf, issuer = chain
    now = datetime.now(UTC)
    assert leaf.not_valid_before_utc == pytest.approx(now - SKEW, abs=timedelta(seconds=5))
    assert leaf.not_valid_after_utc == pytest.approx(now + LIFETIME + SKEW, abs=timedelta(seconds=5))
    assert leaf.subject == x509.Name([])
    assert leaf.issuer == issuer.subject
    assert isinstance(leaf.signature_hash_algorithm, hashes.SHA256)
    found = {entry.oid._name: entry.value for entry in leaf.extensions}
    assert set(found) == {"keyUsage", "extendedKeyUsage", "subjectAltName", "authorityKeyIdentifier"} & set(found)
    assert found["subjectAltName"].get_values_for_type(x509.DNSName) == [NAME]
    assert list(found["extendedKeyUsage"]) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert found["keyUsage"].digital_signature
    assert found["keyUsage"].key_encipherment
    assert not found["keyUsage"].key_cert_sign


def test_serial_numbers_count_from_one_for_each_issuer(plane, root):
    plane.set_issuer(root)
    first = wait_until(lambda: (leaf := leaf_of(plane)[0]).serial_number < 5 and leaf)
    assert leaf_of(plane)[0].serial_number == first.serial_number + 1


def test_a_leaf_does_not_outlive_its_issuer(plane, root):
    issuer = make_certificate("identity", issuer=root, days=0, hours=2)
    put(plane, tls_crt=issuer.pem, tls_key=issuer.key_pem)
    leaf = wait_until(lambda: (chain := leaf_of(plane))[1] == issuer.certificate and chain[0])
    assert leaf.not_valid_after_utc == issuer.certificate.not_valid_after_utc


def test_a_leaf_comes_with_the_intermediates_above_its_issuer(plane, root):
    intermediate = make_certificate("intermediate", issuer=root)
    issuer = make_certificate("identity", issuer=intermediate)
    put(plane, tls_crt=issuer.pem + intermediate.pem, tls_key=issuer.key_pem)
    chain = wait_until(lambda: (chain := leaf_of(plane))[1] == issuer.certificate and chain)
    assert chain[1:] == [issuer.certificate, intermediate.certificate]


def test_an_issued_leaf_is_told_at_its_service_account(plane):
    leaf = leaf_of(plane)[0]
    digest = leaf.fingerprint(hashes.SHA256()).hex()
    path = f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason=IssuedLeafCertificate"
    event = wait_until(lambda: next((e for e in plane.get(path)["items"] if digest in e["message"]), None))
    until = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} +0000 UTC"
    assert event["message"] == f"issued certificate for {NAME} until {until}: {digest}"
    assert event["involvedObject"]["name"] == "default"


def test_a_request_is_refused_with_the_code_and_the_reason(plane):
    name, token = NAME.encode(), token_of(plane).encode()
    other = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"
    invalid, failed = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    for identity, shown, request, code, details in [
        (b"", token, signing_request(), invalid, "missing identity"),
        (name, b"", signing_request(), invalid, "missing token"),
        (name, token, b"", invalid, "missing certificate signing request"),
        (name, token, signing_request(NAME, "b.example"), failed, "CSR must have exactly one DNSName"),
        (
            name,
            token,
            signing_request("b.example"),
            failed,
            f"CSR name does not match requested identity: csr=b.example; req={NAME}",
        ),
        (name, token, signing_request(common_name="b"), failed, "invalid CommonName: b"),
        (
            other.encode(),
            token,
            signing_request(other),
            failed,
            f"requested identity did not match provided token: requested={other}; found={NAME}",
        ),
        (name, b"no token", signing_request(), invalid, "invalid bearer token"),
    ]:
        with pytest.raises(grpc.RpcError) as refused:
            certify(plane, identity, shown, request)
        assert (refused.value.code(), refused.value.details()) == (code, details)
    with pytest.raises(grpc.RpcError) as refused:
        certify(plane, name, token, signing_request(key=rsa.generate_private_key(65537, 2048)))
    assert refused.value.code() == grpc.StatusCode.INTERNAL
    assert refused.value.details().startswith("CSR must contain an ECDSA public key: ")


def test_an_issuer_that_has_ended_signs_nothing_and_is_told(plane, root):
    issuer = make_certificate("identity", issuer=root, days=6 / 86400)
    put(plane, tls_crt=issuer.pem, tls_key=issuer.key_pem)
    wait_until(lambda: leaf_of(plane)[1] == issuer.certificate)
    wait_until(lambda: datetime.now(UTC) > issuer.certificate.not_valid_after_utc + timedelta(seconds=1))
    with pytest.raises(grpc.RpcError) as refused:
        certify(plane, NAME.encode(), token_of(plane).encode(), signing_request())
    why = (
        "x509: certificate has expired or is not yet valid: current time T is after T"
        " - Current Time : T - Invalid before T - Invalid After T"
    )
    assert (refused.value.code(), without_times(refused.value.details())) == (grpc.StatusCode.UNKNOWN, why)
    path = f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=reason=IssuerValidationFailed"
    told = wait_until(lambda: plane.get(path)["items"])
    assert f"{why} - CSR Identity : {NAME}" in [without_times(event["message"]) for event in told]


def test_a_controller_that_is_not_there_is_told_before_anything_is_started(monkeypatch, binaries):
    assert binaries.path.is_file()
    monkeypatch.setenv("LINKERD_CONTROLLER", "/no/such/controller")
    with pytest.raises(ClusterError, match="LINKERD_CONTROLLER is /no/such/controller, which is not a program"):
        Cluster.start("never")


def leaf_of(plane):
    """The chain that a workload is given."""
    return certify(plane, NAME.encode(), token_of(plane).encode(), signing_request())


def token_of(plane):
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default/token"
    return plane.post(path, {"spec": {"audiences": ["identity.l5d.io"]}})["status"]["token"]


def signing_request(*names, key=None, common_name=""):
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    alternatives = x509.SubjectAlternativeName([x509.DNSName(entry) for entry in names or [NAME]])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    request = builder.add_extension(alternatives, critical=False)
    signed = request.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def certify(plane, identity, token, request):
    """Call the service as a proxy does, but with whatever a test likes (linkerd2-proxy-api proto/identity.proto)."""
    address = (plane.cluster.services / f"{NAMESPACE}.linkerd-identity.8080").read_text()
    message = b"".join(
        bytes([number << 3 | 2]) + varint(len(value)) + value
        for number, value in enumerate((identity, token, request), start=1)
    )
    bundle = plane.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/linkerd-identity-trust-roots")["data"]
    trusted = grpc.ssl_channel_credentials(bundle["ca-bundle.crt"].encode())
    options = [("grpc.ssl_target_name_override", SERVICE_NAME)]
    with grpc.secure_channel(address, trusted, options=options) as channel:
        call = channel.unary_unary("/io.linkerd.proxy.identity.Identity/Certify")
        answer = call(message, timeout=10, wait_for_ready=True)
    return [x509.load_der_x509_certificate(value) for number, value in fields(answer) if number in (1, 2)]


def varint(value):
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def fields(message):
    """The fields of a protobuf message that has only such as have a length."""
    at = 0
    while at < len(message):
        number = message[at] >> 3
        length, shift, at = 0, 0, at + 1
        while True:
            byte, at = message[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield number, message[at : at + length]
        at += length
