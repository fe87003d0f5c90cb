"""The outputs of a stack: a summary first, then what others read, and the program's memory; old ones are still read."""

import json
from typing import Any

from meshtrust.pki.pem import read_bundle
from meshtrust.stacks.outputs import MEMORY, StackOutputs, flatten
from tests.recorder import run_program, stack_config, unwrapped

# What is for people and other programs; all else is memory.
READ_BY_OTHERS = {
    "about",
    "anchors",
    "clusterUid",
    "context",
    "kubeconfig",
    "namespace",
    "rotation",
    "signer",
    "transitions",
    "trustAnchors",
    "trustDomain",
    "webhooks",
    MEMORY,
}


def deployed(config, **options) -> dict[str, Any]:
    """Run the program, and return its outputs as the engine keeps them."""
    return json.loads(json.dumps(run_program(config, flat=False, **options).outputs, default=unwrapped))


def test_a_person_reads_the_summary_first_and_the_memory_is_one_output(config):
    outputs = deployed(config)
    assert set(outputs) == READ_BY_OTHERS - {"clusterUid"}, "offline, no cluster has told its UID"
    assert min(outputs) == "about", "the engine shows outputs by name"
    [root] = read_bundle(outputs["trustAnchors"])
    assert outputs["about"] == {
        "anchors": {"2026": f"until {root.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"},
        "cluster": "kind-test",
        "issuer": "mode intermediate; its end: meshtrust status --stack test",
        "next": "none; a rotation before the anchor ends: meshtrust rotate --stack test",
        "phase": "steady",
        "signer": "2026",
    }


def test_the_summary_names_the_phase_and_the_next_step(config):
    goal, last, seen = {**config, "meshtrust:anchors": ["2027"]}, deployed(config), []
    for _ in range(3):
        last = deployed(goal, last_outputs=last)
        seen.append((last["about"]["phase"], last["about"]["signer"], last["about"]["next"].partition(";")[0]))
    assert seen == [
        ("introduce", "2026", "switch the signer to 2027"),
        ("switch", "2027", "retire 2026"),
        ("steady", "2027", "none"),
    ]


def test_outputs_of_an_earlier_version_are_read_alike(config):
    outputs = deployed(config)
    old = {**{name: value for name, value in outputs.items() if name not in ("about", MEMORY)}, **outputs[MEMORY]}
    new, before = StackOutputs(outputs), StackOutputs(old)
    assert "roots" in old
    for name in ("anchors", "trust", "roots", "certificates", "retired", "issuer", "charts", "providers", "webhooks"):
        assert getattr(new, name) == getattr(before, name)
        assert getattr(new, name) or name == "retired"


def test_the_next_run_goes_on_from_either(config):
    outputs = deployed(config)
    rotating = {**config, "meshtrust:anchors": ["2026", "2027"], "meshtrust:signer": "2026"}
    found = [deployed(rotating, last_outputs=last) for last in (outputs, flatten(outputs))]
    for next_outputs in found:
        assert next_outputs["anchors"] == ["2026", "2027"]
        assert next_outputs[MEMORY]["roots"]["2026"] == outputs[MEMORY]["roots"]["2026"]


def test_a_fleet_shares_its_memory():
    outputs: dict[str, dict[str, Any]] = {"anchor": {}, "east": {}, "west": {}}
    configs = {stack: stack_config(stack) for stack in outputs}
    for stack in ("anchor", "east", "west", "anchor", "east"):
        outputs[stack] = deployed(configs[stack], stack=stack, last_outputs=outputs[stack], others=outputs)
    assert sorted(outputs["anchor"][MEMORY]["intermediates"]) == ["east", "west"]
    assert outputs["east"]["trustAnchors"] == outputs["anchor"]["trustAnchors"]
    assert outputs["east"]["about"]["phase"] == "steady"
    assert min(outputs["anchor"]) == "about"


def test_a_fleet_passes_on_what_links_call_its_clusters():
    outputs: dict[str, dict[str, Any]] = {"anchor": {}, "east": {}, "west": {}}
    configs = {stack: stack_config(stack) for stack in outputs}
    configs["east"]["meshtrust:linkName"] = "production-east"
    for stack in ("anchor", "east", "anchor"):
        outputs[stack] = deployed(configs[stack], stack=stack, last_outputs=outputs[stack], others=outputs)
    assert StackOutputs(outputs["anchor"]).link_names == {"east": "production-east"}, "west has pledged nothing yet"
    for stack in ("west", "anchor"):
        outputs[stack] = deployed(configs[stack], stack=stack, last_outputs=outputs[stack], others=outputs)
    assert StackOutputs(outputs["anchor"]).link_names == {"east": "production-east", "west": "west"}
    early = {"clusters": ["acme/meshtrust/east"], "pledges": {"acme/meshtrust/east": {"stamp": "a1"}}}
    assert StackOutputs(early).link_names == {"acme/meshtrust/east": "east"}, "before that was recorded"
