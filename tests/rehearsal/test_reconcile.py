"""A goal is set once, and runs of `pulumi up` reach it by themselves: under load, without a failed handshake."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from rehearsal.mesh.traffic import read_handshakes
from tests.rehearsal.rotation_bench import APPLICATIONS, bench
from tests.rehearsal.stack import UP, charts_of_linkerd

RESTARTING = {"restart": "workloads"}


@pytest.fixture(scope="module")
def mesh():
    with bench("reconcile", workloads=6, replicas=2) as made:
        yield made


@pytest.fixture
def steady(mesh):
    """The generation that is the stack's only anchor."""
    [anchor] = mesh.outputs()["anchors"]
    return anchor


def run_until_converged(mesh, most):
    """Run the stack as a scheduler would, and return the steps that the runs have taken."""
    before = len(mesh.outputs()["transitions"])
    for _ in range(most):
        mesh.up()
        if mesh.outputs()["rotation"]["converged"]:
            return [entry["step"] for entry in mesh.outputs()["transitions"][before:]]
    pytest.fail(f"not converged after {most} runs: {mesh.outputs()['rotation']}")


def generations_of(mesh):
    """Return the number of restarts of each workload."""
    with mesh.cluster.client() as api:
        found = api.get(f"/apis/apps/v1/namespaces/{APPLICATIONS}/deployments").json()["items"]
    return {entry["metadata"]["name"]: entry["metadata"]["generation"] - 1 for entry in found}


def test_a_goal_is_reached_by_runs_alone_with_two_restarts_of_each_workload(mesh):
    following, restarted, failed = f"g{uuid.uuid4().hex[:8]}", generations_of(mesh), mesh.failed()
    mesh.configure(anchors=[following], signer=following, rotation=RESTARTING)
    assert run_until_converged(mesh, most=4) == ["introduce", "switch", "retire"]
    assert (mesh.outputs()["anchors"], mesh.outputs()["signer"]) == ([following], following)
    assert {name: count - restarted[name] for name, count in generations_of(mesh).items()} == dict.fromkeys(
        restarted, 2
    )
    assert mesh.failed() == failed
    assert read_handshakes(mesh.cluster).attempted > 100


def test_a_run_that_has_to_wait_changes_no_anchor_and_says_for_what(mesh, steady):
    following = f"g{uuid.uuid4().hex[:8]}"
    mesh.configure(anchors=[following], signer=following, rotation=None)
    mesh.up()
    assert mesh.outputs()["anchors"] == [steady, following]
    previewed = mesh.engine("preview", "--non-interactive")
    written = mesh.up()
    for text in (previewed.stdout + previewed.stderr, written):
        assert f"It is not safe yet to switch the signer to {following}" in text
        assert f"{APPLICATIONS}/workload-001" in text
        assert "This run leaves anchors and signer as they are" in text
    assert previewed.returncode == 0
    report = mesh.outputs()["rotation"]
    assert (report["next"], report["converged"]) == (f"switch-{following}", False)
    assert report["waitingFor"]["count"] >= 12
    assert mesh.outputs()["signer"] == steady
    since = report["since"]
    mesh.up()
    assert mesh.outputs()["rotation"]["since"] == since, "it has waited since then"


def test_a_goal_that_is_set_back_is_an_abort_by_the_same_runs(mesh):
    steady, following = mesh.outputs()["anchors"]
    failed = mesh.failed()
    mesh.configure(anchors=[steady], signer=steady, rotation=RESTARTING)
    previewed = mesh.engine("preview", "--non-interactive")
    assert f"This run aborts the rotation to {following}" in previewed.stdout + previewed.stderr
    assert run_until_converged(mesh, most=2) == ["retire"]
    assert mesh.outputs()["anchors"] == [steady]
    assert mesh.failed() == failed


def test_what_no_restart_cures_is_waited_for_by_name_until_it_is_gone(mesh):
    following = f"g{uuid.uuid4().hex[:8]}"
    mesh.run_pod("bare")
    mesh.configure(anchors=[following], signer=following, rotation=RESTARTING)
    mesh.up()
    mesh.up()
    report = mesh.outputs()["rotation"]
    assert (report["next"], report["waitingFor"]["count"]) == (f"switch-{following}", 1)
    assert report["waitingFor"]["first"][0].startswith(f"{APPLICATIONS}/bare")
    mesh.delete(f"/api/v1/namespaces/{APPLICATIONS}/pods/bare")
    assert run_until_converged(mesh, most=3) == ["switch", "retire"]


def test_an_upgrade_in_the_edit_of_the_goal_comes_before_the_step(mesh, steady):
    following = f"g{uuid.uuid4().hex[:8]}"
    mesh.configure(anchors=[following], signer=following, rotation=RESTARTING)
    mesh.up()
    charts = {"charts": str(charts_of_linkerd())}
    mesh.configure(linkerd={**charts, "values": {"proxy": {"image": {"version": "another"}}}})
    assert "it upgrades, and one run takes one step" in mesh.up()
    assert mesh.outputs()["signer"] == steady
    assert run_until_converged(mesh, most=3) == ["switch", "retire"]


@pytest.mark.soak
def test_of_two_runs_at_the_same_time_one_at_most_takes_the_step_and_the_other_says_why_it_does_not(mesh, steady):
    following = f"g{uuid.uuid4().hex[:8]}"
    mesh.configure(anchors=[following], signer=following, rotation=RESTARTING)
    before, failed = len(mesh.outputs()["transitions"]), mesh.failed()
    with ThreadPoolExecutor() as pool:
        raced = list(pool.map(lambda _: mesh.engine(*UP), range(2)))
    # The backend's locks: of two runs that begin at the same moment, both may give way.
    locked = [run for run in raced if run.returncode]
    assert locked, "two runs were at work on one stack"
    for run in locked:
        assert "the stack is currently locked by" in run.stdout + run.stderr
    taken = [entry["step"] for entry in mesh.outputs()["transitions"][before:]]
    assert taken == ["introduce"] * (len(raced) - len(locked))
    assert steady in mesh.outputs()["anchors"]
    assert run_until_converged(mesh, most=4)[-2:] == ["switch", "retire"]
    assert mesh.failed() == failed


@pytest.mark.soak
def test_a_run_with_an_older_file_is_said_to_abort_the_rotation_and_is_refused_once_that_is_over(mesh, steady):
    following = f"g{uuid.uuid4().hex[:8]}"
    older = mesh.file.read_text()
    mesh.configure(anchors=[following], signer=following, rotation=RESTARTING)
    newer = mesh.file.read_text()
    mesh.up()
    mesh.file.write_text(older)
    previewed = mesh.engine("preview", "--non-interactive")
    assert previewed.returncode == 0, previewed.stdout + previewed.stderr
    written = " ".join((previewed.stdout + previewed.stderr).split())
    assert (
        f"This run aborts the rotation to {following}: meshtrust:anchors and meshtrust:signer are set back" in written
    )
    mesh.file.write_text(newer)
    run_until_converged(mesh, most=3)
    mesh.file.write_text(older)
    late = mesh.engine(*UP)
    assert late.returncode != 0
    assert f'generation "{steady}" has been retired' in " ".join((late.stdout + late.stderr).split())
    assert mesh.outputs()["anchors"] == [following]
    mesh.file.write_text(newer)
