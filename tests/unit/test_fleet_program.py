"""A fleet's stacks, run one after the other: what the anchor stack hands to the clusters, and what they hand to it."""

import json
import logging
import random
from datetime import datetime
from typing import Any

import pulumi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtrust.pki.intermediates import RequestError, check_request, choose_signed
from meshtrust.pki.pem import fingerprint, read_bundle
from meshtrust.rotation.steps import PLEDGE_ONLY
from tests.certificates import make_certificate, make_request
from tests.recorder import Secret, run_program, stack_config, unwrapped
from tests.refusals import number_of

KEY = "tls:index/privateKey:PrivateKey"
REQUEST = "tls:index/certRequest:CertRequest"
SIGNED = "tls:index/locallySignedCert:LocallySignedCert"
RELEASE = "kubernetes:helm.sh/v3:Release"


class Fleet:
    """The stacks of stacks/ that share an anchor, and what they have deployed."""

    def __init__(self):
        self.outputs: dict[str, Any] = {"anchor": {}, "east": {}, "west": {}}
        self.configs = {stack: stack_config(stack) for stack in self.outputs}

    def up(self, stack, **changes):
        """Run a stack's program, and keep its outputs as the engine would."""
        self.configs[stack] |= {f"meshtrust:{key}": value for key, value in changes.items()}
        recording = run_program(
            self.configs[stack], stack=stack, last_outputs=self.outputs[stack], others=self.outputs, preview=True
        )
        self.outputs[stack] = _kept(self.outputs[stack], json.loads(json.dumps(recording.outputs, default=unwrapped)))
        return recording

    def refused(self, stack, **changes):
        before = dict(self.configs[stack])
        with pytest.raises(pulumi.RunError) as caught:
            self.up(stack, **{"rotation": {"mode": "step"}, **changes})
        self.configs[stack] = before
        return str(caught.value)


def _kept(before, now):
    """Keep roots and requests that were made by an earlier run, as the engine keeps resources."""
    kept = {**now}
    if "requests" in now:
        kept["requests"] = {**now["requests"], **before.get("requests", {})}
    return kept


@pytest.fixture
def fleet():
    return Fleet()


@pytest.fixture
def asked(fleet):
    """A fleet whose clusters have asked for their intermediates, which are signed."""
    fleet.up("anchor")
    fleet.up("east")
    fleet.up("west")
    fleet.up("anchor")
    return fleet


def test_a_cluster_first_asks_and_does_nothing_else(fleet):
    fleet.up("anchor")
    recording = fleet.up("east")
    assert [entry.name for entry in recording.of_type(KEY)] == ["intermediates-2026-key"]
    assert [entry.name for entry in recording.of_type(REQUEST)] == ["intermediates-2026-request"]
    assert not [entry for entry in recording.resources if entry.type.startswith("kubernetes:")]
    assert sorted(fleet.outputs["east"]) == ["anchorStack", "pledge", "requests"]
    assert fleet.outputs["east"]["pledge"]["accepts"] == ["2026"]
    check_request(fleet.outputs["east"]["requests"]["2026"], "east", "2026")


def test_the_anchor_stack_signs_what_each_cluster_asks_for(asked):
    recording = asked.up("anchor")
    assert {entry.name for entry in recording.of_type(SIGNED)} == {"east-2026-certificate", "west-2026-certificate"}
    for entry in recording.of_type(SIGNED):
        assert (entry.inputs["isCaCertificate"], entry.inputs["maxPathLength"]) == (True, 1)
        assert isinstance(entry.inputs["caPrivateKeyPem"], Secret)
    assert not [entry for entry in recording.resources if entry.type.startswith("kubernetes:")]
    assert recording.named("trust-anchor-2026-key").protect is False, "nothing signs with it yet"


def test_no_output_of_any_stack_holds_a_key(asked):
    assert "PRIVATE KEY" not in json.dumps(asked.outputs)


