"""Resources over several deployments: made, kept, replaced, deleted, in the right order."""

from __future__ import annotations

import json

from tests.engine.workbench import Workbench

CHAIN = """
class Anchor(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("bench:index:Anchor", name, None, opts)
        child = options(parent=self)
        self.id = random.RandomId(f"{name}-id", byte_length=int(os.environ.get("BYTES", "3")), opts=child)
        self.key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        self.cert = tls.SelfSignedCert(
            f"{name}-cert",
            private_key_pem=self.key.private_key_pem,
            is_ca_certificate=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=24,
            subject=tls.SelfSignedCertSubjectArgs(common_name=self.id.hex),
            opts=child,
        )
        self.register_outputs({"pem": self.cert.cert_pem})

anchor = Anchor("root")
pulumi.export("pem", anchor.cert.cert_pem)
pulumi.export("key", anchor.key.private_key_pem)
"""


def test_a_second_deployment_of_the_same_program_changes_nothing(bench: Workbench) -> None:
    bench.program(CHAIN)
    first = bench.up()
    before = bench.outputs()
    second = bench.ok("up", "--yes", "--expect-no-changes")
    assert "+ 5 created" in first.out
    assert "5 unchanged" in second.out
    assert bench.outputs() == before


def test_a_preview_says_what_will_be_made_and_makes_nothing(bench: Workbench) -> None:
    bench.program(CHAIN)
    before = bench.state_file.read_text()
    digest = bench.digest()
    first, *independent, last = bench.plan()
    assert first == ("create", "root")
    assert sorted(independent) == [("create", "root-id"), ("create", "root-key")], "neither waits for the other"
    assert last == ("create", "root-cert")
    assert digest["changeSummary"] == {"create": 5}
    certificate = digest["steps"][-1]["newState"]
    assert certificate["inputs"]["privateKeyPem"] == "[secret]"
    assert certificate["dependencies"] == sorted([digest["steps"][2]["urn"], digest["steps"][3]["urn"]])
    assert certificate["parent"].endswith("bench:index:Anchor::root")
    assert bench.state_file.read_text() == before


