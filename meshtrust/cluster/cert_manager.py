"""Checks of cert-manager before a run, and waits for what it issues in one."""

import base64
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from meshtrust.cluster import vault
from meshtrust.cluster.admission import is_unanswered
from meshtrust.cluster.api import (
    SECRETS,
    Api,
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Resource,
    UnreachableError,
)
from meshtrust.cluster.backoff import Notify, silent, wait_until_met
from meshtrust.cluster.readiness import explain_deployments, newest_warnings
from meshtrust.names import CERT_MANAGER_API, CERT_MANAGER_GROUP, CERTIFICATE_ANNOTATION
from meshtrust.pki.chain import find_chain
from meshtrust.pki.pem import PemError, read_bundle

CERTIFICATES = Resource(CERT_MANAGER_API, "certificates", "Certificate")
CERTIFICATE_REQUESTS = Resource(CERT_MANAGER_API, "certificaterequests", "CertificateRequest")
ISSUERS = Resource(CERT_MANAGER_API, "issuers", "Issuer")
CLUSTER_ISSUERS = Resource(CERT_MANAGER_API, "clusterissuers", "ClusterIssuer")
# How long its first question may take, which is less than the API server's pause before it calls a webhook again.
_ASK_SECONDS = 0.3
# cert-manager's chart, templates/webhook-deployment.yaml and deployment.yaml.
_WEBHOOK = {"app.kubernetes.io/name": "webhook", "app.kubernetes.io/component": "webhook"}
# A refusal names so many; kubectl lists all.
_NAMED = 10


class CertManagerError(ClusterError):
    """cert-manager, or what it issued, is not as a run needs it; the message says what, and what to do."""


async def has_api(api: Api) -> bool:
    """Whether cert-manager's API is served."""
    return await api.discover(CERT_MANAGER_API) is not None


async def wait_answers(api: Api, namespace: str, seconds: float, notify: Notify = silent) -> None:
    """Wait until cert-manager's webhook admits an object, which it does a while after its pods are ready.

    Args:
        api: Client of the cluster.
        namespace: cert-manager's namespace; nothing is made in it.
        seconds: How long to wait.
        notify: Gets a sentence of what is waited for.

    Raises:
        CertManagerError: It does not answer in time.
        ClusterError: The API server refuses for a reason that does not pass: another webhook denies the object, or a
            right is missing.

    The API server trusts the webhook only once cert-manager's CA injector has written its authority (cert-manager's
    documentation, "Webhook", on errors after an installation). It calls a webhook that does not answer again by itself,
    after pauses that grow (apiserver ``pkg/util/webhook/webhook.go``, DefaultRetryBackoffWithInitialDelay): a question
    that may take little time at first, and more as it is waited longer, has the answer sooner.
    """
    issuer = {
        "apiVersion": CERT_MANAGER_API,
        "kind": "Issuer",
        "metadata": {"name": "answers"},
        "spec": {"selfSigned": {}},
    }
    begun = time.monotonic()

    async def look() -> str:
        waited = time.monotonic() - begun
        try:
            await api.dry_run(ISSUERS, issuer, namespace, seconds=max(_ASK_SECONDS, waited / 4))
        except NotFoundError:
            return f"the API server to serve {CERT_MANAGER_API}"
        except UnreachableError:
            raise
        except ClusterError as error:
            if not is_unanswered(error):
                raise
            why = await explain_deployments(api, namespace, _WEBHOOK)
            return f"cert-manager's webhook to answer: {why or error.server_message}"
        return ""

    if waits := await wait_until_met(look, seconds, notify):
        msg = (
            f"cert-manager is installed, and does not answer after {seconds:.0f} seconds "
            f"(meshtrust:helm.timeoutSeconds). This run still waits for {waits}. Look at its pods: kubectl "
            f"-n {namespace} get pods; if they are ready, let the API server reach the webhook's, on port 10250 by "
            "default (firewalls, NetworkPolicies). Then run again."
        )
        raise CertManagerError(msg)


async def check_api(api: Api) -> None:
    """Make sure that a cert-manager is there that others have installed.

    Raises:
        CertManagerError: Its API is not served.
    """
    if not await has_api(api):
        msg = (
            "meshtrust:certManager.install is false, and the cluster has no cert-manager: its API "
            f"{CERT_MANAGER_API} is not there. Install it, or let this stack do so: "
            "pulumi config set --path certManager.install true"
        )
        raise CertManagerError(msg)