def test_a_request_of_another_stack_is_not_signed_and_stops_nobody_else(fleet):
    fleet.up("anchor")
    fleet.up("east")
    fleet.outputs["west"] = {"requests": fleet.outputs["east"]["requests"]}
    recording = fleet.up("anchor")
    assert [entry.name for entry in recording.of_type(SIGNED)] == ["east-2026-certificate"]
    [said] = {text for level, text in recording.messages if level == logging.WARNING}
    assert "Stack west asks for an intermediate under 2026, which is not signed: its subject is" in said
    assert "The other clusters get theirs" in said


@pytest.mark.parametrize("requests", ["all of them", ["2026"], {"2026": {"pem": "x"}}])
def test_requests_of_another_shape_are_named_and_stop_nobody_else(asked, requests):
    asked.outputs["west"]["requests"] = requests
    recording = asked.up("anchor")
    assert [entry.name for entry in recording.of_type(SIGNED)] == ["east-2026-certificate"]
    [said] = {text for level, text in recording.messages if level == logging.WARNING}
    assert "Stack west asks for" in said


def test_a_stack_with_an_anchor_of_its_own_that_is_listed_too_early_stops_nobody_else(asked):
    own = make_certificate("root 2026")
    asked.outputs["west"] = {
        "anchors": ["2026"],
        "signer": "2026",
        "trustAnchors": own.pem,
        "roots": {"2026": {"fingerprint": fingerprint(own.certificate), "brought": False}},
    }
    recording = asked.up("anchor")
    assert [entry.name for entry in recording.of_type(SIGNED)] == ["east-2026-certificate"]


def test_a_stack_that_was_renamed_has_its_request_signed_under_its_new_name(asked):
    asked.up("east")
    asked.outputs["orient"], asked.configs["orient"] = asked.outputs.pop("east"), asked.configs.pop("east")
    recording = asked.up("anchor", clusters=["orient", "west"])
    assert {entry.name for entry in recording.of_type(SIGNED)} == {"orient-2026-certificate", "west-2026-certificate"}
    assert not [text for level, text in recording.messages if level >= logging.WARNING]
    assert asked.up("anchor").of_type(SIGNED), "its key is known by the new name from then on"
    assert asked.up("orient").outputs["intermediates"] == asked.outputs["anchor"]["intermediates"]["orient"]


def test_the_key_of_a_stack_that_is_still_listed_is_no_way_to_its_name(asked):
    asked.outputs["west"]["requests"] = asked.outputs["east"]["requests"]
    recording = asked.up("anchor")
    assert [entry.name for entry in recording.of_type(SIGNED)] == ["east-2026-certificate"]


def test_a_request_that_is_new_gets_the_days_that_are_left_and_one_that_was_signed_keeps_its_own(asked):
    kept = {entry.name: entry.ignore_changes for entry in asked.up("anchor").of_type(SIGNED)}
    assert set(kept.values()) == {("validityPeriodHours",)}
    asked.outputs["west"]["requests"] = {
        "2026": make_request(ec.generate_private_key(ec.SECP256R1()), organization="west")
    }
    kept = {entry.name: entry.ignore_changes for entry in asked.up("anchor").of_type(SIGNED)}
    assert kept == {"east-2026-certificate": ("validityPeriodHours",), "west-2026-certificate": ()}


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        ("nothing", "it cannot be read"),
        (
            make_request(ec.generate_private_key(ec.SECP256R1()), organization="east") * 2,
            "it is not one request alone",
        ),
        (
            "of a person:\n" + make_request(ec.generate_private_key(ec.SECP256R1()), organization="east"),
            "it is not one request alone",
        ),
        (make_request(ec.generate_private_key(ec.SECP384R1())), "its key is not ECDSA P-256"),
        (make_request(rsa.generate_private_key(65537, 2048)), "its key is not ECDSA P-256"),
        (make_request(ec.generate_private_key(ec.SECP256R1()), organization="west"), 'has no "east" of its own'),
        (
            make_request(ec.generate_private_key(ec.SECP256R1()), organizational_unit="generation 2027"),
            'has no "generation 2026" of its own',
        ),
        (
            make_request(ec.generate_private_key(ec.SECP256R1()), "linkerd-identity.linkerd.svc"),
            "its common name is not intermediate.linkerd.<trust domain>",
        ),
        (
            make_request(ec.generate_private_key(ec.SECP256R1()), dns_names=["web.shop.serviceaccount.identity"]),
            "it asks for extensions .2.5.29.17., such as alternative names",
        ),
        (
            make_request(ec.generate_private_key(ec.SECP256R1()), country="DE"),
            "and not one common name, organization and organizational unit",
        ),
    ],
)
def test_a_request_that_the_program_does_not_make_is_refused(pem, reason):
    with pytest.raises(RequestError, match=reason):
        check_request(pem, "east", "2026")


