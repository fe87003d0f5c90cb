"""The checks of a step: by what the gate finds, what the cluster holds, and what else the run would do."""

import asyncio
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

import versions
from components.charts import image_values
from components.signed_certificate import OutlivingError, how_to_forget, refuse_outliving
from meshtrust.cluster.api import OFFLINE, ClusterError
from meshtrust.linkerd.pods import Workload
from meshtrust.pki.pem import fingerprint, read_bundle
from meshtrust.rotation.gate import Blocker
from meshtrust.rotation.goal import Way
from meshtrust.rotation.known_roots import Held
from meshtrust.rotation.overrides import number_refusal
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.report import report_rotation
from meshtrust.rotation.steps import IllegalStepError, Step
from meshtrust.stacks.outputs import StackOutputs
from program.checks import RunPlan, evidence, health, issuance, run, steps, trust_bundle, webhooks
from program.checks.way import plan_way
from program.configuration.settings import Settings, load_settings
from program.membership import Membership
from program.wait import last_look
from rehearsal.connection import connect
from tests.api_server import holding
from tests.certificates import make_certificate
from tests.recorder import Secret, record_main, run_program
from tests.refusals import number_of

CERT_MANAGER = f"https://charts.jetstack.io {versions.CERT_MANAGER}"
OLD, NEW = make_certificate(generation="2026"), make_certificate(generation="2027")
WEB = Workload(kind="Deployment", namespace="shop", name="web")
POD = Blocker(subject="shop/web-1", reason="its proxy does not trust it", workload=WEB)
BARE = Blocker(subject="shop/bare", reason="its proxy does not trust it", workload=None)


def deployed(*roots, anchors=("2026",), signer="2026", **outputs):
    named = dict(zip(anchors, roots, strict=True))
    return StackOutputs(
        {
            "anchors": list(anchors),
            "signer": signer,
            "trustAnchors": "\n".join(root.pem.strip() for root in roots),
            "roots": {name: {"fingerprint": fingerprint(root.certificate)} for name, root in named.items()},
            **outputs,
        }
    )


INTRODUCED = deployed(OLD, NEW, anchors=("2026", "2027"))
SWITCHED = deployed(OLD, NEW, anchors=("2026", "2027"), signer="2027")


def planned(decision, last, api: Any = "an API server"):
    """Return the plan of a run by what was decided about its step."""
    return RunPlan(
        settings=decision.settings,
        way=Way(goal=decision.settings.trust),
        rotation=report_rotation(
            Way(goal=decision.settings.trust), decision.settings.trust, [], None, datetime.now(UTC)
        ),
        last=last,
        fleet=None,
        requested_generations=(),
        api=api,
        cluster_uid="u",
        held=Held(),
        pledge=None,
        transitions=decision.entries,
        checked_step=decision.checked_step,
        awaits_issuer=False,
        restorations=0,
    )


def look_again(decision, last, api: Any = "an API server"):
    asyncio.run(last_look.look_again(planned(decision, last), decision.checked_step, api))


class Guard:
    """The checks of a cluster's stack, and what the gate finds when it is asked."""

    def __init__(self, monkeypatch, config):
        self._config = config
        self.found: list[Blocker] = []
        self.left_behind: list[Blocker] = []

        async def find_left_behind(*_):
            return self.left_behind

        monkeypatch.setattr(steps, "find_left_behind", find_left_behind)
        self.asked: list[Step] = []
        self.said: list[tuple[int, str]] = []

        async def find_blockers(_api, _namespace, step, _roots, **_):
            self.asked.append(step)
            return self.found

        monkeypatch.setattr(evidence, "find_blockers", find_blockers)
        self._patch = monkeypatch

    def find_by(self, find):
        """Have another function answer in the place of the gate."""
        self._patch.setattr(evidence, "find_blockers", find)

    def judge(self, last, *, anchors, signer, held=None, api: Any = "an API server", fleet=None, **changes):
        """Return the verdict on a configuration; what was said is in `said`."""
        config = {
            **self._config,
            "meshtrust:rotation": {"mode": "step"},
            "meshtrust:anchors": anchors,
            "meshtrust:signer": signer,
            **{f"meshtrust:{key}": value for key, value in changes.items()},
        }
        verdicts = []

        def run():
            settings = load_settings(last)
            assert isinstance(settings, Settings)
            way = plan_way(settings, last)

            async def decide():
                verdicts.append(await steps.decide_step(api, settings, last, way, fleet, held=held or Held()))

            return decide()

        recording = record_main(run, config)
        self.said = recording.messages
        return verdicts[0]

    def refused(self, *arguments, **changes):
        with pytest.raises(pulumi.RunError) as caught:
            self.judge(*arguments, **changes)
        return str(caught.value)


