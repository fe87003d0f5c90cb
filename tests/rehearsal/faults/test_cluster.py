"""Parts of the cluster fail while a run is at work, or between runs."""

import shlex
from dataclasses import dataclass

import httpx
import pytest

from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.faults.conftest import RELEASE, meet, said
from tests.rehearsal.stack import UP
from tests.rehearsal.test_interrupted import running

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("unhurt")]


@dataclass(frozen=True)
class Place:
    """A change by an `up`, and the boundary of it at which a fault happens."""

    change: str
    boundary: str
    when: str


ISSUED = Place(
    "issuer",
    "updating kubernetes:cert-manager.io/v1:Certificate identity-issuer-certificate: begun",
    "the start of a renewal of the identity issuer in an `up`",
)
UPGRADED = Place("linkerd", RELEASE, "the start of an upgrade of Linkerd's release in an `up`")
PROCESSES = {"the API server": "kube-apiserver"}


@dataclass(frozen=True)
class Befalling:
    """A fault of a component that an `up` outlasts, and what becomes of it."""

    component: str
    fault: str
    place: Place
    happens: str


# A counter of the API server: calls of webhooks that failed.
REJECTED = "apiserver_admission_webhook_rejection_count"
STALLED_SECONDS, AWAY_SECONDS = 8, 30
IS_KILLED, STANDS_STILL = "is killed", f"is stopped for {STALLED_SECONDS} seconds (SIGSTOP)"
GOES_ON = "the next `up` succeeds; 0 changes afterwards; every proxy serves, no handshake failed"


def stall(pid):
    """A process stands still for a while, as it does on a machine that has too much to do."""
    return f"sh -c 'kill -STOP {pid}; (sleep {STALLED_SECONDS}; kill -CONT {pid}) >/dev/null 2>&1 &'"


def test_the_api_server_is_away_during_an_update(mesh, change, row):
    change(UPGRADED.change)
    process = mesh.cluster.directory / "kube-apiserver.pid"
    kill = f"i=0; while [ $i -lt {AWAY_SECONDS * 4} ]; do kill -KILL $(cat {process}); sleep 0.25; i=$((i+1)); done"
    do = shlex.join(["sh", "-c", f"({kill}) >/dev/null 2>&1 &"])
    code, written = meet(mesh.project, *UP, FAULTS_AT=UPGRADED.boundary, FAULTS_DO=do)
    assert code != 0
    with mesh.cluster.client() as api:
        wait_until(lambda: _answers(api), 90)
    row(
        fault=f"the API server is killed repeatedly, for {AWAY_SECONDS} seconds",
        when=UPGRADED.when,
        happens="the run fails, and changes nothing else; the next one repairs the release",
        says=said(written, r"error: [Kk]ubernetes cluster unreachable: Get .*?connection refused"),
        kept=GOES_ON,
    )


def _answers(api):
    try:
        return api.get("/readyz").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    "befalling",
    [
        Befalling("the API server", STANDS_STILL, UPGRADED, "the run waits, and continues"),
        Befalling(
            "etcd",
            IS_KILLED,
            UPGRADED,
            "the API server waits for etcd, which restarts by itself, and the run continues",
        ),
        Befalling("etcd", STANDS_STILL, UPGRADED, "the run waits, and continues"),
        Befalling("cert-manager", IS_KILLED, ISSUED, "it restarts by itself and issues; the run waits for that"),
        Befalling(
            "cert-manager", STANDS_STILL, ISSUED, "the run waits until it has issued, at most `helm.timeoutSeconds`"
        ),
    ],
    ids=lambda befalling: f"{befalling.component} {befalling.fault}",
)
def test_an_update_outlasts_what_befalls_a_component(mesh, change, pid, row, befalling):
    place = befalling.place
    change(place.change)
    process = pid(PROCESSES.get(befalling.component, befalling.component))
    done = stall(process) if befalling.fault == STANDS_STILL else f"kill -KILL {process}"
    code, written = meet(mesh.project, *UP, FAULTS_AT=place.boundary, FAULTS_DO=done)
    assert code == 0, written
    fault = f"{befalling.component} {befalling.fault}"
    row(fault=fault, when=place.when, happens=befalling.happens, says="", kept=GOES_ON)


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
        happens="the run first waits until the webhook answers, at most `helm.timeoutSeconds`, and continues",
        says="",
        kept=GOES_ON,
    )