def test_what_was_signed_is_taken_only_for_the_own_key_and_under_the_root():
    key = ec.generate_private_key(ec.SECP256R1())
    root, other = make_certificate("root"), make_certificate("root")
    request = make_request(key)
    good = make_certificate("i", issuer=root, public_key=key.public_key()).pem
    foreign_root = make_certificate("i", issuer=other, public_key=key.public_key()).pem
    foreign_key = make_certificate("i", issuer=root).pem
    assert choose_signed([foreign_root, foreign_key, "", good], request, root.pem) == good
    assert choose_signed([foreign_root, foreign_key, ""], request, root.pem) == ""
    assert choose_signed([good], "", root.pem) == ""


def test_before_the_anchor_stack_there_is_no_cluster(fleet):
    assert 'The anchor stack "anchor" has not been deployed yet. Run: pulumi up --stack anchor' in fleet.refused("east")


def test_a_cluster_that_the_anchor_stack_does_not_list_is_told_so(fleet):
    fleet.up("anchor", clusters=["west"])
    assert "does not list this stack. Add east to its meshtrust:clusters" in fleet.refused("east")


def test_a_generation_that_the_fleet_does_not_have_is_refused(asked):
    refusal = asked.refused("east", anchors=["2026", "2027"])
    assert 'has "2027", which the anchor stack "anchor" does not have (it has 2026). Add it there first' in refusal


def test_a_cluster_deploys_under_the_roots_and_the_intermediate_of_the_fleet(asked):
    recording = asked.up("east")
    outputs = recording.outputs
    assert outputs["trustAnchors"] == asked.outputs["anchor"]["trustAnchors"]
    assert (outputs["context"], outputs["namespace"], outputs["signer"]) == ("east", "linkerd", "2026")
    assert {entry.inputs["name"] for entry in recording.of_type(RELEASE)} == {
        "cert-manager",
        "linkerd-crds",
        "linkerd-control-plane",
    }
    assert not recording.of_type(SIGNED), "it signs nothing itself"
    keys = {entry.name for entry in recording.of_type(KEY)}
    assert keys == {"intermediates-2026-key", "webhooks-1-key"}, "no anchor's key is here"
    assert outputs["intermediates"] == asked.outputs["anchor"]["intermediates"]["east"]


def test_a_cluster_outlives_the_loss_of_the_anchor_stacks_outputs(asked):
    asked.up("east")
    root = asked.outputs["anchor"]["trustAnchors"]
    asked.outputs["anchor"] = {}
    asked.up("anchor", anchors=["2026", "2027"], anchorCertificates={"2026": root})
    assert asked.outputs["anchor"]["intermediates"] == {}, "the lost key signs nothing any more"
    recording = asked.up("east")
    assert recording.outputs["intermediates"] == asked.outputs["east"]["intermediates"]
    assert recording.outputs["trustAnchors"] == root