async def check_removal(api: Api, *, needed: bool, own: tuple[str, str]) -> None:
    """Make sure that cert-manager, which this stack installed, may be taken away again with its definitions.

    Args:
        api: Client of the cluster.
        needed: Whether the stack goes on to need a cert-manager.
        own: Namespace and name of the stack's own Certificate.

    Raises:
        CertManagerError: The stack, or another's Certificates, would lose it.
    """
    if needed:
        msg = (
            "meshtrust:certManager.install is false, and this stack has installed the cert-manager that it needs: "
            "taking it away would take the identity issuer's Certificate with it. Set it back: pulumi config set "
            "--path certManager.install true"
        )
        raise CertManagerError(msg)
    if not await has_api(api):
        return
    others = [
        f"{entry['metadata']['namespace']}/{entry['metadata']['name']}"
        async for entry in api.list(CERTIFICATES)
        if (entry["metadata"]["namespace"], entry["metadata"]["name"]) != own
    ]
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        msg = (
            "Nothing in this stack needs cert-manager any more, so that it would be taken away with its definitions, "
            f"and these Certificates with them: {', '.join(others[:_NAMED])}{more}. Delete them first, or keep a mode "
            "in which cert-manager issues (meshtrust:issuer.mode)."
        )
        raise CertManagerError(msg)


def check_secret_stays(secret: Mapping[str, Any] | None) -> None:
    """Make sure that a Secret outlives the Certificate that it was issued for.

    Raises:
        CertManagerError: It belongs to the Certificate, and would be deleted with it.

    Source: cert-manager's option ``enableCertificateOwnerRef``, which is off by default.
    """
    metadata = (secret or {}).get("metadata") or {}
    owners = [entry for entry in metadata.get("ownerReferences") or [] if entry.get("kind") == "Certificate"]
    if owners:
        msg = (
            f"Secret {metadata['namespace']}/{metadata['name']} belongs to its Certificate, and would be deleted with "
            "it: cert-manager runs with enableCertificateOwnerRef. Turn that off in its values, deploy, and run again."
        )
        raise CertManagerError(msg)


async def check_issuer(api: Api, namespace: str, reference: Mapping[str, str]) -> dict[str, Any]:
    """Make sure that an issuer exists and is ready; return it.

    Args:
        api: Client of the cluster.
        namespace: Namespace of the Certificate.
        reference: Its name, kind and group.

    Raises:
        CertManagerError: There is no such kind, no such issuer, or it is not ready.
    """
    name, kind, group = reference["name"], reference["kind"], reference["group"]
    named = f"meshtrust:issuer.refs names {kind} {name} ({group})"
    resource = await _find_resource(api, kind, group)
    if resource is None:
        hint = "Install cert-manager" if group == CERT_MANAGER_GROUP else "Install what serves it"
        msg = (
            f"{named}, and the cluster has no such kind. {hint} and make the issuer first. A cert-manager that is "
            "there is used with meshtrust:certManager.install false."
        )
        raise CertManagerError(msg)
    issuers, is_namespaced = resource
    issuer = await api.find(issuers, name, namespace=namespace if is_namespaced else "")
    place = f"namespace {namespace}" if is_namespaced else "the cluster"
    if issuer is None:
        msg = f"{named}, which {place} does not have. Make it first, or correct the name."
        raise CertManagerError(msg)
    ready = condition_of(issuer, "Ready")
    if ready.get("status") != "True":
        reason = vault.explain(issuer, ready.get("message") or "it has no condition Ready")
        msg = f"{named}, which is not ready: {reason}. See: kubectl describe {issuers.plural}.{group} {name}"
        raise CertManagerError(msg)
    return issuer


async def wait_issuer_ready(api: Api, namespace: str, name: str, seconds: float, notify: Notify = silent) -> None:
    """Wait until an Issuer on a CA of this program can sign.

    Args:
        api: Client of the cluster.
        namespace: Its namespace.
        name: Its name.
        seconds: How long to wait.
        notify: Gets a sentence of what is waited for.

    Raises:
        CertManagerError: It is not ready in time; the message has what cert-manager says of it.
        ClusterError: It cannot be read.
    """

    async def look() -> str:
        issuer = await api.get(ISSUERS, name, namespace=namespace)
        ready = condition_of(issuer, "Ready")
        if ready.get("status") == "True" and ready.get("observedGeneration") == issuer["metadata"]["generation"]:
            return ""
        return f"Issuer {namespace}/{name} to be ready: {ready.get('message') or 'cert-manager says nothing of it'}"

    if waits := await wait_until_met(look, seconds, notify):
        msg = (
            f"After {seconds:.0f} seconds (meshtrust:helm.timeoutSeconds) this run still waits for {waits}. See: "
            f"kubectl -n {namespace} describe issuer {name}"
        )
        raise CertManagerError(msg)


