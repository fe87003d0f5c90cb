"""Overrides and acknowledgements are bound to the refusal that they answer: to the step, its blockers, and one use."""

from meshtrust.linkerd.pods import Workload
from meshtrust.rotation.acknowledgements import Acknowledgements, reason_for
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.overrides import number_refusal
from meshtrust.rotation.steps import Step, Trust
from tests.refusals import acknowledge

TRUST = Trust(anchors=("2026", "2027"), signer="2026")
SWITCH = Step(kind="switch", generations=("2027",), before=TRUST, after=Trust(anchors=TRUST.anchors, signer="2027"))
BACK = Step(kind="switch", generations=("2026",), before=SWITCH.after, after=TRUST)
WEB = Workload(kind="Deployment", namespace="shop", name="web")


def pod(name, workload=WEB, stack=""):
    return Blocker(subject=f"shop/{name}", reason="its proxy does not trust 2027", workload=workload, stack=stack)


def test_a_reason_is_bound_to_the_step_to_what_blocks_it_and_to_one_use():
    number = number_refusal(SWITCH, [pod("web-1")], 3)
    others = {
        "another step": number_refusal(BACK, [pod("web-1")], 3),
        "one more blocker": number_refusal(SWITCH, [pod("web-1"), pod("bare", None)], 3),
        "another blocker": number_refusal(SWITCH, [pod("bare", None)], 3),
        "another cluster": number_refusal(SWITCH, [pod("web-1", stack="west")], 3),
        "after the step": number_refusal(SWITCH, [pod("web-1")], 4),
    }
    assert number not in others.values()
    assert len(set(others.values())) == len(others)


def test_a_pod_that_is_replaced_is_the_same_blocker_and_so_is_one_more_of_its_workload():
    number = number_refusal(SWITCH, [pod("web-1"), pod("web-2")], 0)
    assert number == number_refusal(SWITCH, [pod("web-3")], 0)


def test_a_reason_counts_with_the_number_of_its_refusal_only():
    number = number_refusal(SWITCH, [pod("web-1")], 0)
    assert reason_for(f"{number} the last pod is a test", number) == "the last pod is a test"
    assert reason_for(f"{number}: it is\ngiven up ", number) == "it is\ngiven up"
    for text in ("the last pod is a test", number, f"{number} ", f"1{number} x", f"00000000 {number}", ""):
        assert reason_for(text, number) == ""


def test_an_acknowledgement_is_bound_to_the_move_to_its_subject_and_to_one_attempt():
    subject = "ExternalWorkload shop/vm-1"
    given = acknowledge(Acknowledgements().ask(SWITCH, subject, "Say so"), "its bundle has 2027")["switch-2027"]
    assert Acknowledgements(given=given).reason(SWITCH, subject) == "its bundle has 2027"
    # What a run would take back has the same name, but leads from another state.
    drift = Step(kind="switch", generations=("2027",), before=SWITCH.after, after=SWITCH.after)
    for acknowledged, step, name in (
        (Acknowledgements(given=given, taken=1), SWITCH, subject),
        (Acknowledgements(given=given), drift, subject),
        (Acknowledgements(given=given), BACK, subject),
        (Acknowledgements(given={"ExternalWorkload shop/vm-2": given[subject]}), SWITCH, "ExternalWorkload shop/vm-2"),
        (Acknowledgements(given={subject: "its bundle has 2027"}), SWITCH, subject),
    ):
        assert acknowledged.reason(step, name) == ""
        asked = acknowledged.ask(step, name, "Say so")
        assert asked.startswith(
            "The reason in meshtrust:gate.acknowledged is without the number, or of another attempt"
        )
        assert acknowledge(asked, "x")[step.name][name] != given[subject]


def test_what_is_acknowledged_to_no_effect_is_told_with_the_command_that_removes_it():
    vm = "ExternalWorkload shop/vm-1"
    given = acknowledge(Acknowledgements().ask(SWITCH, vm, "Say so"), "its bundle has 2027")["switch-2027"]
    number = given[vm].split()[0]
    others = dict.fromkeys(("ExternalWorkload shop/*", "Pod shop/vm-1", "shop/web-1"), f"{number} all of them")
    void = Acknowledgements(given={**given, **others}).find_void(SWITCH, {"shop/web-1": False})
    another = "which the step does not wait for: a refusal names what it waits for, each by its own name"
    shown = "and the cluster shows its state, so that the step waits until that has changed"
    key = "gate.acknowledged.switch-2027"
    assert void == [
        f'meshtrust:{key} has "{name}", {why}. Remove it: pulumi config rm --path \'{key}["{name}"]\''
        for name, why in zip(others, (another, another, shown), strict=True)
    ]
    # The refusal itself says it of what it names, with the number that counts.
    stale = Acknowledgements(given={vm: f"{number} its bundle has 2027"}, taken=1)
    assert stale.find_void(SWITCH, {vm: True}) == []