@pytest.fixture
def introduced(asked):
    """A fleet that is deployed, and in which every cluster trusts 2027 too."""
    asked.up("east")
    asked.up("west")
    asked.outputs["anchor"] |= {"anchors": ["2026", "2027"]}
    other = make_certificate("root 2027")
    bundle = f"{asked.outputs['anchor']['trustAnchors']}\n{other.pem}"
    asked.outputs["anchor"]["roots"] |= {"2027": {"fingerprint": fingerprint(other.certificate), "brought": False}}
    asked.outputs["anchor"]["trustAnchors"] = bundle
    asked.up("east", anchors=["2026", "2027"])
    asked.up("west", anchors=["2026", "2027"])
    return asked


def pass_on(fleet):
    """Return the outputs that the anchor stack passes on when it is deployed."""
    fleet.outputs["anchor"]["pledges"] = {stack: fleet.outputs[stack]["pledge"] for stack in ("east", "west")}


def test_a_cluster_first_tells_that_it_is_ready_and_stays_as_it_is(introduced):
    assert introduced.outputs["east"]["pledge"]["released"] == ["2027"], "nothing is under it yet"
    before = introduced.outputs["east"]
    recording = introduced.up("east", signer="2027")
    assert (recording.outputs["signer"], recording.outputs["anchors"]) == ("2026", ["2026", "2027"])
    assert recording.outputs["pledge"]["accepts"] == ["2026", "2027"]
    for key in ("trustAnchors", "roots", "retired", "transitions", "intermediates", "requests"):
        assert introduced.outputs["east"][key] == before[key]
    assert not [entry for entry in recording.resources if "2027" in entry.name and "intermediates" not in entry.name]


def test_a_switch_waits_until_every_cluster_has_told_and_the_anchor_stack_has_passed_it_on(introduced):
    introduced.up("east", signer="2027")
    refusal = introduced.refused("east", signer="2027")
    assert "- west: its stack: it has not pledged that all its pods trust 2027" in refusal
    assert "- the anchor stack: it has not passed on what this cluster has pledged" in refusal
    pass_on(introduced)
    refusal = introduced.refused("east", signer="2027")
    assert "1 thing in the fleet blocks it" in refusal
    assert "- west: its stack" in refusal
    introduced.up("west", signer="2027")
    pass_on(introduced)
    refusal = introduced.refused("east", signer="2027")
    assert (
        "has not signed the intermediate of this stack under 2027 yet. First run: pulumi up --stack anchor" in refusal
    )


def test_who_goes_ahead_by_force_gives_the_number_of_what_was_refused(introduced):
    introduced.up("east", signer="2027")
    pass_on(introduced)
    refusal = introduced.refused("east", signer="2027")
    force = {"gate": {"overrides": {"switch-2027": f"{number_of(refusal)} west is gone for good"}}}
    signing = introduced.refused("east", signer="2027", **force)
    assert "has not signed the intermediate of this stack under 2027" in signing, "the gate alone can be forced"
    stale = introduced.refused("east", signer="2027", gate={"overrides": {"switch-2027": "west is gone for good"}})
    assert "The reason in meshtrust:gate.overrides for switch-2027 was given for another refusal" in stale


def test_a_run_that_only_pledges_ignores_a_gate_that_warns_and_an_override(introduced, monkeypatch):
    monkeypatch.setenv(PLEDGE_ONLY, "1")
    for gate in ({"mode": "warn"}, {"overrides": {"switch-2027": "00000000 let me"}}):
        recording = introduced.up("east", signer="2027", gate=gate)
        assert (recording.outputs["signer"], recording.outputs["pledge"]["accepts"]) == ("2026", ["2026", "2027"])
        again = introduced.up("east")
        assert again.outputs["signer"] == "2026", "however often it is run"
        assert again.outputs["pledge"]["stamp"] == recording.outputs["pledge"]["stamp"]


def test_a_run_that_only_pledges_is_for_a_fleet(config, monkeypatch):
    monkeypatch.setenv(PLEDGE_ONLY, "1")
    with pytest.raises(pulumi.RunError, match="is for clusters of a fleet, and this stack is in none"):
        run_program(config)


def test_a_run_that_only_pledges_is_no_first_deployment(asked, monkeypatch):
    monkeypatch.setenv(PLEDGE_ONLY, "1")
    assert "is for clusters that are deployed" in asked.refused("east")