@pytest.fixture
def checker(monkeypatch, config):
    return Guard(monkeypatch, config)


def test_an_override_lets_pass_what_its_refusal_listed_and_no_more(checker):
    checker.found = [POD]
    wanted = {"anchors": ["2026", "2027"], "signer": "2027"}
    number = number_of(checker.refused(INTRODUCED, **wanted))
    given = {"gate": {"overrides": {"switch-2027": f"{number} it is a test"}}}
    verdict = checker.judge(INTRODUCED, **wanted, **given)
    [entry] = verdict.entries
    assert (entry["gate"], entry["reason"]) == ("overridden", "it is a test")
    checker.found = [POD, BARE]
    refusal = checker.refused(INTRODUCED, **wanted, **given)
    assert "was given for another refusal, or was used already" in refusal
    checker.found = [POD]
    again = deployed(OLD, NEW, anchors=("2026", "2027"), transitions=[{"step": "switch"}, {"step": "switch"}])
    assert number_of(checker.refused(again, **wanted, **given)) != number


def test_a_step_that_no_cluster_was_asked_about_is_not_said_to_be_ready(checker):
    verdict = checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2027", api=None)
    assert verdict.entries[0]["gate"] == "unasked"
    said = " ".join(text for _, text in checker.said)
    assert "No cluster was asked whether it is ready for it." in said
    assert "Everything is ready" not in said
    assert checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2027").entries[0]["gate"] == "open"
    assert "Everything is ready for it." in " ".join(text for _, text in checker.said)


def test_a_cluster_that_cannot_pledge_what_signs_in_it_says_why(checker):
    """As after a step that was forced: the switches of the others wait for that pledge, and name this stack."""
    pledge = Pledge(stamp="a1", anchors=("2026",), signer="2026")
    fleet = Membership(
        anchor_stack="anchor",
        anchor=StackOutputs({}),
        name="east",
        roots={},
        signed={"2026": OLD.pem},
        pledge=pledge,
        needs_enrolment=False,
    )
    gateway = Blocker(subject="Deployment shop/gateway", reason="See to it, and say so", is_external=True)
    checker.found = [POD, gateway]
    kept = checker.judge(deployed(OLD), anchors=["2026"], signer="2026", fleet=fleet)
    assert kept.pledge == pledge
    [said] = [text for level, text in checker.said if level == logging.WARNING]
    assert "does not pledge to its fleet that all its pods trust 2026, which signs here" in said
    assert said.splitlines()[1:3] == [f"  - {POD}", f"  - {gateway}"]
    checker.found = []
    kept = checker.judge(deployed(OLD), anchors=["2026"], signer="2026", fleet=fleet)
    assert kept.pledge.accepts == {"2026"}
    assert not [text for level, text in checker.said if level == logging.WARNING]


def test_the_replacement_of_ended_anchors_is_judged(checker):
    checker.found = [POD]
    last = deployed(make_certificate(days=-1, age=9))
    refusal = checker.refused(last, anchors=["2027"], signer="2027")
    assert "It is not safe yet to replace what has ended by 2027" in refusal
    assert "gate.overrides.replace-2027" in refusal
    number = number_of(refusal)
    given = {"gate": {"overrides": {"replace-2027": f"{number} nothing works"}}}
    assert checker.judge(last, anchors=["2027"], signer="2027", **given).entries[0]["gate"] == "overridden"


