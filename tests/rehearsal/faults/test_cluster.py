"""Parts of the cluster fail while a run is at work, or between runs."""

import httpx
import pytest

from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.faults.conftest import RELEASE, meet, said
from tests.rehearsal.rotation_bench import UP
from tests.rehearsal.test_interrupted import running

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("unhurt")]

CERTIFICATE = "updating kubernetes:cert-manager.io/v1:Certificate identity-issuer-certificate: begun"
# A counter of the API server: calls of webhooks that failed.
REJECTED = "apiserver_admission_webhook_rejection_count"
STALLED_SECONDS = 8
GOES_ON = "the next `up` gets to the same end; 0 changes afterwards; every proxy serves, no handshake failed"


def stall(pid):
    """A process stands still for a while, as it does on a machine that has too much to do."""
    return f"sh -c 'kill -STOP {pid}; (sleep {STALLED_SECONDS}; kill -CONT {pid}) >/dev/null 2>&1 &'"


def test_the_api_server_is_killed_during_an_update(mesh, change, pid, row):
    change("issuer")
    code, written = meet(mesh.project, *UP, FAULTS_AT=CERTIFICATE, FAULTS_DO=f"kill -KILL {pid('kube-apiserver')}")
    assert code == 1
    with mesh.cluster.client() as api:
        wait_until(lambda: _answers(api), 60)
    row(
        fault="the API server is killed",
        when="an `up` that has the identity issuer issued anew, as it begins to",
        happens="the run fails, and leaves the rest alone; the API server comes back by itself",
        says=said(written, r"error: .{0,200}?(failed|refused|reset|disconnected|reached)"),
        kept=GOES_ON,
    )


def _answers(api):
    try:
        return api.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def test_the_api_server_stands_still_during_an_update(mesh, change, pid, row):
    change("linkerd")
    code, written = meet(mesh.project, *UP, FAULTS_AT=RELEASE, FAULTS_DO=stall(pid("kube-apiserver")))
    assert code == 0, written
    row(
        fault="the API server stands still for 8 seconds (SIGSTOP)",
        when="an `up` that upgrades Linkerd's release, as it begins to",
        happens="the run waits, and goes on",
        says="",
        kept=GOES_ON,
    )


def test_etcd_is_killed_during_an_update(mesh, change, pid, row):
    change("linkerd")
    code, written = meet(mesh.project, *UP, FAULTS_AT=RELEASE, FAULTS_DO=f"kill -KILL {pid('etcd')}")
    assert code == 0, written
    row(
        fault="etcd is killed",
        when="an `up` that upgrades Linkerd's release, as it begins to",
        happens="the API server waits for etcd, which comes back by itself, and the run goes on",
        says="",
        kept=GOES_ON,
    )


def test_etcd_stands_still_during_an_update(mesh, change, pid, row):
    change("linkerd")
    code, written = meet(mesh.project, *UP, FAULTS_AT=RELEASE, FAULTS_DO=stall(pid("etcd")))
    assert code == 0, written
    row(
        fault="etcd stands still for 8 seconds (SIGSTOP)",
        when="an `up` that upgrades Linkerd's release, as it begins to",
        happens="the run waits, and goes on",
        says="",
        kept=GOES_ON,
    )


def test_cert_manager_is_killed_as_an_issuer_is_to_be_issued(mesh, change, pid, row):
    change("issuer")
    code, written = meet(mesh.project, *UP, FAULTS_AT=CERTIFICATE, FAULTS_DO=f"kill -KILL {pid('cert-manager')}")
    assert code == 0, written
    row(
        fault="cert-manager is killed",
        when="an `up` that has the identity issuer issued anew, as it begins to",
        happens="it comes back by itself and issues; the run waits for that",
        says="",
        kept=GOES_ON,
    )


def test_cert_manager_stands_still_as_an_issuer_is_to_be_issued(mesh, change, pid, row):
    change("issuer")
    code, written = meet(mesh.project, *UP, FAULTS_AT=CERTIFICATE, FAULTS_DO=stall(pid("cert-manager")))
    assert code == 0, written
    row(
        fault="cert-manager stands still for 8 seconds (SIGSTOP)",
        when="an `up` that has the identity issuer issued anew, as it begins to",
        happens="the run waits until it has issued, 5 minutes at most",
        says="",
        kept=GOES_ON,
    )


def test_the_webhook_of_cert_manager_is_down(mesh, change, row):
    change("issuer")
    path = "/apis/apps/v1/namespaces/cert-manager/deployments/cert-manager-webhook"
    merge = {"headers": {"Content-Type": "application/merge-patch+json"}}
    issuer = {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "x"}}
    issuer["spec"] = {"selfSigned": {}}
    issuers = "/apis/cert-manager.io/v1/namespaces/cert-manager/issuers"
    with mesh.cluster.client() as api:

        def answers():
            return api.post(issuers, params={"dryRun": "All"}, json=issuer, timeout=30).is_success

        def refused():
            lines = api.get("/metrics").text.splitlines()
            return [line for line in lines if line.startswith(REJECTED) and "cert-manager" in line]

        api.patch(path, json={"spec": {"replicas": 0}}, **merge).raise_for_status()
        wait_until(lambda: not answers(), 60)
        before = refused()
        with running(mesh.project, *UP) as engine:
            wait_until(lambda: refused() != before, 60)
            assert engine.poll() is None
            api.patch(path, json={"spec": {"replicas": 1}}, **merge).raise_for_status()
            assert engine.wait(120) == 0
        wait_until(answers, 60)
    row(
        fault="cert-manager's webhook is down",
        when="before an `up` that changes a Certificate",
        happens="the run asks it before anything else, waits until it answers, 3 minutes at most, and goes on",
        says="",
        kept=GOES_ON,
    )
