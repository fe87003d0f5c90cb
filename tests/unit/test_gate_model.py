"""The gates against a model of a cluster: that they hold in it, and that it sees where they do not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshtrust.linkerd import pods
from meshtrust.linkerd.external_peers import Unseen
from meshtrust.rotation import gate
from meshtrust.rotation.acknowledgements import Acknowledgements
from tests.gate_model import scenarios
from tests.gate_model.machine import TALLY, GateMachine
from tests.gate_model.oracle import UnsafeError
from tests.gate_model.person import StuckError
from tests.gate_model.program import Tally
from tests.gate_model.runner import run_round

# Rounds after which every kind of step has to be seen.
_ROUNDS = 60


def test_no_step_is_let_through_that_breaks_a_handshake_and_none_is_blocked_for_ever():
    """`make gate` does the same for as long as it is wanted."""
    before = replace(TALLY, taken=dict(TALLY.taken))
    for number in range(1, _ROUNDS):
        assert run_round(number, examples=12) is None
        if number > 1 and _has_seen_all(before):
            return
    raise AssertionError(f"in {_ROUNDS} rounds not everything was seen: {TALLY}")


def _has_seen_all(before: Tally) -> bool:
    """Return whether the rounds since then took a step of each kind, refused one and waited for one."""
    taken = all(TALLY.taken.get(kind, 0) > before.taken.get(kind, 0) for kind in ("introduce", "switch", "retire"))
    return taken and TALLY.refused > before.refused and TALLY.waited > before.waited


def _nothing(*_: Any, **__: Any) -> list[Any]:
    return []


def _without_pending(read: Callable) -> Callable:
    async def read_leaves(api, mesh, pods):
        return await read(api, mesh, [pod for pod in pods if pod.program_started is not None])

    return read_leaves


def _by_annotation(read: Callable) -> Callable:
    """Believe a pod's annotation, as the gate once did."""

    def read_pod(item):
        pod = read(item)
        told = (item["metadata"].get("annotations") or {}).get("meshtrust.io/trust-anchors")
        if pod is None or not told:
            return pod
        trust = pods.ProxyTrust(state="trusts", roots=frozenset(told.split(",")), source="environment")
        return replace(pod, trust=trust, reference=None)

    return read_pod


def _without(name: str, value: Any) -> Callable:
    def broken(read: Callable) -> Callable:
        async def read_outsiders(*args, **options):
            return replace(await read(*args, **options), **{name: value})

        return read_outsiders

    return broken


def _not_deployable(read: Callable) -> Callable:
    def judge(*args):
        return [replace(blocker, deployable=False) for blocker in read(*args)]

    return judge


def _unbound(_: Callable) -> Callable:
    def reason(acknowledged, _step, subject):
        return acknowledged.given.get(subject, "")

    return reason


# The rule that is broken, where it is, what stands in its place, the scenario in which it counts, and what breaks then.
BROKEN: dict[str, tuple[Any, str, Callable, Callable[[GateMachine], None], type[AssertionError]]] = {
    "a switch does not look at what proxies trust": (
        gate,
        "_pods_known_not_to_trust",
        lambda _: _nothing,
        scenarios.switch_before_a_restart,
        UnsafeError,
    ),
    "a retirement does not look at live certificates": (
        gate,
        "_blocks_leaves",
        lambda _: _nothing,
        scenarios.retire_before_renewals,
        UnsafeError,
    ),
    "a retirement passes over pods whose init containers run": (
        gate,
        "read_leaves",
        _without_pending,
        scenarios.retire_beside_an_endless_init_container,
        UnsafeError,
    ),
    "injectors are not asked": (
        gate,
        "blocks_injection",
        lambda _: _nothing,
        scenarios.switch_beside_a_stuck_injector,
        UnsafeError,
    ),
    "a pod's annotation is believed": (
        pods,
        "read_pod",
        _by_annotation,
        scenarios.switch_with_a_forged_annotation,
        UnsafeError,
    ),
    "machines outside of the cluster are not looked at": (
        gate,
        "read_outsiders",
        _without("unseen", Unseen()),
        scenarios.switch_beside_a_machine_outside,
        UnsafeError,
    ),
    "templates with roots of their own are not looked at": (
        gate,
        "read_outsiders",
        _without("templates", {}),
        scenarios.switch_beside_an_idle_template,
        UnsafeError,
    ),
    "another installation is not looked at": (
        gate,
        "read_outsiders",
        _without("others", ()),
        scenarios.switch_beside_another_installation,
        UnsafeError,
    ),
    "an acknowledgement counts in every attempt": (
        Acknowledgements,
        "reason",
        _unbound,
        scenarios.switch_again_beside_a_machine_that_was_built_again,
        UnsafeError,
    ),
    "what a killed run left is not deployed again": (
        gate,
        "_blocks_issuer",
        _not_deployable,
        scenarios.abort_after_a_killed_switch,
        StuckError,
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_gate_with_a_broken_rule_is_found(rule, monkeypatch):
    where, name, broken, scenario, error = BROKEN[rule]
    scenario(scenarios.install())
    monkeypatch.setattr(where, name, broken(getattr(where, name)))
    with pytest.raises(error):
        scenario(scenarios.install())