UPGRADES = {
    "a chart": ({"charts": {"linkerd.charts": "https://charts.example.com 1"}}, "linkerd.charts"),
    "a provider": ({"providers": {"tls": "1.0.0"}}, "tls: 1.0.0 is deployed"),
}


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize(
    ("anchors", "signer", "step"),
    [(["2026", "2027"], "2027", "switch the signer to 2027"), (["2026"], "2026", "retire 2027")],
)
def test_no_upgrade_rides_along_with_a_switch_or_a_retirement(checker, upgrade, anchors, signer, step):
    outputs, said = UPGRADES[upgrade]
    last = deployed(OLD, NEW, anchors=("2026", "2027"), **outputs)
    refusal = checker.refused(last, anchors=anchors, signer=signer)
    assert f"This run would {step}, and upgrade in the same run" in refusal
    assert said in refusal
    first = 'First deploy the upgrade alone, with meshtrust:anchors ["2026", "2027"] and meshtrust:signer "2026"'
    assert first in refusal
    assert not checker.asked, "it is known without the cluster"
    checker.judge(last, anchors=["2026", "2027"], signer="2026")
    checker.judge(deployed(OLD, **outputs), anchors=["2026", "2027"], signer="2026")


def recorded(settings_values, **changes):
    """The outputs of a deployment with these values, under two anchors of which the first signs."""
    return deployed(OLD, NEW, anchors=("2026", "2027"), imageValues=settings_values, **changes)


@pytest.mark.parametrize(
    ("section", "values", "path"),
    [
        ("linkerd", {"linkerdVersion": "edge-26.9.1"}, "linkerdVersion"),
        ("linkerd", {"proxy": {"image": {"version": "edge-26.9.1"}}}, "proxy.image.version"),
        ("linkerd", {"controllerImage": "example.com/controller"}, "controllerImage"),
        ("certManager", {"webhook": {"image": {"tag": "v2"}}}, "webhook.image.tag"),
    ],
)
def test_an_upgrade_by_values_does_not_ride_along_either(checker, section, values, path):
    before: dict[str, Any] = {"linkerd.values": {}, "certManager.values": {}}
    wanted = {"anchors": ["2026", "2027"], "signer": "2027", section: {"values": values}}
    refusal = checker.refused(recorded(before), **wanted)
    assert f"{section}.values {path}: nothing is deployed, and " in refusal
    assert not checker.asked, "it is known without the cluster"
    checker.judge(recorded({**before, f"{section}.values": image_values(values)}), **wanted)
    checker.judge(deployed(OLD, NEW, anchors=("2026", "2027")), **wanted)
    taken_away = recorded({**before, f"{section}.values": image_values(values)})
    assert "is deployed, and nothing would be" in checker.refused(taken_away, anchors=["2026", "2027"], signer="2027")


def test_what_is_no_upgrade_may_change_in_the_run_of_a_step(checker):
    before = {"linkerd.values": {"proxy.image.version": "1"}, "certManager.values": {}}
    values = {"proxy": {"image": {"version": 1}, "cores": 2}}
    checker.judge(recorded(before), anchors=["2026", "2027"], signer="2027", linkerd={"values": values})


def test_the_values_of_an_encrypted_upgrade_are_not_shown(config):
    values = {**config, "meshtrust:linkerd": {"values": {"proxy": {"image": {"version": "in-secret"}}}}}
    first = run_program(values, secret_keys=["meshtrust:linkerd"])
    assert first.outputs["imageValues"]["linkerd.values"] == Secret({"proxy.image.version": "in-secret"})
    assert first.outputs["imageValues"]["certManager.values"] == {}