def test_a_run_that_only_pledges_deploys_nothing_where_no_step_is_configured(introduced, monkeypatch):
    monkeypatch.setenv(PLEDGE_ONLY, "1")
    assert "no step is configured here" in introduced.refused("east")


def test_a_run_that_only_pledges_upgrades_nothing(asked, monkeypatch):
    asked.up("east")
    asked.up("anchor", anchors=["2026", "2027"])
    monkeypatch.setenv(PLEDGE_ONLY, "1")
    upgrade = {"values": {"proxy": {"image": {"version": "edge-26.9.1"}}}}
    refusal = asked.refused("east", anchors=["2026", "2027"], signer="2026", linkerd=upgrade)
    assert "This run would introduce 2027, and upgrade in the same run" in refusal
    assert asked.up("east", anchors=["2026", "2027"], signer="2026").outputs["anchors"] == ["2026"]


def test_a_gate_that_warns_does_not_keep_a_ready_cluster_from_pledging_first(introduced):
    recording = introduced.up("east", signer="2027", gate={"mode": "warn"})
    assert recording.outputs["signer"] == "2026"
    assert recording.outputs["pledge"]["accepts"] == ["2026", "2027"]


def test_the_anchor_stack_makes_no_other_root_of_a_generation_that_a_cluster_trusts(asked):
    """Its state was lost, and a new one of its name would have roots of its own."""
    asked.up("east")
    asked.outputs["anchor"] = {}
    refusal = asked.refused("anchor")
    assert 'generation "2026" has the root' in refusal or "holds the root" in refusal
    assert "stack east has" in refusal


def test_where_all_anchors_have_ended_a_cluster_asks_for_what_comes_in_their_place(introduced):
    ended, valid = make_certificate("root 2026", age=10, days=-1), make_certificate("root 2027")
    request = introduced.outputs["east"]["requests"]["2026"]
    key = x509.load_pem_x509_csr(request.encode()).public_key()
    outputs: dict[str, Any] = {
        "trustAnchors": ended.pem,
        "roots": {"2026": {"fingerprint": fingerprint(ended.certificate), "brought": False}},
        "anchors": ["2026"],
        "requests": {"2026": request},
        "intermediates": {"2026": make_certificate("i", issuer=ended, public_key=key).pem},
    }
    introduced.outputs["east"] |= outputs
    introduced.outputs["anchor"] |= {
        "trustAnchors": f"{ended.pem}\n{valid.pem}",
        "roots": {**outputs["roots"], "2027": {"fingerprint": fingerprint(valid.certificate), "brought": False}},
    }
    recording = introduced.up("east", anchors=["2027"], signer="2027")
    assert (recording.outputs["anchors"], recording.outputs["signer"]) == (["2026"], "2026"), "nothing is replaced yet"
    check_request(introduced.outputs["east"]["requests"]["2027"], "east", "2027")


def test_a_generation_that_a_cluster_trusts_stays_in_the_anchor_stack(asked):
    asked.up("east")
    refusal = asked.refused("anchor", anchors=["2027"])
    assert "no longer has 2026, which clusters still trust" in refusal
    assert "  - east trusts 2026" in refusal
    assert "west" not in refusal, "it has not been deployed"


def test_what_signs_in_a_cluster_is_protected_and_what_is_protected_is_not_dropped(asked):
    asked.up("east")
    assert asked.up("anchor").named("trust-anchor-2026-key").protect is True
    asked.outputs["east"] = {}
    refusal = asked.refused("anchor", anchors=["2027"])
    assert "Deploy this stack once with 2026, which lifts that, and then without" in refusal


def test_a_stack_cannot_change_whose_anchor_it_is_under(asked):
    asked.up("east")
    refusal = asked.refused("east", anchorStack="")
    assert "meshtrust:anchorStack cannot change: this stack was deployed under that of anchor" in refusal


