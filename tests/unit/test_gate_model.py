"""The gates against a model of a cluster: that they hold in it, and that it sees where they do not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshtrust.linkerd import pods
from meshtrust.rotation import gate
from meshtrust.rotation.acknowledgements import Acknowledgements
from tests.gate_model.machine import TALLY
from tests.gate_model.program import Tally
from tests.gate_model.runner import Failure, run_round

# Rounds after which a broken gate has to be seen to be one.
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


# The rule that is broken, where it is, what stands in its place, and what the model has to find then.
BROKEN: dict[str, tuple[Any, str, Callable, str]] = {
    "a switch does not look at what proxies trust": (gate, "_pods_known_not_to_trust", lambda _: _nothing, "unsafe"),
    "a retirement does not look at live certificates": (gate, "_blocks_leaves", lambda _: _nothing, "unsafe"),
    "a retirement passes over pods whose init containers run": (gate, "read_leaves", _without_pending, "unsafe"),
    # A person who is not told of an injector restarts what it has made, and gets the same again.
    "injectors are not asked": (gate, "blocks_injection", lambda _: _nothing, "unsafe or stuck"),
    "a pod's annotation is believed": (pods, "read_pod", _by_annotation, "unsafe"),
    "machines outside of the cluster are not looked at": (gate, "read_outsiders", _without("external", ()), "unsafe"),
    "templates with roots of their own are not looked at": (
        gate,
        "read_outsiders",
        _without("templates", {}),
        "unsafe",
    ),
    "another installation is not looked at": (gate, "read_outsiders", _without("others", ()), "unsafe"),
    "an acknowledgement counts in every attempt": (Acknowledgements, "reason", _unbound, "unsafe"),
    "what a killed run left is not deployed again": (gate, "_blocks_issuer", _not_deployable, "stuck"),
}


def _find(kind: str) -> Failure | None:
    for number in range(_ROUNDS):
        found = run_round(number, examples=10)
        if found is not None:
            assert found.kind in kind, str(found)
            return found
    return None


@pytest.mark.soak
@pytest.mark.parametrize("rule", BROKEN)
def test_a_gate_with_a_broken_rule_is_found(rule, monkeypatch):
    where, name, broken, kind = BROKEN[rule]
    monkeypatch.setattr(where, name, broken(getattr(where, name)))
    assert _find(kind) is not None, f"in {_ROUNDS} rounds nothing was seen of it that {rule}"