def test_another_chart_in_the_same_directory_is_an_upgrade(checker, tmp_path):
    def write(version):
        for chart in ("linkerd-crds", "linkerd-control-plane"):
            (tmp_path / chart).mkdir(exist_ok=True)
            (tmp_path / chart / "Chart.yaml").write_text(f"name: {chart}\nversion: {version}\n")

    write("1.0.0")
    charts = {"linkerd.charts": f"{tmp_path} 1.0.0 1.0.0", "certManager.charts": CERT_MANAGER}
    last = deployed(OLD, NEW, anchors=("2026", "2027"), charts=charts)
    wanted = {"anchors": ["2026", "2027"], "signer": "2027", "linkerd": {"charts": str(tmp_path)}}
    checker.judge(last, **wanted)
    write("1.1.0")
    assert f"linkerd.charts: {tmp_path} 1.0.0 1.0.0 is deployed, and {tmp_path} 1.1.0 1.1.0" in checker.refused(
        last, **wanted
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"linkerd": {"charts": "https://charts.example.com", "version": "1", "crdsVersion": "2"}}),
        (
            {"linkerd.crdsVersion": "https://charts.example.com 2"},
            {"linkerd": {"charts": "https://charts.example.com", "version": "1"}},
        ),
    ],
)
def test_another_version_of_linkerds_definitions_is_an_upgrade(checker, before, now):
    charts = {"linkerd.charts": "https://charts.example.com 1", "certManager.charts": CERT_MANAGER, **before}
    last = deployed(OLD, NEW, anchors=("2026", "2027"), charts=charts)
    wanted = {"anchors": ["2026", "2027"], "signer": "2027", **now}
    assert "linkerd.crdsVersion: https://charts.example.com" in checker.refused(last, **wanted)


def test_what_is_installed_or_taken_away_does_not_ride_along_either(checker):
    wanted = {"anchors": ["2026", "2027"], "signer": "2027", "linkerd": {"charts": "https://x.example.com"}}
    linkerd = {"linkerd.charts": f"https://x.example.com {versions.LINKERD}"}
    last = deployed(OLD, NEW, anchors=("2026", "2027"), charts=linkerd)
    assert "certManager.charts: nothing is deployed" in checker.refused(last, **wanted)
    last = deployed(OLD, NEW, anchors=("2026", "2027"), charts={**linkerd, "certManager.charts": CERT_MANAGER})
    checker.judge(last, **wanted)
    assert f"{CERT_MANAGER} is deployed, and nothing would be" in checker.refused(
        last, **wanted, certManager={"install": False}
    )


def test_a_directory_of_charts_whose_versions_were_not_recorded_is_no_upgrade(checker, tmp_path):
    for chart in ("linkerd-crds", "linkerd-control-plane"):
        (tmp_path / chart).mkdir()
        (tmp_path / chart / "Chart.yaml").write_text(f"name: {chart}\nversion: 1.0.0\n")
    charts = {"linkerd.charts": str(tmp_path), "certManager.charts": CERT_MANAGER}
    last = deployed(OLD, NEW, anchors=("2026", "2027"), charts=charts)
    checker.judge(last, anchors=["2026", "2027"], signer="2027", linkerd={"charts": str(tmp_path)})


def issuer_under(root):
    return (make_certificate("identity.linkerd.cluster.local", issuer=root, path_length=0).certificate,)


def test_a_cluster_that_is_ahead_of_a_restored_state_is_not_taken_back_unseen(checker):
    """The state was restored from before the introduction; the cluster has switched, and even retired the old."""
    held = Held(bundle_name="ConfigMap linkerd/roots", roots=(NEW.certificate,), issuer=issuer_under(NEW))
    checker.left_behind = [POD]
    refusal = checker.refused(deployed(OLD), anchors=["2026"], signer="2026", held=held)
    assert "It is not safe yet to retire 2027" in refusal
    assert "The cluster is ahead of this stack's state" in refusal


@pytest.mark.parametrize("mode", ["step", "reconcile"])
def test_a_killed_switch_that_cannot_be_taken_back_is_called_that(checker, mode):
    """No backup was restored: the last run changed the issuer, and did not get to its outputs."""
    both = (OLD.certificate, NEW.certificate)
    held = Held(bundle_name="ConfigMap linkerd/roots", roots=both, issuer=issuer_under(NEW))
    checker.found = [POD]
    wanted = {"anchors": ["2026", "2027"], "signer": "2026", "held": held, "rotation": {"mode": mode}}
    refusal = checker.refused(INTRODUCED, **wanted)
    assert "It is not safe yet to switch the signer to 2026" in refusal
    assert "The identity issuer in the cluster is under 2027 already, as after a switch that was killed" in refusal
    assert 'finish that switch: set meshtrust:signer to "2027", and deploy again' in refusal
    assert "backup" not in refusal


