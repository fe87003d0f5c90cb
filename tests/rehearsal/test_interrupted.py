"""A run that was interrupted, or failed: the next one says what is in its way, and goes on from there."""

import os
import signal
import subprocess
import time

import pytest

from rehearsal.workspace import REPOSITORY, workspace
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, run, settings


def test_a_run_that_was_killed_is_resumed(cluster, binaries, linkerd_charts, observer, embedded):
    """Killed in the middle of installing cert-manager, the worst moment: Helm then refuses to touch the release."""
    before = observer.inventory()
    with workspace("dev", settings=settings(cluster, binaries, linkerd_charts), embedded=embedded) as project:
        engine = subprocess.Popen(
            project.command(*UP),
            env=project.full_environment,
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with cluster.client() as api:
            pending = {"labelSelector": "owner=helm,status=pending-install,name=cert-manager"}
            path = "/api/v1/namespaces/cert-manager/secrets"
            deadline = time.monotonic() + 60
            while not (api.get(path, params=pending).json().get("items")):
                assert time.monotonic() < deadline, "cert-manager was never being installed"
                assert engine.poll() is None, "the run ended too early"
            os.killpg(engine.pid, signal.SIGKILL)
            engine.wait()
            run(project, "cancel", "--yes")
        resumed = run(project, *UP)
        assert "An interrupted run has left release cert-manager/cert-manager half done; that was cleared" in resumed
        run(project, *UP, *NO_CHANGES)
        run(project, *DESTROY)
    observer.wait_for_inventory(before, 60)


@pytest.mark.soak
def test_a_step_that_failed_half_way_does_not_count_as_taken(make_stack):
    """The new anchor is made, and Linkerd cannot be given it: to switch to it now would be a jump."""
    stack = make_stack()
    stack.up()
    both = {"anchors": ["2026", "2027"], "signer": "2026"}
    stack.refused(*UP, **both, linkerd={"values": {"imagePullSecrets": "no list"}})
    assert stack.project.outputs()["anchors"] == ["2026"]
    said = stack.refused(*UP, linkerd={"values": {}}, signer="2027")
    assert "signer 2027 is trusted by no proxy yet" in said
    stack.up(**both)
    assert [entry["step"] for entry in stack.project.outputs()["transitions"]] == ["deploy", "introduce"]
