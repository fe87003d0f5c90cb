"""External workloads, Links, gateways and native sidecars: `status`, `plan` and `fleet rotate` name them."""

import json
import os
import sys

import pytest

from meshtrust.commands.cli import main
from meshtrust.rotation import gate
from meshtrust.stacks import target
from meshtrust.stacks.stack import cli
from tests.fake_cluster import of_deployment, pod_item
from tests.refusals import acknowledge
from tests.unit.every_command import CLUSTERS, GENERATIONS, OLD, STACK, make_mesh, make_project

LINKS, EXTERNAL = "multicluster.linkerd.io/v1alpha3", "workload.linkerd.io/v1beta1"
GATEWAY = {"name": "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES", "value": "svc.cluster.local."}
VM, PARTNER = "ExternalWorkload shop/vm-1", "Link linkerd-multicluster/partner"
SIBLING, DOOR = f"Link linkerd-multicluster/{CLUSTERS[0]}", "Deployment shop/gateway"


@pytest.fixture
def mesh():
    """A mesh with an external workload, two Links, a gateway, and a native sidecar that lacks the new root."""
    made = make_mesh()
    for version in (LINKS, EXTERNAL):
        made.objects[f"apis/{version.partition('/')[0]}"] = {"preferredVersion": {"groupVersion": version}}
    made.add(f"apis/{EXTERNAL}/externalworkloads", {"metadata": {"namespace": "shop", "name": "vm-1"}})
    for name in ("partner", CLUSTERS[0]):
        place = {"namespace": "linkerd-multicluster", "name": name}
        made.add(f"apis/{LINKS}/links", {"metadata": place, "spec": {"targetClusterName": name}})
    door = pod_item("gateway-1", anchors=None, **of_deployment("gateway"))
    door["spec"]["containers"][-1]["env"].append(GATEWAY)
    for pod in (door, pod_item("native-1", anchors=OLD.pem, is_native=True, **of_deployment("native"))):
        made.add("api/v1/namespaces/shop/pods", pod)
    return made


@pytest.fixture
def run(mesh, tmp_path, monkeypatch, capsys):
    """Run a command on a stack of its own and on a fleet, with the real code but for cluster and CLI."""
    make_project(tmp_path)
    cli.cache_clear()

    async def open_cluster(*_):
        return mesh

    monkeypatch.setattr(target, "open_cluster", open_cluster)
    monkeypatch.setattr(gate, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["meshtrust", *arguments, "--cwd", str(tmp_path)])
        with pytest.raises(SystemExit):
            main()
        shown = capsys.readouterr()
        return " ".join((shown.out + shown.err).replace('\\"', '"').split())

    yield command
    cli.cache_clear()


@pytest.mark.parametrize("stack", [STACK, CLUSTERS[1]], ids=["alone", "in a fleet"])
def test_status_names_all_of_them(run, stack):
    assert json.loads(run("status", "--stack", stack, "--json"))["unseen"] == [VM, *sorted([PARTNER, SIBLING]), DOOR]
    shown = run("status", "--stack", stack)
    assert all(f"- {subject}"[:40] in shown for subject in (VM, PARTNER, DOOR)), shown


def test_plan_of_a_stack_of_its_own_names_all_of_them(run):
    shown = run("plan", "--stack", STACK)
    assert all(f"{subject}: " in shown for subject in (VM, PARTNER, SIBLING, DOOR)), shown
    assert "shop/native-1" in shown


def test_plan_of_a_cluster_in_a_fleet_names_what_the_fleet_does_not_take_care_of(run):
    shown = run("plan", "--stack", CLUSTERS[1])
    assert all(f"{subject}: " in shown for subject in (VM, PARTNER, DOOR)), shown
    assert f"{SIBLING}: " not in shown
    assert "other clusters may connect to it that are not of this fleet" in shown


def test_plan_names_before_the_introduction_what_the_steps_after_it_wait_for(run, tmp_path):
    for name in (STACK, CLUSTERS[1]):
        path = tmp_path / f"outputs-{name}.json"
        outputs = json.loads(path.read_text())
        kept = {**outputs, "anchors": [GENERATIONS[0]], "trustAnchors": OLD.pem}
        kept["roots"] = {GENERATIONS[0]: outputs["roots"][GENERATIONS[0]]}
        path.write_text(json.dumps(kept))
    for name, named in ((STACK, [VM, *sorted([PARTNER, SIBLING]), DOOR]), (CLUSTERS[1], [VM, PARTNER, DOOR])):
        found = json.loads(run("plan", "--stack", name, "--to", GENERATIONS[1], "--json"))
        assert found["steps"][0]["step"] == "introduce"
        assert found["unseen"] == named
        shown = run("plan", "--stack", name, "--to", GENERATIONS[1])
        assert f"Later steps wait until you have seen to these, and acknowledge it: - {' - '.join(named)}" in shown


def test_a_gateway_that_only_the_fleet_connects_to_is_named_once_in_the_stacks_file(run, tmp_path):
    with (tmp_path / "stacks" / f"Pulumi.{CLUSTERS[1]}.yaml").open("a") as file:
        file.write(f"  meshtrust:gate: {{fleetGateways: [{DOOR}]}}\n")
    shown = run("plan", "--stack", CLUSTERS[1])
    assert all(f"{subject}: " in shown for subject in (VM, PARTNER)), shown
    assert not [subject for subject in (SIBLING, DOOR) if f"{subject}: " in shown]
    assert DOOR in json.loads(run("status", "--stack", CLUSTERS[1], "--json"))["unseen"]


def test_the_rotation_of_a_fleet_waits_until_each_is_acknowledged_by_its_name(run, mesh):
    mesh.objects["api/v1/namespaces/shop/pods"].pop()
    shown = run("fleet", "rotate", "--to", GENERATIONS[1], "--json")
    assert all(f"{subject} may tie it to what is not of this fleet" in shown for subject in (VM, PARTNER, DOOR))
    given = acknowledge(shown, "it was seen to")
    assert given.keys() == {f"switch-{GENERATIONS[1]}"}
    assert set(given[f"switch-{GENERATIONS[1]}"]) == {VM, PARTNER, DOOR}


def test_plan_says_which_acknowledgements_have_no_effect(run, tmp_path):
    path = tmp_path / "stacks" / f"Pulumi.{STACK}.yaml"
    named = {
        f"switch-{GENERATIONS[1]}": {"ExternalWorkload shop/*": "1f0c4e2a all of them", VM: "1f0c4e2a since Monday"}
    }
    path.write_text(f"{path.read_text()}  meshtrust:gate: {json.dumps({'acknowledged': named})}\n", encoding="utf-8")
    shown = run("plan", "--stack", STACK)
    assert "These acknowledgements have no effect" in shown
    assert 'has "ExternalWorkload shop/*", which the step does not wait for' in shown
    assert f'has "{VM}"' not in shown
    assert "The reason in meshtrust:gate.acknowledged is without the number" in shown
    assert '"void": [ "meshtrust:gate.acknowledged.' in run("plan", "--stack", STACK, "--json")