def test_what_is_taken_beside_a_step_is_in_the_audit_trail_with_the_step(checker):
    """The number of a refusal counts what the trail has: an override that is not in it could be used again."""
    gone = make_certificate(generation="2028")
    held = Held(bundle_name="ConfigMap linkerd/roots", roots=(OLD.certificate, gone.certificate))
    checker.left_behind = [POD]
    wanted = {"anchors": ["2026", "2027"], "signer": "2027", "held": held}
    number = number_of(checker.refused(INTRODUCED, **wanted))
    given = {"gate": {"overrides": {"retire-2028": f"{number} it is a test"}}}
    assert [entry["step"] for entry in checker.judge(INTRODUCED, **wanted, **given).entries] == ["retire", "switch"]


def test_what_is_taken_in_a_run_without_a_step_is_in_the_audit_trail_too(config, monkeypatch):
    """Else its override would let pass the same once more."""
    last = deployed(OLD, context="kind-mesh", kubeconfig="", issuer={"mode": "intermediate"}, clusterUid="u")
    entry = {"step": "retire", "generations": ["2027"], "gate": "overridden", "reason": "it is a test"}
    found = []

    def answering(answer):
        async def answered(*_, **__):
            return answer

        return answered

    def check():
        settings = load_settings(last)
        assert isinstance(settings, Settings)
        decision = steps.StepDecision(settings=settings, pledge=None, entries=[entry])
        monkeypatch.setattr(steps, "decide_step", answering(decision))

        async def plan():
            found.append((await run.check_run(settings, last, None)).transitions)

        return plan()

    monkeypatch.delenv(OFFLINE, raising=False)
    for function in ("open_cluster", "_check_cluster", "read_held"):
        monkeypatch.setattr(run, function, answering(Held()))
    monkeypatch.setattr(health, "warn", answering(None))
    monkeypatch.setattr(issuance, "check", answering(False))
    record_main(check, {**config, "meshtrust:anchors": ["2026"], "meshtrust:context": "kind-mesh"})
    assert found == [[entry]]


def test_a_signer_that_the_cluster_has_left_is_a_switch_back(checker):
    held = Held(roots=(OLD.certificate, NEW.certificate), issuer=issuer_under(NEW))
    checker.found = [POD]
    refusal = checker.refused(INTRODUCED, anchors=["2026", "2027"], signer="2026", held=held)
    assert "It is not safe yet to switch the signer to 2026" in refusal
    checker.found = []
    assert checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2026", held=held).entries == []


@pytest.mark.parametrize(
    "held",
    [
        Held(),
        Held(roots=(OLD.certificate, NEW.certificate), issuer=issuer_under(OLD)),
        Held(roots=(OLD.certificate,), issuer=issuer_under(OLD)),
        Held(roots=(OLD.certificate, NEW.certificate)),
        Held(roots=(OLD.certificate, NEW.certificate), issuer=issuer_under(make_certificate())),
    ],
)
def test_a_cluster_that_is_where_the_state_has_it_is_not_looked_into(checker, held):
    """Nor one whose issuer is broken, which a run is to put right."""
    checker.found = [POD]
    checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2026", held=held)
    assert not checker.asked


def test_a_step_is_looked_at_once_more_and_stopped_by_what_has_come_up(checker):
    verdict = checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2027")
    checker.found = [POD]
    with pytest.raises(SystemExit):
        look_again(verdict, INTRODUCED)
    checker.found = []
    look_again(verdict, INTRODUCED)
    assert checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2026").checked_step is None


