"""Waits for cert-manager: what is waited for, what ends a wait at once, and what is never overwritten."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import pytest

from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import Api, ClusterError, ConflictError, NotFoundError, UnreachableError
from meshtrust.linkerd.certificates import Commands, judge_certificates
from tests.certificates import make_certificate
from tests.fake_cluster import FakeCluster

NOW = datetime.now(UTC)
FAILING = 'failed calling webhook "webhook.cert-manager.io": dial tcp: connection refused'
DENIED = 'admission webhook "validate.kyverno.svc-fail" denied the request: no Issuers here'
BASE = "apis/cert-manager.io/v1/namespaces/linkerd"
COMMANDS = Commands(heal="meshtrust heal --stack dev")


class Answers(Api):
    """An API server that gives one answer after the other, and the last one from then on; errors are raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def send(self, request):
        if request.method == "GET" and "list" in request.what:
            return {"items": [], "metadata": {}}
        if request.path.endswith("issuers/ca"):
            raise NotFoundError("there is no such Issuer")
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open_port(self, namespace, pod, port, *, seconds):
        raise AssertionError((namespace, pod, port, seconds))


def refusal(said):
    return ClusterError(f"The dry run cannot be changed: {said}", said)


def test_a_webhook_that_does_not_answer_yet_is_waited_for_and_told_of():
    told: list[str] = []
    api = Answers(refusal(FAILING), refusal("Timeout: request did not complete"), {})
    asyncio.run(cert_manager.wait_answers(api, "cert-manager", 60, told.append))
    assert told[0] == f"Waiting for cert-manager's webhook to answer: {FAILING}"
    assert len(api.asked) == 3


def test_a_denial_by_another_policy_engine_is_told_as_such_and_at_once():
    api = Answers(refusal(DENIED))
    with pytest.raises(ClusterError, match="no Issuers here") as caught:
        asyncio.run(cert_manager.wait_answers(api, "cert-manager", 60))
    assert not isinstance(caught.value, cert_manager.CertManagerError)
    assert len(api.asked) == 1


def test_an_api_server_that_is_away_for_a_while_does_not_end_a_wait():
    told: list[str] = []
    api = Answers(UnreachableError("it does not answer"), UnreachableError("it does not answer"), {})
    asyncio.run(cert_manager.wait_answers(api, "cert-manager", 60, told.append))
    assert told == ["Waiting for the API server: it does not answer"]


def certificate(*, issuing=None, ready="True", revision=1, attempts=0, **status):
    conditions = [{"type": "Ready", "status": ready, "observedGeneration": 1, "message": "Certificate is up to date"}]
    if issuing:
        since = (NOW - timedelta(minutes=10)).isoformat()
        conditions.append({"type": "Issuing", "observedGeneration": 1, "lastTransitionTime": since, **issuing})
    failed = {"lastFailureTime": "2026-11-28T10:00:00Z", "failedIssuanceAttempts": attempts} if attempts else {}
    return {
        "metadata": {"namespace": "linkerd", "name": "x", "generation": 1, "resourceVersion": "7"},
        "spec": {"secretName": "linkerd-identity-issuer", "issuerRef": {"name": "ca"}},
        "status": {"conditions": conditions, "revision": revision, **failed, **status},
    }


def failed(attempts, message="no such role"):
    return certificate(issuing={"status": "False", "reason": "Failed", "message": message}, attempts=attempts)


def test_a_renewal_is_asked_for_of_the_very_object_that_was_read():
    api = Answers({})
    assert asyncio.run(cert_manager.ask_for_issue(api, certificate(), "it has ended"))
    [request] = api.asked
    assert (request.method, request.body["metadata"]) == ("PATCH", {"resourceVersion": "7"})
    assert [entry["type"] for entry in request.body["status"]["conditions"]] == ["Ready", "Issuing"]
    assert not asyncio.run(cert_manager.ask_for_issue(Answers(ConflictError("changed")), certificate(), "it has ended"))


def test_what_has_failed_before_is_tried_again_once_and_a_second_failure_ends_the_wait_at_once():
    api = Answers(failed(1), {}, certificate(issuing={"status": "True", "message": "asked"}, attempts=1), failed(2))
    with pytest.raises(cert_manager.CertManagerError, match=r"cannot issue Certificate linkerd/x: no such role\."):
        asyncio.run(cert_manager.wait_issued(api, "linkerd", "x", 60))
    assert [request.method for request in api.asked] == ["GET", "PATCH", "GET", "GET"]


def test_what_was_issued_is_not_waited_for():
    api = Answers(certificate())
    asyncio.run(cert_manager.wait_issued(api, "linkerd", "x", 60))
    assert len(api.asked) == 1


def test_what_was_taken_over_is_issued_again_unless_it_is_under_the_authority_that_is_to_sign():
    authority, other = make_certificate("authority"), make_certificate("authority")
    taken_over = certificate(revision=None)

    def asked(held, **under):
        data = {"tls.crt": base64.b64encode(held.encode()).decode()}
        api = Answers(taken_over, *([{"data": data}] if under else []), {}, certificate())
        asyncio.run(cert_manager.wait_issued(api, "linkerd", "x", 60, **under))
        return [request.method for request in api.asked]

    held = make_certificate("webhook", issuer=authority, ca=False).pem
    assert asked(held, authority=authority.certificate) == ["GET", "GET"]
    again = ["GET", "GET", "PATCH", "GET"]
    assert asked(held, authority=other.certificate) == again, "an authority of the same name"
    assert asked("no certificate", authority=authority.certificate) == again
    assert asked(held) == ["GET", "PATCH", "GET"], "an identity issuer is always issued again"


