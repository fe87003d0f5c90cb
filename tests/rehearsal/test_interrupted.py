"""A run that was interrupted, or failed: the next one says what is in its way, and goes on from there."""

import contextlib
import os
import re
import signal
import subprocess

import pytest

from rehearsal.workspace import REPOSITORY, workspace
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, run, settings

RELEASES = {
    "cert-manager-release": ("cert-manager", "cert-manager"),
    "linkerd-control-plane": ("linkerd", "linkerd-control-plane"),
}


@contextlib.contextmanager
def running(project, *command, output=subprocess.DEVNULL, **environment):
    """Run one of the engine's commands side by side with the test; what it writes goes to a file, if one is given."""
    engine = subprocess.Popen(
        project.command(*command),
        env={**project.full_environment, **environment},
        cwd=REPOSITORY,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield engine
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()


def revisions(cluster, namespace, name, status):
    """The revisions of a release that are in a state."""
    selected = {"labelSelector": f"owner=helm,status={status},name={name}"}
    with cluster.client() as api:
        return api.get(f"/api/v1/namespaces/{namespace}/secrets", params=selected).json().get("items")


@pytest.fixture
def placed(cluster, binaries, linkerd_charts):
    return settings(cluster, binaries, linkerd_charts)


def test_a_run_that_was_killed_is_resumed(cluster, placed, observer):
    """Killed in the middle of installing cert-manager, the worst moment: Helm then refuses to touch the release."""
    before = observer.inventory()
    with workspace("dev", settings=placed) as project:
        with running(project, *UP) as engine:
            wait_until(lambda: revisions(cluster, "cert-manager", "cert-manager", "pending-install"), 60)
            assert engine.poll() is None, "the run ended too early"
        run(project, "cancel", "--yes")
        resumed = " ".join(run(project, *UP).split())
        # The real provider is in a process group of its own, and may have finished it meanwhile.
        taken_over = "cert-manager is this stack's, which has no record of it; it is taken" in resumed
        left = "An interrupted run has left release cert-manager/cert-manager"
        assert taken_over or f"{left} half done; that was cleared" in resumed
        run(project, *UP, *NO_CHANGES)
        run(project, *DESTROY)
    observer.wait_for_inventory(before, 60)


@pytest.mark.soak
@pytest.mark.parametrize("resource", RELEASES)
def test_a_release_that_was_finished_and_not_recorded_is_taken_over(cluster, placed, observer, resource):
    """The real provider lives on for a while without its engine: Helm finishes what the state knows nothing of."""
    before = observer.inventory()
    namespace, name = RELEASES[resource]
    with workspace("dev", settings=placed) as project:
        with running(project, *UP) as engine:
            wait_until(lambda: revisions(cluster, namespace, name, "pending-install"), 120)
            os.kill(engine.pid, signal.SIGKILL)
            wait_until(lambda: revisions(cluster, namespace, name, "deployed"), 120)
        run(project, "cancel", "--yes")
        seen = run(project, "preview", "--non-interactive")
        left = f"Helm release {namespace}/{name} is this stack's, which has no record of it"
        assert f"{left}. The next update takes it over." in " ".join(seen.split())
        resumed = run(project, *UP)
        assert f"{left}; it is taken over, and this run goes on." in " ".join(resumed.split())
        assert len(revisions(cluster, namespace, name, "deployed")) == 1
        # The CLI goes on to warn of what it was creating, until it learns that this has ended.
        assert "pending operations" in run(project, *UP, *NO_CHANGES)
        [cure] = set(re.findall(r"pulumi (refresh --clear-pending-creates)", resumed))
        run(project, *cure.split(), "--yes", "--non-interactive", "--skip-preview")
        assert "pending operations" not in run(project, *UP, *NO_CHANGES)
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
    said = stack.refused(*UP, linkerd={"values": {}}, signer="2027", rotation={"mode": "step"})
    assert "signer 2027 is trusted by no proxy yet" in said
    # With both as the goal, the run introduces it, and does not switch.
    stack.configure(rotation={"mode": "reconcile"})
    stack.run(*UP)
    outputs = stack.project.outputs()
    assert (outputs["anchors"], outputs["signer"]) == (["2026", "2027"], "2026")
    stack.up(**both)
    assert [entry["step"] for entry in stack.project.outputs()["transitions"]] == ["deploy", "introduce"]