def test_a_switch_that_was_overtaken_ends_the_run_with_what_is_to_be_restarted(checker, monkeypatch):
    overtaking: list[Blocker] = []

    async def find_overtaken(_api, _namespace, root, name):
        assert (root, name) == (NEW.certificate, "2027")
        return overtaking

    monkeypatch.setattr(last_look, "find_overtaken", find_overtaken)
    told: list[str] = []
    monkeypatch.setattr(pulumi.log, "error", told.append)
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    verdict = checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2027")
    switched = planned(verdict, INTRODUCED)
    asyncio.run(last_look.look_after_switch(switched))
    overtaking.append(POD)
    with pytest.raises(SystemExit):
        asyncio.run(last_look.look_after_switch(switched))
    assert str(POD) in told[0]
    assert "Restart what is listed" in told[0]
    retiring = checker.judge(SWITCHED, anchors=["2027"], signer="2027")
    asyncio.run(last_look.look_after_switch(planned(retiring, SWITCHED)))
    asyncio.run(last_look.look_after_switch(planned(verdict, INTRODUCED, api=None)))


@pytest.mark.parametrize(
    ("roots", "count"),
    [((OLD, NEW), 3), ((OLD,), 4), ((), 4), ((OLD, NEW, make_certificate()), 4), ((make_certificate(),), 4)],
    ids=["as deployed", "cut", "deleted", "added to", "another"],
)
def test_a_bundle_that_is_not_as_it_was_deployed_is_restored_by_another_number(config, roots, count):
    last = deployed(OLD, NEW, anchors=("2026", "2027"), bundleRestorations=3)
    held = Held(bundle_name="ConfigMap", roots=tuple(root.certificate for root in roots))
    found = []

    def run(**changes):
        def count_them():
            settings = load_settings(last)
            assert isinstance(settings, Settings)
            found.append(trust_bundle.count_restorations(settings, last, changes.get("held", held)))

        anchors = changes.get("anchors", ["2026", "2027"])
        record_main(count_them, {**config, "meshtrust:anchors": anchors, "meshtrust:signer": "2026"})
        return found[-1]

    assert run() == count
    assert run(held=Held()) == 3, "no cluster was asked"
    assert run(anchors=["2026", "2027", "2028"]) == 3, "another bundle changes the release by itself"


def test_what_an_override_has_let_pass_does_not_stop_it_again(checker):
    checker.found = [POD]
    wanted = {"anchors": ["2026", "2027"], "signer": "2027"}
    number = number_of(checker.refused(INTRODUCED, **wanted))
    given = {"gate": {"overrides": {"switch-2027": f"{number} it is a test"}}}
    verdict = checker.judge(INTRODUCED, **wanted, **given)
    look_again(verdict, INTRODUCED)
    checker.found = [POD, BARE]
    with pytest.raises(SystemExit):
        look_again(verdict, INTRODUCED)


def hook_of(root, hours):
    inputs = {"caCertPem": root, "validityPeriodHours": hours}
    return SimpleNamespace(name="intermediate-certificate", urn="urn:x", new_inputs=inputs)


def test_a_certificate_is_not_made_again_for_longer_than_its_root_lives():
    root = make_certificate(days=10)

    def make(hours):
        hook: Any = hook_of(root.pem, hours)
        record_main(lambda: refuse_outliving(hook), {})

    make(9 * 24)
    with pytest.raises(OutlivingError) as caught:
        make(11 * 24)
    assert how_to_forget("urn:x") in str(caught.value)


SELECTOR = {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["platform"]}]}
DEADLOCK = "cert-manager runs in namespace"


def deadlock(config, labels, tmp_path, **linkerd):
    """Return why a cluster is refused whose cert-manager runs in a namespace with labels; empty if it is not."""
    deployment = {"metadata": {"namespace": "cert-manager", "name": "cert-manager"}}
    objects = {
        "/apis/apps/v1/deployments": {"items": [deployment], "metadata": {}},
        "/api/v1/namespaces/cert-manager": {"metadata": {"name": "cert-manager", "labels": labels}},
    }
    installed = {"meshtrust:certManager.install": False, "meshtrust:linkerd": {"ha": True, **linkerd}}
    said = []

    async def check():
        settings = load_settings(StackOutputs({}))
        assert isinstance(settings, Settings)
        try:
            with holding(objects, tmp_path) as kubeconfig:
                await webhooks.check(await connect("dev", kubeconfig), settings, StackOutputs({}))
        except ClusterError as error:
            said.append(str(error))

    record_main(check, {**config, **installed})
    return "".join(said)