@pytest.mark.parametrize(
    ("stack", "key", "value", "message"),
    [
        ("anchor", "context", "kind-dev", "an anchor stack touches no cluster. Remove it"),
        ("anchor", "signer", "2026", "in an anchor stack each cluster names its own"),
        ("anchor", "clusters", ["a b"], "holds 'a b', which is no name of a stack"),
        ("anchor", "clusters", ["east", "east"], "names one twice"),
        ("anchor", "role", "boss", 'meshtrust:role is "boss". Use one of cluster, anchor'),
        ("east", "clusters", ["west"], "only an anchor stack signs for others"),
        ("east", "anchorStack", "no stack", "the name of a stack, or organization/project/stack"),
        ("east", "issuer", {"mode": "anchor"}, "takes the anchor's key, and that never leaves the anchor stack"),
        ("east", "anchorCertificates", {"2026": "x"}, "the roots come from the anchor stack"),
    ],
)
def test_bad_input_is_one_sentence(fleet, stack, key, value, message):
    assert message in fleet.refused(stack, **{key: value})


def test_a_stack_in_another_mode_needs_no_intermediate(fleet):
    fleet.up("anchor")
    assert fleet.up("east", issuer={"mode": "external-secret"}).outputs["requests"] == {}, "it announces itself"
    fleet.up("anchor")
    recording = fleet.up("east")
    assert not recording.of_type(KEY)
    assert recording.outputs["requests"] == {}
    assert len(read_bundle(recording.outputs["trustAnchors"])) == 1


class Reconciling:
    """A fleet whose stacks are run in a random order, each with the goal in its file, and keep what they make."""

    def __init__(self, fleet, to, chance):
        self.fleet, self.chance = fleet, chance
        for stack in ("east", "west"):
            fleet.configs[stack] |= {"meshtrust:anchors": [to], "meshtrust:signer": to}
        fleet.configs["anchor"] |= {"meshtrust:anchors": [to]}
        self.roots = {}
        self.seen: dict[str, list[Any]] = {stack: [] for stack in fleet.outputs}

    def round(self):
        for stack in self.chance.sample(["anchor", "east", "west"], 3):
            self.fleet.up(stack)
            report = self.fleet.outputs[stack].get("rotation") or {}
            self.seen[stack].append((self.fleet.outputs[stack].get("anchors"), report.get("next")))

    def run_until_converged(self):
        for _ in range(12):
            self.round()
            if self.has_converged:
                return
        pytest.fail(f"not converged: {self.seen}")

    @property
    def has_converged(self):
        return all(outputs["rotation"]["converged"] for outputs in self.fleet.outputs.values())


@pytest.mark.parametrize("seed", range(3))
def test_stacks_that_know_nothing_of_each_other_reach_a_goal_in_any_order(asked, seed):
    deploy_all(asked)
    running = Reconciling(asked, "2027", random.Random(seed))  # noqa: S311 no secret
    running.run_until_converged()
    for outputs in asked.outputs.values():
        assert outputs["anchors"] == ["2027"]
        assert outputs["rotation"]["goal"]["anchors"] == ["2027"]
        assert list(outputs["retired"]) == ["2026"]
    assert asked.outputs["east"]["signer"] == "2027"
    assert not any("rotation" not in outputs for outputs in asked.outputs.values())


def deploy_all(fleet):
    for stack in ("east", "west", "anchor"):
        fleet.up(stack)


def test_a_stack_that_nobody_runs_is_what_the_others_wait_for_and_they_say_since_when(asked):
    deploy_all(asked)
    last = asked.outputs["west"]["rotation"]["since"]
    for stack in ("east", "anchor"):
        asked.configs[stack] |= {"meshtrust:anchors": ["2027"]}
    asked.configs["east"] |= {"meshtrust:signer": "2027"}
    waited = []
    for _ in range(4):
        asked.up("anchor")
        asked.up("east")
        waited.append(asked.outputs["east"]["rotation"])
    assert asked.outputs["east"]["signer"] == "2026"
    assert waited[-1]["next"] == "switch-2027"
    assert waited[-1]["waitingFor"]["first"] == ["west: its stack: it has not pledged that all its pods trust 2027"]
    assert len({report["since"] for report in waited if report["waitingFor"]["count"]}) == 1, "from the first run on"
    waiting = asked.outputs["anchor"]["rotation"]["waitingFor"]
    since = f"{datetime.fromisoformat(last):%Y-%m-%d %H:%M} UTC"
    told = f"west trusts 2026 (by its last run its goal is anchors 2026, signer 2026: reached since {since})"
    assert told in waiting["first"]