async def wait_issued(
    api: Api,
    namespace: str,
    name: str,
    seconds: float,
    notify: Notify = silent,
    *,
    authority: x509.Certificate | None = None,
) -> None:
    """Wait until cert-manager has issued a Certificate as it is declared now.

    One that found a Secret of its name has taken that over unseen, whoever wrote it; then it is made to issue again. So
    is one whose last attempt has failed: cert-manager would not try again for an hour or more.

    Args:
        api: Client of the cluster.
        namespace: Namespace of the Certificate.
        name: Its name.
        seconds: How long to wait; an issuer that asks a person for approval takes longer, and is run again.
        notify: Gets a sentence of what is waited for.
        authority: The root under which a certificate that was taken over is as good as one that was issued; None if
            none is.

    Raises:
        CertManagerError: It has failed, or has not issued in time; the message has what it says of it.
        ClusterError: It cannot be read.

    Source: cert-manager ``internal/controller/certificates/policies/checks.go``: a Secret without annotations counts as
    its own. ``status.revision`` is set by an issue and by nothing else. ``pkg/controller/certificates/trigger``:
    attempts after a failure are an hour apart, and more.
    """
    asked, failed_before = False, ""

    async def look() -> str:
        nonlocal asked, failed_before
        certificate = await read_certificate(api, namespace, name)
        failed = failure_of(certificate)
        if not failed and _is_issued(certificate):
            return ""
        if failed and asked and failed != failed_before:
            said = await explain(api, certificate)
            msg = (
                f"cert-manager cannot issue Certificate {namespace}/{name}: {said}. This run has asked it to try "
                "again; by itself it waits an hour and more. Put right what it says, and run again."
            )
            raise CertManagerError(msg)
        is_taken_over = _is_taken_over(certificate)
        if not failed and is_taken_over and authority and await _is_under(api, certificate, authority):
            return ""
        if not asked and (failed or is_taken_over):
            reason = "its last attempt has failed" if failed else "the Secret was there before the Certificate"
            asked, failed_before = await ask_for_issue(api, certificate, reason), failed
        return f"cert-manager to issue Certificate {namespace}/{name}: {await explain(api, certificate)}"

    if waits := await wait_until_met(look, seconds, notify):
        msg = (
            f"After {seconds:.0f} seconds this run still waits for {waits}. See: kubectl -n {namespace} describe "
            f"certificate {name}"
        )
        raise CertManagerError(msg)


async def read_certificate(api: Api, namespace: str, name: str) -> dict[str, Any]:
    """Return a Certificate.

    Raises:
        NotFoundError: It is not there, or cert-manager's API is not.
        ClusterError: It cannot be read.
    """
    return await api.get(CERTIFICATES, name, namespace=namespace)


async def ask_for_issue(api: Api, certificate: Mapping[str, Any], reason: str) -> bool:
    """Make cert-manager issue a Certificate again, as ``cmctl renew`` does.

    Args:
        api: Client of the cluster.
        certificate: The Certificate as it was read.
        reason: Why, as a clause that ends in the object's status.

    Returns:
        Whether it was asked: not if cert-manager has changed the Certificate meanwhile, whose conditions would be lost.

    Raises:
        ClusterError: It cannot be asked.

    Source: cmctl ``pkg/renew/renew.go``, which sets the condition Issuing with the reason ManuallyTriggered.
    """
    metadata = certificate["metadata"]
    conditions = [
        entry for entry in (certificate.get("status") or {}).get("conditions") or [] if entry["type"] != "Issuing"
    ]
    asked = {
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": f"Asked for by meshtrust: {reason}",
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": metadata["generation"],
    }
    # A merge patch replaces the whole list, so that it must be the one that was read.
    changed = {
        "metadata": {"resourceVersion": metadata["resourceVersion"]},
        "status": {"conditions": [*conditions, asked]},
    }
    try:
        name, namespace = metadata["name"], metadata["namespace"]
        await api.patch(CERTIFICATES, name, changed, namespace=namespace, subresource="status")
    except ConflictError:
        return False
    return True


def _is_issued(certificate: Mapping[str, Any]) -> bool:
    """Whether a Certificate was issued as it is declared now."""
    return _is_settled(certificate) and bool(certificate["status"].get("revision"))


def _is_taken_over(certificate: Mapping[str, Any]) -> bool:
    """Whether a Certificate counts a Secret as its own that it has not written."""
    return _is_settled(certificate) and not certificate["status"].get("revision")