def test_a_selector_of_the_injector_that_does_not_leave_cert_manager_alone_is_a_deadlock(config, tmp_path):
    label = {"config.linkerd.io/admission-webhooks": "disabled"}
    ours = {"values": {"proxyInjector": {"namespaceSelector": SELECTOR}}}
    assert deadlock(config, {}, tmp_path) == "", "the chart leaves it out by its name"
    refusal = deadlock(config, {}, tmp_path, **ours)
    assert DEADLOCK in refusal
    assert "meshtrust:linkerd.values has a proxyInjector.namespaceSelector that does not leave it out" in refusal
    assert DEADLOCK in deadlock(config, label, tmp_path, **ours), "the label says nothing to such a selector"
    assert deadlock(config, {"team": "platform"}, tmp_path, **ours) == ""
    assert deadlock(config, {}, tmp_path, **{**ours, "ha": False}) == ""
    more = {"values": {"proxyInjector": {"namespaceSelector": {"matchLabels": {"mesh": "on"}}}}}
    assert deadlock(config, {"mesh": "on"}, tmp_path, **more) == "", "Helm keeps the chart's own expressions"


def test_a_cert_manager_of_this_stack_is_judged_by_the_labels_that_it_gives(config):
    def check(values):
        async def run():
            settings = load_settings(StackOutputs({}))
            assert isinstance(settings, Settings)
            api: Any = None
            await webhooks.check(api, settings, StackOutputs({}))

        record_main(run, {**config, "meshtrust:linkerd": {"ha": True, "values": values}})

    check({})
    with pytest.raises(ClusterError, match=DEADLOCK):
        check({"proxyInjector": {"namespaceSelector": SELECTOR}})


RECONCILES = {"rotation": {"mode": "reconcile"}}


def warned(checker):
    return " ".join(" ".join(text for _, text in checker.said).split())


def test_an_acknowledgement_of_what_the_step_does_not_wait_for_is_a_warning(checker):
    named = {"switch-2027": {"ExternalWorkload shop/*": "1f0c4e2a all of them"}}
    checker.judge(INTRODUCED, anchors=["2026", "2027"], signer="2027", gate={"acknowledged": named})
    assert 'gate.acknowledged.switch-2027 has "ExternalWorkload shop/*", which the step does not wait' in warned(
        checker
    )


@pytest.mark.parametrize("gate", [{"mode": "warn"}, {"overrides": {"switch-2027": "00000000 it is a test"}}])
def test_no_gate_that_is_lenient_has_an_upgrade_go_along_in_a_run_that_can_wait(checker, gate):
    last = deployed(OLD, NEW, anchors=("2026", "2027"), providers={"tls": "1.0.0"})
    wanted = {"anchors": ["2027"], "signer": "2027", **RECONCILES}
    verdict = checker.judge(last, **wanted, gate=gate)
    assert verdict.step is None
    assert (verdict.settings.trust.anchors, verdict.settings.trust.signer) == (("2026", "2027"), "2026")
    assert "it upgrades, and one run takes one step (tls: 1.0.0 is deployed" in warned(checker)
    assert "gate.overrides" not in warned(checker)
    checker.found = [POD]
    number = number_refusal(
        Step(kind="switch", generations=("2027",), before=last.trust, after=verdict.settings.trust),
        verdict.waiting,
        0,
    )
    given = {"overrides": {"switch-2027": f"{number} it is a test"}}
    assert checker.judge(last, **wanted, gate=given).step is None


def test_a_run_that_waits_after_a_killed_switch_takes_it_back_and_says_so(checker):
    held = Held(
        bundle_name="ConfigMap linkerd/roots",
        roots=(OLD.certificate, NEW.certificate),
        issuer=issuer_under(NEW),
    )

    async def find(_api, _namespace, step, _roots, **_):
        return [POD] if step.generations == ("2027",) else []

    checker.find_by(find)
    verdict = checker.judge(INTRODUCED, anchors=["2027"], signer="2027", held=held, **RECONCILES)
    assert (verdict.step, verdict.settings.trust) == (None, INTRODUCED.trust)
    assert "as after a switch that was killed. This run has 2026 sign again." in warned(checker)
    checker.judge(INTRODUCED, anchors=["2027"], signer="2027", **RECONCILES)
    assert "sign again" not in warned(checker)