def test_parents_appear_in_urns_and_dependencies_in_the_state(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up()
    resources = bench.resources()
    key, certificate = resources["root-key"], resources["root-cert"]
    assert key["urn"] == "urn:pulumi:dev::bench::bench:index:Anchor$tls:index/privateKey:PrivateKey::root-key"
    assert key["parent"] == resources["root"]["urn"]
    assert certificate["propertyDependencies"]["privateKeyPem"] == [key["urn"]]


def test_a_replacement_is_made_before_the_original_is_deleted(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up(BYTES="3")
    old = bench.outputs()["pem"]
    assert bench.plan(BYTES="4") == [("replace", "root-id"), ("replace", "root-cert")]
    shown = bench.up(BYTES="4").out
    created = shown.index("++ random:index:RandomId root-id created replacement")
    assert created < shown.index("-- random:index:RandomId root-id deleting original")
    # The certificate hangs on the id, so its original goes first.
    originals = ("root-cert deleted original", "root-id deleting original")
    assert shown.index(originals[0]) < shown.index(originals[1])
    assert "+-2 replaced" in shown
    assert bench.outputs()["pem"] != old
    assert "root-id (deleted)" not in bench.resources()


def test_delete_before_replace_takes_the_dependents_along(bench: Workbench) -> None:
    program = """
    first = random.RandomString("first", length=int(os.environ["LENGTH"]), opts=options(delete_before_replace=True))
    second = random.RandomString("second", length=4, keepers={"first": first.result})
    third = random.RandomString("third", length=4, keepers={"second": second.result})
    random.RandomString("apart", length=4, opts=options(depends_on=[first]))
    """
    bench.program(program)
    bench.up(LENGTH="4")
    shown = bench.up(LENGTH="5").out
    order = ["-- random:index:RandomString third", "-- random:index:RandomString second"]
    order += ["-- random:index:RandomString first", "++ random:index:RandomString first"]
    order += ["++ random:index:RandomString second", "++ random:index:RandomString third"]
    positions = [shown.index(line) for line in order]
    assert positions == sorted(positions)
    assert "RandomString apart" not in shown
    assert not any(item.get("pendingReplacement") for item in bench.resources().values())
    bench.ok("up", "--yes", "--expect-no-changes", LENGTH="5")


def test_what_the_program_no_longer_names_is_deleted_dependents_first(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up()
    bench.program("")
    shown = bench.up().out
    assert shown.index("root-cert deleted") < shown.index("root-key deleting")
    assert set(bench.resources()) == {"bench-dev"}


def test_destroy_leaves_no_resource_and_the_stack_can_be_removed(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up()
    refused = bench.run("stack", "rm", "--yes")
    bench.ok("destroy", "--yes")
    assert refused.code == 1
    assert "still has resources; removal rejected" in refused.err
    assert bench.resources() == {}
    bench.ok("stack", "rm", "--yes")
    assert bench.run("preview").code == 6


def test_a_refresh_of_what_exists_only_in_state_changes_nothing(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up()
    assert "5 unchanged" in bench.ok("refresh", "--yes", "--expect-no-changes").out
    bench.ok("up", "--yes", "--refresh", "--expect-no-changes")


def test_a_protected_resource_survives_destroy_and_replacement(bench: Workbench) -> None:
    bench.program('random.RandomId("id", byte_length=int(os.environ["BYTES"]), opts=options(protect=True))')
    bench.up(BYTES="3")
    identity = bench.resources()["id"]["id"]
    for command in (["destroy", "--yes", "--skip-preview"], ["up", "--yes", "--skip-preview"], ["preview"]):
        result = bench.run(*command, BYTES="4")
        assert result.code == 1, command
        assert "protect" in result.out
    assert bench.resources()["id"]["id"] == identity


def test_ignored_changes_keep_the_deployed_value(bench: Workbench) -> None:
    bench.program(
        'made = random.RandomString("text", length=int(os.environ["LENGTH"]),'
        ' opts=options(ignore_changes=["length"]))\npulumi.export("text", made.result)'
    )
    bench.up(LENGTH="6")
    bench.ok("up", "--yes", "--expect-no-changes", LENGTH="9")
    assert len(bench.outputs()["text"]) == 6
    assert bench.resources()["text"]["inputs"]["length"] == 6


def test_replace_on_changes_and_a_replacement_trigger_force_a_replacement(bench: Workbench) -> None:
    bench.program(
        """
        key = tls.PrivateKey("key", algorithm="ED25519")
        tls.SelfSignedCert("cert", private_key_pem=key.private_key_pem, allowed_uses=[], validity_period_hours=9,
            early_renewal_hours=int(os.environ["EARLY"]), opts=options(
                replace_on_changes=["earlyRenewalHours"] if os.environ.get("STRICT") else None,
                replacement_trigger=os.environ.get("TRIGGER", "a")))
        """
    )
    bench.up(EARLY="1")
    assert bench.plan(EARLY="2") == [("update", "cert")]
    assert bench.plan(EARLY="2", STRICT="1") == [("replace", "cert")]
    assert bench.plan(EARLY="1", TRIGGER="b") == [("replace", "cert")]


def test_aliases_carry_resources_and_their_children_to_a_new_name(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up()
    before = bench.outputs()
    bench.program(CHAIN.replace('Anchor("root")', 'Anchor("trust", options(aliases=[pulumi.Alias(name="root")]))'))
    assert bench.plan() == []
    bench.up()
    assert bench.outputs() == before
    assert "trust-key" in bench.resources()
    assert bench.resources()["trust-cert"]["dependencies"] == sorted(
        [bench.resources()["trust-id"]["urn"], bench.resources()["trust-key"]["urn"]]
    )


def test_retained_resources_leave_the_state_without_being_deleted(bench: Workbench) -> None:
    bench.program('random.RandomId("id", byte_length=3, opts=options(retain_on_delete=True))')
    bench.up()
    assert bench.resources()["id"]["retainOnDelete"] is True
    bench.program("")
    bench.up()
    assert "id" not in bench.resources()


def test_two_resources_of_one_name_are_refused(bench: Workbench) -> None:
    bench.program('random.RandomId("id", byte_length=3)\nrandom.RandomId("id", byte_length=4)')
    result = bench.run("preview")
    assert result.code == 1
    assert "Duplicate resource URN 'urn:pulumi:dev::bench::random:index/randomId:RandomId::id'" in result.out


def test_a_stack_reference_to_the_own_stack_reads_the_last_deployment(bench: Workbench) -> None:
    bench.program(
        """
        async def main():
            me = pulumi.StackReference("self", stack_name="organization/bench/dev")
            last = await me.get_output("count").future()
            return {"count": (last or 0) + 1, "was": "nothing" if last is None else last}

        pulumi.run(main)
        """
    )
    bench.up()
    assert bench.outputs() == {"count": 1, "was": "nothing"}
    assert bench.digest()["changeSummary"] == {"read": 1, "same": 1}
    bench.up()
    assert bench.outputs() == {"count": 2, "was": 1}


def test_a_stack_reference_reads_secrets_of_another_stack_and_refuses_an_unknown_one(bench: Workbench) -> None:
    bench.program(CHAIN)
    bench.up()
    bench.ok("stack", "init", "other")
    bench.program(
        'ref = pulumi.StackReference(os.environ.get("REF", "dev"))\n'
        'pulumi.export("key", ref.get_output("key"))\npulumi.export("pem", ref.get_output("pem"))'
    )
    bench.up(PULUMI_STACK="other")
    shown = json.loads(bench.ok("stack", "output", "--json", PULUMI_STACK="other").out)
    assert shown["key"] == "[secret]"
    assert shown["pem"].startswith("-----BEGIN CERTIFICATE-----")
    refused = bench.run("preview", PULUMI_STACK="other", REF="missing")
    assert refused.code == 1
    assert 'unknown stack "missing"' in refused.out


HOOKED = """
async def look(args):
    print(f"hook of {args.name}: {args.new_inputs['byteLength']}")
    if os.environ.get("REFUSE"):
        raise ValueError("it is somebody else's")

hook = pulumi.ResourceHook("look", look, pulumi.ResourceHookOptions(on_dry_run=True))
random.RandomId("id", byte_length=3, opts=options(hooks=pulumi.ResourceHookBinding(before_create=[hook])))
"""


def test_a_hook_is_called_before_a_creation_and_at_no_other_time(bench: Workbench) -> None:
    bench.program(HOOKED)
    assert "hook of id: 3" in bench.run("preview").out
    assert "hook of id: 3" in bench.run("up", "--yes", "--skip-preview").out
    assert "hook of" not in bench.run("up", "--yes", "--skip-preview", "--expect-no-changes").out


def test_a_hook_that_fails_keeps_the_resource_from_being_created(bench: Workbench) -> None:
    bench.program(HOOKED)
    result = bench.run("up", "--yes", "--skip-preview", REFUSE="1")
    assert result.code == 1
    assert 'error: before hook "look" failed: it is somebody else\'s' in result.out
    assert "Traceback" not in result.text
    assert "id" not in bench.resources()
    assert "pending_operations" not in json.loads(bench.state_file.read_text())["checkpoint"]["latest"]


def test_a_hook_that_the_engine_does_not_serve_is_refused(bench: Workbench) -> None:
    bench.program(HOOKED.replace("before_create", "after_create"))
    result = bench.run("preview")
    assert result.code == 1
    assert "has hooks that the embedded engine does not serve (after_create)" in result.out
