"""The identity issuer's Secret is damaged, the identity service misses its renewal, and clocks are wrong."""

import base64
import os
import signal

import pytest

from rehearsal.observe import Observer
from tests.certificates import make_certificate
from tests.rehearsal.faults.conftest import clock, meet, said
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.live_stack import ISSUER_SECRET
from tests.rehearsal.stack import UP

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("unhurt")]

MERGE = {"Content-Type": "application/merge-patch+json"}
HEALS = "cert-manager issues another one within seconds, or when it runs again, and the identity service loads it"
SERVES = "an issuer under the same anchor is in use; no handshake failed"


@pytest.fixture
def damaged(mesh, pid):
    """Damage the Secret while cert-manager stands still; return what `meshtrust verify` says meanwhile."""

    def damage(data):
        process = pid("cert-manager")
        os.kill(process, signal.SIGSTOP)
        try:
            with mesh.cluster.client() as api:
                if data is None:
                    api.delete(ISSUER_SECRET).raise_for_status()
                else:
                    kept = content(api.get(ISSUER_SECRET).json())
                    texts = {key: base64.b64encode(text.encode()).decode() for key, text in data(kept).items()}
                    api.patch(ISSUER_SECRET, json={"data": texts}, headers=MERGE).raise_for_status()
            told = mesh.cli("verify")
        finally:
            os.kill(process, signal.SIGCONT)
        assert told.returncode != 0
        assert "Traceback" not in told.stderr
        return told.stdout + told.stderr

    return damage


def test_the_issuers_secret_is_deleted(damaged, row):
    told = damaged(None)
    row(
        fault="Secret linkerd-identity-issuer is deleted",
        when="at any time",
        happens=HEALS,
        says=said(told, r"Secret linkerd/linkerd-identity-issuer holds no issuer in tls\.crt\."),
        kept=SERVES,
    )


def test_the_issuers_secret_is_truncated(damaged, row):
    told = damaged(lambda kept: {"tls.crt": kept["tls.crt"][:500]})
    row(
        fault="Secret linkerd-identity-issuer is truncated",
        when="at any time",
        happens=HEALS,
        says=said(told, r"tls\.crt of Secret linkerd/linkerd-identity-issuer cannot be understood: [^.]*\."),
        kept=SERVES,
    )


def test_the_issuers_secret_is_swapped_for_that_of_another_authority(damaged, row):
    foreign = make_certificate("root.somewhere.else")
    issuer = make_certificate("identity.linkerd.cluster.local", issuer=foreign, path_length=0)
    told = damaged(lambda _: {"tls.crt": issuer.pem, "tls.key": issuer.key_pem, "ca.crt": foreign.pem})
    row(
        fault="Secret linkerd-identity-issuer is swapped for that of another CA",
        when="at any time",
        happens=f"the identity service refuses it and continues with the last one; {HEALS}",
        says=said(told, r"[^✗.]*chains to no root of the bundle[^.]*\."),
        kept=SERVES,
    )


def test_the_identity_service_misses_a_reload(mesh, row):
    selected = {"labelSelector": "linkerd.io/control-plane-component=identity"}
    with mesh.cluster.client() as api:
        [pod] = api.get("/api/v1/namespaces/linkerd/pods", params=selected).json()["items"]
        api.patch(
            f"/api/v1/namespaces/linkerd/pods/{pod['metadata']['name']}",
            json={"metadata": {"annotations": {"rehearsal.meshtrust.io/misses-reload": "true"}}},
            headers=MERGE,
        ).raise_for_status()
    observer = Observer(mesh.cluster)
    old = observer.secret_certificate("linkerd", "linkerd-identity-issuer")
    observer.renew_certificate("linkerd", "linkerd-identity-issuer")
    observer.wait_for_another("linkerd", "linkerd-identity-issuer", old, 60)
    told = mesh.cli("verify")
    assert told.returncode == 1
    healed = mesh.cli("heal")
    assert healed.returncode == 0, healed.stderr
    row(
        fault="the identity service misses a reload (linkerd2 issue 15109)",
        when="during a renewal of the issuer",
        happens="it keeps signing with the previous issuer; `verify` and the alert report it, and `heal` restarts it",
        says=said(told.stdout, r"linkerd/linkerd-identity-… signs with [^:]*: it has missed the reload"),
        kept=SERVES,
    )


@pytest.mark.parametrize(("hours", "direction"), [(1, "ahead"), (-1, "behind")])
def test_the_clock_of_the_machine_is_wrong(mesh, row, hours, direction):
    mesh.configure(anchors=["2026", "2027"])
    try:
        code, written = meet(mesh.project, *UP, **clock(hours))
    finally:
        mesh.configure(anchors=["2026"])
    assert code == 1
    assert mesh.outputs()["anchors"] == ["2026"]
    row(
        fault=f"the clock of the deploying machine is {direction} by an hour",
        when="any run or command, such as an `up` that would create a root",
        happens="the run or command is refused before it changes anything",
        says=said(written, rf"This machine's clock is \d+ minutes {direction}[^.]*\."),
        kept="nothing was created",
    )