async def _is_under(api: Api, certificate: Mapping[str, Any], authority: x509.Certificate) -> bool:
    """Whether what a Certificate's Secret holds is under a root."""
    secret = await api.find(SECRETS, certificate["spec"]["secretName"], namespace=certificate["metadata"]["namespace"])
    try:
        held = read_bundle(base64.b64decode(((secret or {}).get("data") or {}).get("tls.crt") or "").decode())
    except (PemError, ValueError):
        return False
    return bool(find_chain(held, [authority], datetime.now(UTC)))


def _is_settled(certificate: Mapping[str, Any]) -> bool:
    ready = condition_of(certificate, "Ready")
    is_current = ready.get("observedGeneration") == certificate["metadata"]["generation"]
    return ready.get("status") == "True" and is_current and condition_of(certificate, "Issuing").get("status") != "True"


def failure_of(certificate: Mapping[str, Any]) -> str:
    """Return what identifies the last failed attempt of a Certificate; empty if none has failed.

    Source: cert-manager ``pkg/controller/certificates/issuing``: a failure sets the condition Issuing to False, by the
    reason of the CertificateRequest, and a success removes it.
    """
    issuing, status = condition_of(certificate, "Issuing"), certificate.get("status") or {}
    if issuing.get("status") != "False" or not status.get("lastFailureTime"):
        return ""
    return f"{status['lastFailureTime']} {status.get('failedIssuanceAttempts')}"


async def explain(api: Api, certificate: Mapping[str, Any]) -> str:
    """Return why a Certificate is not issued, as a sentence without its end, with what to do where that is known.

    The Certificate says only that it is being issued while its request waits, for Vault to be unsealed for example, or
    cannot be made, which an event tells (cert-manager ``pkg/controller/certificates/requestmanager``).

    Args:
        api: Client of the cluster.
        certificate: The Certificate as it was read.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    issuing, ready = condition_of(certificate, "Issuing"), condition_of(certificate, "Ready")
    reason = issuing.get("message") or ready.get("message") or "it gives no reason"
    issuer = await _issuer_of(api, certificate) or {}
    if issuing.get("status") == "True":
        is_ready = condition_of(issuer, "Ready").get("status") in ("True", None)
        unready = "" if is_ready else str(condition_of(issuer, "Ready").get("message"))
        warnings = "; ".join(await newest_warnings(api, certificate))
        reason = unready or await request_says(api, certificate) or warnings or reason
    return vault.explain(issuer, str(reason))


async def request_says(api: Api, certificate: Mapping[str, Any]) -> str:
    """Return what the newest request of a Certificate says of itself; empty if there is none, or it is not shown.

    Raises:
        ClusterError: The cluster cannot be read.
    """
    metadata = certificate["metadata"]
    try:
        requests = [item async for item in api.list(CERTIFICATE_REQUESTS, namespace=metadata["namespace"])]
    except ForbiddenError:
        return ""
    own = [
        item
        for item in requests
        if (item["metadata"].get("annotations") or {}).get(CERTIFICATE_ANNOTATION) == metadata["name"]
    ]
    newest = sorted(own, key=lambda item: str(item["metadata"]["creationTimestamp"]))[-1:]
    for request in newest:
        if not condition_of(request, "Approved"):
            return f"CertificateRequest {request['metadata']['name']} waits for approval"
        if message := condition_of(request, "Ready").get("message"):
            return f"CertificateRequest {request['metadata']['name']}: {message}"
    return ""


async def _issuer_of(api: Api, certificate: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the issuer of a Certificate; None if it is another's than cert-manager's, missing, or may not be read."""
    reference = certificate["spec"]["issuerRef"]
    if reference.get("group", CERT_MANAGER_GROUP) != CERT_MANAGER_GROUP:
        return None
    is_cluster_issuer = reference.get("kind") == "ClusterIssuer"
    namespace = "" if is_cluster_issuer else certificate["metadata"]["namespace"]
    try:
        return await api.find(CLUSTER_ISSUERS if is_cluster_issuer else ISSUERS, reference["name"], namespace=namespace)
    except ForbiddenError:
        return None


async def _find_resource(api: Api, kind: str, group: str) -> tuple[Resource, bool] | None:
    """Return a kind and whether it is namespaced, None if it is not served."""
    found = await api.discover(group)
    for served in (found or {}).get("versions") or []:
        version = served["groupVersion"]
        for resource in (await api.discover(version) or {}).get("resources") or []:
            if resource["kind"] == kind and "/" not in resource["name"]:
                return Resource(version, resource["name"], kind), resource["namespaced"]
    return None


def condition_of(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of an object; an empty one if it has none of that kind."""
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry.get("type") == kind), {})