def test_outputs_of_a_version_without_reports_are_gone_on_from(asked):
    deploy_all(asked)
    for outputs in asked.outputs.values():
        del outputs["rotation"]
    asked.up("anchor", anchors=["2027"])
    assert asked.outputs["anchor"]["rotation"]["waitingFor"]["first"] == ["east trusts 2026", "west trusts 2026"]
    Reconciling(asked, "2027", random.Random(0)).run_until_converged()  # noqa: S311 no secret


def test_a_run_that_cannot_go_on_leaves_the_anchors_and_names_what_it_waits_for(asked):
    asked.up("east")
    recording = asked.up("east", anchors=["2027"], signer="2027")
    assert (recording.outputs["anchors"], recording.outputs["signer"]) == (["2026"], "2026")
    report = recording.outputs["rotation"]
    assert (report["next"], report["converged"]) == ("introduce-2027", False)
    [waiting] = report["waitingFor"]["first"]
    assert waiting.startswith("the anchor stack: it does not have 2027 yet")
    said = " ".join(text for level, text in recording.messages if level == logging.WARNING)
    assert "leaves anchors and signer as they are" in said


def test_a_goal_that_is_set_back_is_called_an_abort(introduced):
    recording = introduced.up("east", anchors=["2026"], signer="2026")
    said = " ".join(text for level, text in recording.messages if level == logging.WARNING)
    assert "This run aborts the rotation to 2027" in said


def own_issuers(**names):
    return {"mode": "external-issuer", "refs": {name: {"name": issuer} for name, issuer in names.items()}}


def issuer_of(recording):
    return recording.named("identity-issuer-certificate").inputs["spec"]["issuerRef"]["name"]


def test_a_run_that_only_pledges_leaves_the_certificate_with_the_deployed_issuer(asked, monkeypatch):
    asked.up("east", issuer=own_issuers(**{"2026": "corporate"}))
    asked.up("anchor", anchors=["2026", "2027"])
    both = own_issuers(**{"2026": "corporate", "2027": "other"})
    assert issuer_of(asked.up("east", anchors=["2026", "2027"], signer="2026", issuer=both)) == "corporate"
    monkeypatch.setenv(PLEDGE_ONLY, "1")
    pledged = asked.up("east", anchors=["2027"], signer="2027", issuer=own_issuers(**{"2027": "other"}))
    assert "2027" in pledged.outputs["pledge"]["accepts"]
    assert issuer_of(pledged) == "corporate"


@pytest.mark.parametrize("to", ["2026", "2027"])
def test_a_cluster_that_is_to_have_an_intermediate_asks_for_it_and_keeps_its_issuer_until_it_is_signed(asked, to):
    asked.outputs["east"] = {}
    asked.up("east", issuer=own_issuers(**{"2026": "corporate"}))
    asked.up("anchor")
    asked.up("east")
    asked.up("west")
    asked.up("anchor", anchors=["2026", "2027"] if to == "2027" else ["2026"])
    wanted = {"anchors": [to], "signer": to, "issuer": {"mode": "intermediate"}}
    kept = asked.up("east", **wanted)
    assert issuer_of(kept) == "corporate"
    assert to in kept.outputs["requests"]
    for _ in range(3):
        asked.up("anchor")
        asked.up("west", anchors=[to], signer=to)
        asked.up("east")
    assert (asked.outputs["east"]["signer"], asked.outputs["east"]["issuer"]["mode"]) == (to, "intermediate")
