"""Random ids, checked against what the real plugin answers."""

import base64

import pytest

from rehearsal.providers.values import UNKNOWN
from tests.providers.workbench import CallError

ID = "random:index/randomId:RandomId"


def make(random, masks, **inputs):
    checked = random.check(ID, inputs)
    identity, outputs = random.create(ID, checked)
    prefix = inputs.get("prefix", "")
    for name, value in {"id": identity, **outputs}.items():
        if name in ("id", "b64Url", "b64Std", "hex", "dec"):
            masks.name(value.removeprefix(prefix), "the random bytes")
    return identity, checked, outputs


def test_an_id_has_each_of_its_forms(random, masks):
    identity, _, outputs = make(random, masks, byteLength=4, prefix="mesh-")
    raw = bytes.fromhex(outputs["hex"].removeprefix("mesh-"))
    assert len(raw) == 4
    assert int(outputs["dec"].removeprefix("mesh-")) == int.from_bytes(raw)
    assert base64.b64decode(outputs["b64Std"].removeprefix("mesh-")) == raw
    assert base64.urlsafe_b64decode(identity + "==") == raw
    assert make(random, masks, byteLength=4)[2]["hex"] != outputs["hex"]


def test_an_id_stays_until_its_length_changes(random, masks):
    identity, inputs, outputs = make(random, masks, byteLength=4)
    assert random.diff(ID, outputs, inputs, inputs)["changes"] == "DIFF_NONE"
    assert random.diff(ID, outputs, inputs, {"byteLength": 5})["replaces"] == ["byteLength"]
    random.diff(ID, outputs, inputs, {**inputs, "prefix": "mesh-"})
    random.diff(ID, outputs, inputs, {"byteLength": UNKNOWN})
    random.diff(ID, outputs, inputs, {**inputs, "keepers": {"a": "b"}})
    assert random.read(ID, identity, outputs, inputs)["properties"] == outputs
    random.delete(ID, identity, outputs, inputs)


def test_a_preview_knows_no_id(random):
    assert random.create(ID, {"byteLength": 4}, preview=True)[0] == ""
    random.create(ID, {"byteLength": UNKNOWN, "prefix": "mesh-"}, preview=True)


def test_a_length_is_needed(random):
    random.check(ID, {})
    random.check(ID, {"byteLength": UNKNOWN})


def test_what_the_stand_in_does_not_know_is_refused_and_not_left_out(start_stand_in):
    with start_stand_in("random") as plugin:
        plugin.configure()
        with pytest.raises(CallError, match=r"does not serve random:index/randomPet:RandomPet\. Install"):
            plugin.check("random:index/randomPet:RandomPet", {})
        with pytest.raises(CallError, match=r"does not serve seed of random:index/randomId:RandomId\. Install"):
            plugin.check(ID, {"byteLength": 4, "seed": "a"})
        with pytest.raises(CallError, match=r"imports nothing\. Install"):
            plugin.read(ID, "an-id")