def judged(*certificates, issuers=(), **objects):
    cluster = FakeCluster(
        objects={
            f"{BASE}/certificates": list(certificates),
            f"{BASE}/issuers": list(issuers),
            f"{BASE}/certificaterequests": [],
            **objects,
        }
    )
    return [
        (entry.severity, str(entry)) for entry in asyncio.run(judge_certificates(cluster, "linkerd", NOW, COMMANDS))
    ]


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def ends(hours):
    return {"notAfter": stamp(NOW + timedelta(hours=hours, minutes=1))}


ISSUER = {
    "metadata": {"namespace": "linkerd", "name": "ca"},
    "spec": {"ca": {"secretName": "ca-secret"}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


def test_certificates_that_are_issued_are_not_criticised():
    assert judged(certificate(**ends(47)), issuers=[ISSUER]) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (failed(2), "is not issued by Issuer ca, which is not there: Failed: no such role (2 times)"),
        (
            certificate(issuing={"status": "True", "message": "it waits"}, **ends(3)),
            "has been about to be issued by Issuer ca, which is not there for 10 minutes: it waits. What is in Secret "
            "linkerd/linkerd-identity-issuer ends in 3 hours",
        ),
        (
            certificate(renewalTime=stamp(NOW - timedelta(hours=5)), **ends(20)),
            "was to be renewed 5 hours ago, and cert-manager has not begun. What is in Secret "
            "linkerd/linkerd-identity-issuer ends in 20 hours",
        ),
        (failed(1), "Secret linkerd/linkerd-identity-issuer has nothing that was issued"),
    ],
)
def test_what_is_not_issued_is_told_with_its_cause_and_the_time_that_is_left(given, says):
    [(severity, told)] = judged(given)
    assert severity == "error"
    assert says in told, told


def test_what_is_about_to_be_issued_is_given_some_time():
    begun = certificate(issuing={"status": "True", "lastTransitionTime": stamp(NOW)}, **ends(3))
    assert judged(begun) == []


def test_a_ca_secret_that_cannot_sign_is_named_although_its_issuer_is_ready():
    first, second = make_certificate("new"), make_certificate("old")
    texts = {"tls.crt": first.pem + second.pem, "tls.key": second.key_pem}
    held = {
        "metadata": {"namespace": "linkerd", "name": "ca-secret"},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()},
    }
    found = judged(issuers=[ISSUER], **{"api/v1/namespaces/linkerd/secrets/ca-secret": held})
    assert [severity for severity, _ in found] == ["error"]
    assert found[0][1].startswith("Secret linkerd/ca-secret ")
    assert "Issuer ca cannot sign with it" in found[0][1]


def test_an_issuer_that_is_not_ready_is_told_in_its_own_words():
    status = {"conditions": [{"type": "Ready", "status": "False", "reason": "Error", "message": "no token"}]}
    unready = {**ISSUER, "spec": {}, "status": status}
    [(severity, told)] = judged(issuers=[unready])
    assert (severity, "Issuer linkerd/ca is not ready: Error: no token" in told) == ("error", True)


VAULT_ISSUER = {
    **ISSUER,
    "kind": "Issuer",
    "spec": {"vault": {"server": "https://vault:8200", "path": "pki/sign/mesh"}},
}


def test_what_a_request_waits_for_is_named_with_what_to_do_about_vault():
    said = "Failed to initialise vault client for signing:\n\nCode: 503. Errors:\n\n* Vault is sealed"
    request = {
        "metadata": {
            "name": "x-1",
            "creationTimestamp": stamp(NOW),
            "annotations": {"cert-manager.io/certificate-name": "x"},
        },
        "status": {
            "conditions": [
                {"type": "Approved", "status": "True"},
                {"type": "Ready", "status": "False", "message": said},
            ]
        },
    }
    waits = certificate(issuing={"status": "True", "message": "Issuing"}, **ends(3))
    requests = {f"{BASE}/certificaterequests": [request]}
    [(_, told)] = judged(waits, issuers=[VAULT_ISSUER], **requests)
    assert "Code: 503. Errors: * Vault is sealed (Issuer ca signs by path pki/sign/mesh of Vault). Unseal Vault" in told
    [(_, elsewhere)] = judged(waits, issuers=[ISSUER], **requests)
    assert "Vault is sealed. What is in Secret" in elsewhere, "another issuer's words are left as they are"


def test_an_issuer_is_waited_for_until_it_is_ready_as_it_is_declared_now_and_told_in_its_own_words():
    def issuer(status, observed, message="Error getting keypair for CA issuer"):
        condition = {"type": "Ready", "status": status, "observedGeneration": observed, "message": message}
        return {"metadata": {"name": "it", "generation": 2}, "status": {"conditions": [condition]}}

    api = Answers({"metadata": {"name": "it", "generation": 2}}, issuer("True", 1), issuer("True", 2))
    asyncio.run(cert_manager.wait_issuer_ready(api, "linkerd", "it", 60))
    assert len(api.asked) == 3
    with pytest.raises(cert_manager.CertManagerError, match="Error getting keypair for CA issuer"):
        asyncio.run(cert_manager.wait_issuer_ready(Answers(issuer("False", 2)), "linkerd", "it", 0))


def test_why_a_request_cannot_be_made_is_told_by_an_event():
    event = {"reason": "RequestFailed", "message": "Failed to create CertificateRequest: denied", "lastTimestamp": ""}
    cluster = FakeCluster(objects={f"{BASE}/certificaterequests": [], "api/v1/namespaces/linkerd/events": [event]})
    waits = certificate(issuing={"status": "True", "message": "Issuing certificate as Secret does not exist"})
    said = asyncio.run(cert_manager.explain(cluster, waits))
    assert said == "RequestFailed: Failed to create CertificateRequest: denied"
