"""Scenarios of the state machine, each of which breaks a mesh only if one rule of the gate is broken.

Each takes a machine that was installed, and uses the machine's own rules; `make gate` looks for others at random.
"""

from datetime import timedelta

from tests.gate_model.machine import GateMachine
from tests.gate_model.pods import Workload

_LIFE_OF_A_LEAF = timedelta(hours=13)
_CONTROL_PLANE = ("linkerd-identity", "linkerd-destination", "linkerd-proxy-injector")


def install() -> GateMachine:
    """Return a machine with Linkerd and Deployment shop/web, whose stack goes by steps."""
    machine = GateMachine()
    machine.install(seed=1, by_trust_manager=False, has_fixed_end=False, age=0, reconciles=False)
    return machine


def switch_before_a_restart(machine: GateMachine) -> None:
    """Try to switch while the proxies of shop/web know the old root alone."""
    machine.try_step("forward")
    machine.try_step("forward")
    _renew_leaves(machine)


def retire_before_renewals(machine: GateMachine) -> None:
    """Try to retire the old root right after a switch."""
    machine.persist("forward", 2)
    machine.cluster.settle()
    machine.try_step("forward")
    _renew_leaves(machine)


def retire_beside_an_endless_init_container(machine: GateMachine) -> None:
    """Try to retire the old root while the only certificate under it is that of a pod in phase Pending."""
    machine.try_step("forward")
    machine.cluster.settle()
    _restart(machine, "web", *_CONTROL_PLANE)
    [replaced] = [number for number, pod in enumerate(machine.cluster.pods) if str(pod).startswith("shop/web-")]
    machine.keep_pod_from_starting(0, "hangs")
    machine.delete_pod(replaced, 1)
    machine.wait(timedelta(minutes=3))
    machine.persist("forward", 1)
    # The identity service first, then what gets its certificates from it.
    for name in _CONTROL_PLANE:
        _restart(machine, name)
    machine.try_step("forward")
    machine.cluster.settle()


def switch_beside_a_stuck_injector(machine: GateMachine) -> None:
    """Try to switch while all proxies trust the new root, and the injector still has a bundle without it."""
    machine.try_step("forward")
    machine.cluster.settle()
    _restart(machine, "web", *_CONTROL_PLANE)
    machine.restart_under_cut_bundle("proxy-injector", is_stuck=True)
    machine.cluster.settle()
    for number, pod in enumerate(machine.cluster.pods):
        if pod.component in ("proxy-injector", "identity"):
            machine.crash_pod(number, "proxy" if pod.component == "proxy-injector" else "program")
    machine.cluster.settle()
    machine.try_step("forward")
    _restart(machine, "web")
    _renew_leaves(machine)


def switch_with_a_forged_annotation(machine: GateMachine) -> None:
    """Try to switch while a pod claims to trust the new root."""
    machine.try_step("forward")
    machine.forge_annotation(0, "meshtrust.io/trust-anchors")
    machine.try_step("forward")
    _renew_leaves(machine)


def _switch_seeing_to_what_is_named(machine: GateMachine) -> None:
    machine.persist("forward", 2)
    _renew_leaves(machine)


def switch_beside_a_machine_outside(machine: GateMachine) -> None:
    """Switch with an ExternalWorkload that trusts the old root, seeing to what the gate names."""
    machine.add_external()
    _switch_seeing_to_what_is_named(machine)


def switch_beside_an_idle_template(machine: GateMachine) -> None:
    """Switch with a Deployment of 0 replicas and its own roots, and scale it up afterwards."""
    machine.add_workload("Deployment", sidecar=True, on_delete=False, by_hand=0, forged=1, replicas=0)
    machine.persist("forward", 2)
    machine.scale(_number(machine.cluster.workloads, "deployment4") - len(_CONTROL_PLANE), 1)
    _renew_leaves(machine)


def switch_beside_another_installation(machine: GateMachine) -> None:
    """Switch with a second Linkerd under the same root, seeing to what the gate names."""
    machine.install_another()
    _switch_seeing_to_what_is_named(machine)


def switch_again_beside_a_machine_that_was_built_again(machine: GateMachine) -> None:
    """Switch, go back, and try to switch again on an acknowledgement of the first attempt."""
    machine.add_external()
    machine.persist("forward", 2)
    machine.persist("back", 1)
    _renew_leaves(machine)
    machine.build_external_again()
    machine.try_step("forward")
    _renew_leaves(machine)


def abort_after_a_killed_switch(machine: GateMachine) -> None:
    """Abort a rotation whose switch was killed after its first change, doing what the gate says."""
    machine.try_step("forward")
    machine.cluster.settle()
    _restart(machine, "web", *_CONTROL_PLANE)
    machine.kill_step("forward", 0)
    machine.persist("back", 1)


def _renew_leaves(machine: GateMachine) -> None:
    """Let time go on until every proxy has asked for another certificate."""
    machine.wait(_LIFE_OF_A_LEAF)
    machine.wait(_LIFE_OF_A_LEAF)


def _restart(machine: GateMachine, *names: str) -> None:
    for name in names:
        machine.restart_workload(_number(machine.cluster.workloads, name))
    machine.cluster.settle()


def _number(workloads: list[Workload], name: str) -> int:
    [found] = [number for number, workload in enumerate(workloads) if workload.name == name]
    return found