def test_a_killed_switch_is_not_taken_back_where_that_would_cut_pods_off(checker):
    held = Held(bundle_name="x", roots=(OLD.certificate, NEW.certificate), issuer=issuer_under(NEW))
    checker.found = [POD]
    refusal = checker.refused(INTRODUCED, anchors=["2027"], signer="2027", held=held, **RECONCILES)
    assert "It is not safe yet to switch the signer to 2026" in refusal


OWN, NEXT = make_certificate("own", days=300), make_certificate("next", days=300)
BROUGHT = {"own": OWN.pem, "next": NEXT.pem}


def deployed_external(*roots, anchors=("own",), **outputs):
    reference = {"name": "corporate", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    last = deployed(
        *roots, anchors=anchors, signer="own", issuer={"mode": "external-issuer", "reference": reference}, **outputs
    )
    for root in last.outputs["roots"].values():
        root["brought"] = True
    return last


def external(**refs):
    return {
        "mode": "external-issuer",
        "refs": {name: {"name": issuer, "kind": "ClusterIssuer"} for name, issuer in refs.items()},
    }


@pytest.mark.parametrize("found", [[POD], []])
def test_a_run_before_the_switch_leaves_the_certificate_with_the_deployed_issuer(checker, found):
    """The goal names another issuer of cert-manager, and of the one that signs it may say nothing any more."""
    checker.found = found
    wanted = {"anchors": ["next"], "signer": "next", "anchorCertificates": BROUGHT, **RECONCILES}
    last = deployed_external(OWN) if not found else deployed_external(OWN, NEXT, anchors=("own", "next"))
    for refs in ({"own": "corporate", "next": "other"}, {"next": "other"}):
        policy = checker.judge(last, **wanted, issuer=external(**refs)).settings.issuer
        assert (policy.mode, policy.reference.name) == ("external-issuer", "corporate")


def test_a_root_that_the_goal_has_dropped_too_early_stays_in_the_bundle_until_it_is_retired(checker):
    wanted = {"anchors": ["next"], "signer": "next", "anchorCertificates": {"next": NEXT.pem}, **RECONCILES}
    verdict = checker.judge(deployed_external(OWN), **wanted, issuer=external(next="other"))
    assert str(verdict.step) == "introduce next"
    assert read_bundle(verdict.settings.anchor.certificates["own"]) == [OWN.certificate]
    checker.found = [POD]
    waits = deployed_external(OWN, NEXT, anchors=("own", "next"))
    verdict = checker.judge(waits, **wanted, issuer=external(next="other"))
    assert verdict.step is None
    assert list(verdict.settings.anchor.certificates) == ["next", "own"]


def test_the_mode_of_the_issuer_changes_with_the_switch_and_not_before(checker):
    wanted = {"anchors": ["2027"], "signer": "2027", "issuer": {"mode": "anchor"}, **RECONCILES}
    last = deployed(OLD, issuer={"mode": "intermediate"})
    assert checker.judge(last, **wanted).settings.issuer.mode == "intermediate"
    introduced = deployed(OLD, NEW, anchors=("2026", "2027"), issuer={"mode": "intermediate"})
    assert checker.judge(introduced, **wanted).settings.issuer.mode == "anchor"
    checker.found = [POD]
    assert checker.judge(introduced, **wanted).settings.issuer.mode == "intermediate"


def test_a_key_that_signs_until_the_switch_may_not_go_before_it(checker):
    last = deployed(OWN, anchors=("own",), signer="own", issuer={"mode": "intermediate"})
    last.outputs["roots"]["own"]["brought"] = True
    wanted = {"anchors": ["2027"], "signer": "2027", **RECONCILES}
    for certificates in ({}, {"own": OWN.pem}):
        with pytest.raises(IllegalStepError, match="Keep meshtrust:anchorKeys and meshtrust:anchorCertificates of own"):
            checker.judge(last, **wanted, anchorCertificates=certificates)
