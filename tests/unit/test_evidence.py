"""A step is let through only on evidence that cannot be fooled: each way to fool it, on pods whose ports answer."""

import asyncio
import random
from datetime import timedelta
from types import SimpleNamespace

import pytest

from meshtrust.cluster.api import ForbiddenError
from meshtrust.linkerd.evidence import read_leaves, read_mesh
from meshtrust.linkerd.external_peers import FleetPeers
from meshtrust.linkerd.rollout import can_restart
from meshtrust.pki.pem import sha256_hex
from meshtrust.rotation import gate
from meshtrust.rotation.acknowledgements import Acknowledgements
from meshtrust.rotation.gate import find_blockers, find_overtaken, find_unserved
from meshtrust.rotation.steps import Step, Trust
from meshtrust.stacks.inspection import inspect
from meshtrust.stacks.target import Target
from tests.certificates import make_certificate
from tests.fake_cluster import (
    NOW,
    FakeCluster,
    Port,
    identity_answers,
    injector_answers,
    leaf,
    of_deployment,
    pod_item,
    proxy,
    proxy_answers,
    stamp,
)
from tests.refusals import acknowledge

OLD, NEW = make_certificate("root old", days=3650), make_certificate("root new", days=3650)
ISSUER_OLD, ISSUER_NEW = make_certificate("issuer", issuer=OLD, days=2), make_certificate("issuer", issuer=NEW, days=3)
# Under the old root, with the end of the new issuer, as where both end at a fixed time.
TWIN = make_certificate("issuer", issuer=OLD, days=3)
BOTH = f"{OLD.pem.strip()}\n{NEW.pem.strip()}"
ROOTS = {"2026": OLD.certificate, "2027": NEW.certificate}
INTRODUCED = Trust(anchors=("2026", "2027"), signer="2026")
SWITCHED = Trust(anchors=("2026", "2027"), signer="2027")
SWITCH = Step(kind="switch", generations=("2027",), before=INTRODUCED, after=SWITCHED)
RETIRE = Step(kind="retire", generations=("2026",), before=SWITCHED, after=Trust(anchors=("2027",), signer="2027"))
REPLACE = Step(kind="replace", generations=("2028",), before=INTRODUCED, after=Trust(anchors=("2028",), signer="2028"))
SHOP = "api/v1/namespaces/shop/pods"
LINKERD = "api/v1/namespaces/linkerd/pods"


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """Measure the gate's patience by its pauses alone, which take no time: a busy machine changes no result."""
    passed = [0.0]

    async def pause(seconds):
        passed[0] += seconds
        await asyncio.sleep(0)

    monkeypatch.setattr(gate, "_PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: passed[0]))
    monkeypatch.setattr(gate, "asyncio", SimpleNamespace(gather=asyncio.gather, sleep=pause))


def cluster(issuer=ISSUER_NEW, root=NEW, bundle=BOTH, version=None):
    """A mesh that is ready for a switch and, with the new issuer, for a retirement."""
    made = FakeCluster()
    made.set_bundle(bundle, NOW - timedelta(hours=2))
    made.set_issuer(issuer, root)
    for path in ("deployments", "statefulsets", "daemonsets"):
        made.objects[f"apis/apps/v1/{path}"] = []
    made.objects["apis/batch/v1/cronjobs"] = made.objects["apis/batch/v1/jobs"] = []
    if version:
        made.objects["api/v1/namespaces/linkerd/configmaps/linkerd-config"] = {
            "metadata": {"name": "linkerd-config"},
            "data": {"values": f"linkerdVersion: {version}"},
        }
    for name in ("linkerd-identity", "linkerd-proxy-injector"):
        made.add(LINKERD, pod_item(f"{name}-1", "linkerd", anchors=None, **of_deployment(name)))
        made.ports[f"linkerd/{name}-1", 4191] = Port(proxy_answers(bundle), leaf(issuer))
    made.ports["linkerd/linkerd-identity-1", 9990] = Port(identity_answers(None if version else issuer))
    made.ports["linkerd/linkerd-proxy-injector-1", 8443] = Port(injector_answers(lambda: bundle), leaf(issuer))
    add(made, "web-1", **of_deployment("web"))
    return made


def add(made, name, anchors=BOTH, signed_by=ISSUER_NEW, **pod):
    made.add(SHOP, pod_item(name, anchors=anchors, **pod))
    made.ports[f"shop/{name}", 4191] = Port(proxy_answers(anchors), leaf(signed_by))


def blockers(made, step=SWITCH, **options):
    return [str(entry) for entry in asyncio.run(find_blockers(made, "linkerd", step, ROOTS, **options))]


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_a_mesh_that_is_ready_is_not_held_up(step):
    assert blockers(cluster(), step) == []


# A pod's anchors.


def test_an_annotation_on_a_pod_is_no_evidence_of_what_its_proxy_trusts():
    made = cluster()
    forged = {"linkerd.io/trust-root-sha256": sha256_hex(BOTH), "meshtrust.io/trust-anchors": "0" * 64}
    add(made, "forged", anchors=OLD.pem, annotations=forged)
    assert [line.partition(" ")[0] for line in blockers(made)] == ["shop/forged:"]


def test_a_pod_without_linkerds_label_is_seen_by_its_proxy():
    made = cluster()
    add(made, "unlabelled", anchors=OLD.pem, labels={})
    [line] = blockers(made)
    assert line.startswith(
        "shop/unlabelled: its proxy does not trust 2027; nothing owns it; delete it and make it again:"
    )


def test_a_control_plane_proxy_that_restarted_while_the_bundle_was_cut_is_asked_and_refused():
    """The bundle was cut to the old root, the container restarted, the bundle was put back: only the process knows."""
    made = cluster()
    made.add(
        LINKERD, pod_item("linkerd-destination-1", "linkerd", anchors=None, **of_deployment("linkerd-destination"))
    )
    made.ports["linkerd/linkerd-destination-1", 4191] = Port(proxy_answers(OLD.pem), leaf(ISSUER_OLD))
    [line] = blockers(made)
    assert line == (
        "linkerd/linkerd-destination-1 (Deployment linkerd/linkerd-destination): its proxy does not trust 2027"
    )


@pytest.mark.parametrize(
    ("started", "is_known"), [(timedelta(minutes=30), True), (timedelta(hours=2, minutes=-1), False)]
)
def test_a_proxy_that_cannot_be_asked_counts_by_its_start_if_the_bundle_has_not_changed_since(started, is_known):
    made = cluster()
    destination = pod_item(
        "linkerd-destination-1",
        "linkerd",
        anchors=None,
        created=NOW - timedelta(hours=5),
        started=NOW - started,
        restarts=1,
        **of_deployment("linkerd-destination"),
    )
    made.add(LINKERD, destination)
    made.refused["linkerd/linkerd-destination-1"] = "no answer within 10 seconds"
    assert (blockers(made) == []) == is_known


def test_a_reference_to_a_bundle_of_its_own_namespace_is_not_that_of_the_control_plane():
    made = cluster()
    made.add(SHOP, pod_item("own-bundle", anchors=None, phase="Pending", runs=False))
    made.refused["shop/own-bundle"] = "connection refused"
    [line] = blockers(made)
    assert line.startswith("shop/own-bundle: what its proxy trusts cannot be seen: connection refused")


def test_a_control_plane_pod_that_has_not_started_reads_the_bundle_of_its_start():
    made = cluster()
    waiting = pod_item("linkerd-destination-1", "linkerd", anchors=None, phase="Pending", runs=False)
    made.add(LINKERD, waiting)
    made.refused["linkerd/linkerd-destination-1"] = "connection refused"
    assert blockers(made) == []


def test_an_identity_program_that_was_restarted_before_the_bundle_was_put_back_is_restarted():
    made = cluster()
    [identity] = [item for item in made.objects[LINKERD] if "identity" in item["metadata"]["name"]]
    identity["status"]["containerStatuses"][0]["restartCount"] = 1
    made.set_bundle(BOTH, NOW - timedelta(minutes=20))
    [line] = blockers(made)
    assert "its program was started before the bundle last changed, so that it may not know 2027" in line


def test_a_bundle_that_does_not_say_when_it_changed_shows_nothing_of_the_identity_program():
    """Whoever may write the ConfigMap may take its managed fields away, as some tools do."""
    made = cluster()
    made.set_bundle(BOTH, NOW - timedelta(hours=20))
    made.objects["api/v1/namespaces/linkerd/configmaps/linkerd-identity-trust-roots"]["metadata"]["managedFields"] = [
        {}
    ]
    [line] = blockers(made)
    assert "when ConfigMap linkerd/linkerd-identity-trust-roots last changed is not in its metadata.managed" in line
    assert "linkerd-identity-trust-roots -o yaml | kubectl apply --server-side --force-conflicts" in line


# Certificates of pods in every phase.


def test_a_pending_pod_whose_native_sidecar_serves_holds_a_retirement_up():
    made = cluster()
    add(made, "initialising", signed_by=ISSUER_OLD, phase="Pending", is_native=True)
    [line] = blockers(made, RETIRE)
    assert line.startswith("shop/initialising: its live certificate is not under the anchors that remain")


def test_a_pod_that_shows_no_certificate_is_told_apart_from_one_that_is_gone_or_has_not_started():
    made = cluster()
    for name in ("silent", "starting", "gone"):
        made.add(SHOP, pod_item(name, anchors=BOTH, phase="Pending", runs=name != "starting"))

    async def read():
        mesh = await read_mesh(made, "linkerd")
        made.remove_pod("shop/gone")
        return {str(pod): leaf.state for pod, leaf in (await read_leaves(made, mesh, mesh.pods)).items()}

    states = asyncio.run(read())
    assert (states["shop/silent"], states["shop/starting"], states["shop/gone"]) == ("unseen", "waiting", "gone")
    assert states["shop/web-1"] == "shown"


def test_a_pod_that_has_started_with_the_old_root_alone_holds_a_retirement_up_though_it_has_no_certificate():
    made = cluster()
    made.add(SHOP, pod_item("late", anchors=OLD.pem, runs=False))
    [line] = blockers(made, RETIRE)
    assert line.startswith("shop/late: its proxy does not trust 2027")


def test_a_retirement_is_never_held_up_by_pods_that_come_and_go():
    """Pods vanish after they were listed, and those that start answer only a while later."""
    chance = random.Random(15)  # noqa: S311 the moments, not a secret
    for _ in range(50):
        made = cluster()
        for number in range(6):
            add(made, f"churn-{number}", **of_deployment("churn"))
        going = [f"shop/churn-{number}" for number in chance.sample(range(6), 3)]
        starting = f"shop/churn-{chance.choice([n for n in range(6) if f'shop/churn-{n}' not in going])}"
        made.refused[starting] = "connection refused"
        replica = chance.random() < 0.5

        def change(path, made=made, going=going, starting=starting, replica=replica):
            if path.endswith("/secrets/linkerd-identity-issuer") or path.startswith("apis/batch"):
                for pod in going:
                    if any(item["metadata"]["name"] == pod[5:] for item in made.objects[SHOP]):
                        made.remove_pod(pod)
                if replica and ("linkerd/linkerd-identity-1", 9990) in made.ports:
                    made.remove_pod("linkerd/linkerd-identity-1")
                    made.add(
                        LINKERD,
                        pod_item("linkerd-identity-2", "linkerd", anchors=None, **of_deployment("linkerd-identity")),
                    )
                    made.ports["linkerd/linkerd-identity-2", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER_NEW))
                    made.ports["linkerd/linkerd-identity-2", 9990] = Port(identity_answers(ISSUER_NEW))
            elif path == f"{SHOP}/{starting.removeprefix('shop/')}":
                made.refused.pop(starting, None)

        made.before_call = change
        assert blockers(made, RETIRE) == []


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_a_pod_that_is_being_deleted_is_waited_for_and_its_workload_not_restarted_again(step):
    made = cluster()
    add(made, "old", anchors=OLD.pem, signed_by=ISSUER_OLD, **of_deployment("web"))
    made.objects[SHOP][-1]["metadata"]["deletionTimestamp"] = stamp(NOW)
    asked = []

    def change(path):
        asked.append(path == f"{SHOP}/old")
        if sum(asked) == 3:
            made.remove_pod("shop/old")

    made.before_call = change
    assert blockers(made, step) == []
    stays = cluster()
    add(stays, "old", anchors=OLD.pem, signed_by=ISSUER_OLD, **of_deployment("web"))
    stays.objects[SHOP][-1]["metadata"]["deletionTimestamp"] = stamp(NOW)
    found = asyncio.run(find_blockers(stays, "linkerd", step, ROOTS))
    assert {entry.subject for entry in found} == {"shop/old"}
    assert not any(entry.curable for entry in found)


def test_a_look_before_a_switch_costs_no_request_for_a_pod():
    """With a page for each 500 of them, a look at 5,000 pods makes 30 requests at most."""
    few, many = cluster(), cluster()
    for made in (few, many):
        name = "linkerd-destination"
        made.add(LINKERD, pod_item(f"{name}-1", "linkerd", anchors=None, **of_deployment(name)))
        made.ports[f"linkerd/{name}-1", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER_NEW))
    for number in range(300):
        many.add(SHOP, pod_item(f"more-{number}", anchors=BOTH, **of_deployment("more")))
    assert blockers(few) == blockers(many) == []
    assert sorted(many.requests) == sorted(few.requests)
    pages = 5000 // 500 - 1
    assert len(few.requests) + pages * few.requests.count("api/v1/pods") <= 30


# Injectors.


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_an_injector_that_would_still_give_the_old_bundle_holds_a_step_up_whatever_its_own_proxy_trusts(step):
    made = cluster()
    made.ports["linkerd/linkerd-proxy-injector-1", 8443] = Port(injector_answers(lambda: OLD.pem), leaf(ISSUER_NEW))
    [line] = blockers(made, step)
    assert line.startswith(
        "linkerd/linkerd-proxy-injector-1 (Deployment linkerd/linkerd-proxy-injector): it would give"
    )


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_an_injector_that_was_taken_out_of_its_replica_set_still_serves_and_is_asked(step):
    """As by `kubectl label pod linkerd-proxy-injector-1 pod-template-hash-`: its Service goes by another label."""
    made = cluster()
    labels = {"linkerd.io/control-plane-component": "proxy-injector"}
    made.add(LINKERD, pod_item("orphan", "linkerd", anchors=BOTH, labels=labels))
    made.ports["linkerd/orphan", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER_NEW))
    made.ports["linkerd/orphan", 8443] = Port(injector_answers(lambda: OLD.pem), leaf(ISSUER_NEW))
    found = asyncio.run(find_blockers(made, "linkerd", step, ROOTS))
    assert [str(entry).partition(": ")[0] for entry in found] == ["linkerd/orphan"]
    assert "it would give a new pod other roots" in str(found[0])
    assert "kubectl -n linkerd delete pod orphan" in str(found[0]), "a restart of the Deployment does not reach it"


def test_an_identity_replica_that_was_taken_out_of_its_replica_set_still_signs_and_is_asked():
    made = cluster()
    labels = {"linkerd.io/control-plane-component": "identity"}
    made.add(LINKERD, pod_item("orphan", "linkerd", anchors=BOTH, labels=labels))
    made.ports["linkerd/orphan", 4191] = Port(proxy_answers(BOTH), leaf(make_certificate("issuer", issuer=NEW)))
    made.ports["linkerd/orphan", 9990] = Port(identity_answers(ISSUER_OLD))
    [unserved] = asyncio.run(find_unserved(made, asyncio.run(read_mesh(made, "linkerd"))))
    for line in (*blockers(made, RETIRE), str(unserved)):
        assert line.startswith("linkerd/orphan: it still signs with an issuer that ends")
        assert "kubectl -n linkerd delete pod orphan" in line


def test_an_injector_is_waited_for_while_its_node_brings_it_the_bundle():
    made, asked = cluster(), []

    def bundle():
        asked.append(1)
        return OLD.pem if len(asked) < 3 else BOTH

    made.ports["linkerd/linkerd-proxy-injector-1", 8443] = Port(injector_answers(bundle), leaf(ISSUER_NEW))
    assert blockers(made) == []


def test_each_replica_of_the_injector_is_asked_and_one_that_does_not_answer_is_named():
    made = cluster()
    name = "linkerd-proxy-injector"
    made.add(LINKERD, pod_item(f"{name}-2", "linkerd", anchors=None, **of_deployment(name)))
    made.ports[f"linkerd/{name}-2", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER_NEW))
    [line] = blockers(made)
    assert "linkerd-proxy-injector-2" in line
    assert "which roots it would give to a new pod cannot be seen: connection refused" in line


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_a_pod_that_an_injector_makes_just_before_it_has_the_bundle_is_among_the_pods_that_are_looked_at(step):
    """Whichever of the requests of a look it comes before: the injectors are asked first, and pods listed after."""
    counted = cluster()
    assert blockers(counted, step) == []
    for moment in range(len(counted.requests) + 1):
        made = _bringing_the_bundle_at(moment)
        assert blockers(made, step), f"nothing was seen of a pod made before request {moment}"


def _bringing_the_bundle_at(moment):
    """A mesh whose injector makes a pod with the old bundle before one of the requests, and has the new one then."""
    made, held = cluster(), [OLD.pem]

    def bring(_path):
        if len(made.requests) == moment + 1:
            add(made, "late", anchors=held[0], created=NOW, **of_deployment("web"))
            held[0] = BOTH

    def bundle():
        return held[0]

    made.before_call = bring
    made.ports["linkerd/linkerd-proxy-injector-1", 8443] = Port(injector_answers(bundle), leaf(ISSUER_NEW))
    return made


def test_an_injector_that_comes_while_the_pods_are_listed_is_asked_too():
    made, name = cluster(), "linkerd-proxy-injector"

    def come(path):
        if path.startswith("api/v1/pods") and (f"linkerd/{name}-2", 8443) not in made.ports:
            made.add(LINKERD, pod_item(f"{name}-2", "linkerd", anchors=None, **of_deployment(name)))
            made.ports[f"linkerd/{name}-2", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER_NEW))
            made.ports[f"linkerd/{name}-2", 8443] = Port(injector_answers(lambda: OLD.pem), leaf(ISSUER_NEW))

    made.before_call = come
    [line] = blockers(made)
    assert line.startswith(f"linkerd/{name}-2 (Deployment linkerd/{name}): it would give a new pod other roots")


@pytest.mark.parametrize(("hours", "blocks"), [(3, True), (1, False)], ids=["before", "after"])
def test_an_injector_that_has_not_started_counts_by_whether_it_was_made_before_the_bundle_changed(hours, blocks):
    """Its volume was written before its first container started, and its node may be late to write it again."""
    made, name = cluster(), "linkerd-proxy-injector"
    created = NOW - timedelta(hours=hours)
    item = pod_item(f"{name}-2", "linkerd", anchors=None, created=created, **of_deployment(name))
    for status in item["status"]["containerStatuses"]:
        if status["name"] != "linkerd-proxy":
            status["state"] = {"waiting": {"reason": "PodInitializing"}}
    made.add(LINKERD, item)
    made.ports[f"linkerd/{name}-2", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER_NEW))
    assert [f"{name}-2" in line for line in blockers(made)] == ([True] if blocks else [])


def test_a_pod_that_has_overtaken_a_switch_is_found_after_it():
    made = cluster()
    assert blockers(made) == []
    add(made, "late", anchors=OLD.pem, created=NOW + timedelta(seconds=2), **of_deployment("web"))
    late = asyncio.run(find_overtaken(made, "linkerd", NEW.certificate, "2027"))
    assert [str(entry) for entry in late] == ["shop/late (Deployment shop/web): its proxy does not trust 2027"]


def test_a_generation_whose_root_no_outputs_tell_blocks_and_is_named():
    [found] = asyncio.run(find_blockers(cluster(), "linkerd", SWITCH, {"2026": OLD.certificate}))
    assert str(found).startswith("generation 2027: its root is not in the outputs of the last deployment; deploy once")
    assert found.deployable


# The identity service.


def test_a_tenants_pod_with_the_labels_of_the_identity_service_is_none_of_its_replicas():
    made = cluster()
    labels = {"linkerd.io/control-plane-component": "identity", "linkerd.io/control-plane-ns": "linkerd"}
    add(made, "impostor", labels=labels)
    assert blockers(made, SWITCH) == blockers(made, RETIRE) == []
    mesh = asyncio.run(read_mesh(made, "linkerd"))
    assert list(map(str, mesh.identity_pods)) == ["linkerd/linkerd-identity-1"]


def test_of_two_issuers_with_one_end_the_replica_is_known_by_what_it_signed():
    """The metrics are the same for the old issuer and the new."""
    stale = cluster()
    stale.ports["linkerd/linkerd-identity-1", 9990] = Port(identity_answers(TWIN))
    stale.ports["linkerd/linkerd-identity-1", 4191] = Port(proxy_answers(BOTH), leaf(TWIN))
    told = blockers(stale, RETIRE)
    assert any("which of two issuers with the same end it signs with cannot be seen" in line for line in told)
    settled = cluster()
    settled.ports["linkerd/linkerd-identity-1", 9990] = Port(identity_answers(ISSUER_NEW))
    assert blockers(settled, RETIRE) == []


def test_an_old_linkerd_is_known_by_what_each_replica_has_signed_for_itself():
    """stable-2.14 has no issuer_cert_ttl_seconds, and its replicas' own proxies have certificates from themselves."""
    assert blockers(cluster(version="stable-2.14.10"), RETIRE) == []
    made = cluster(version="stable-2.14.10")
    before = make_certificate("issuer", issuer=NEW, days=1)
    made.ports["linkerd/linkerd-identity-1", 4191] = Port(proxy_answers(BOTH), leaf(before))
    [blocker] = asyncio.run(find_blockers(made, "linkerd", RETIRE, ROOTS))
    assert "Linkerd stable-2.14.10 does not report it in its metrics" in str(blocker)
    assert blocker.curable, "a restart has it sign a certificate for itself under the Secret's issuer"


# Who else trusts the root.


def acknowledging(step, *lines):
    """Return the acknowledgements by the commands in the lines of a refusal."""
    return Acknowledgements(given=acknowledge("\n".join(lines), "it was seen to")[step.name])


def external(made, subject="vm-1"):
    version = "workload.linkerd.io/v1beta1"
    made.objects["apis/workload.linkerd.io"] = {"preferredVersion": {"groupVersion": version}}
    made.add(f"apis/{version}/externalworkloads", {"metadata": {"namespace": "shop", "name": subject}})


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_an_external_workload_is_named_until_it_is_acknowledged_by_name(step):
    made = cluster()
    external(made)
    external(made, "vm-2")
    first, second = blockers(made, step)
    assert first.startswith("ExternalWorkload shop/vm-1: it runs outside of the cluster, and whether it trusts 2027")
    assert blockers(made, step, acknowledged=acknowledging(step, first)) == [second]
    unbound = Acknowledgements(given={"ExternalWorkload shop/vm-1": "its bundle has 2027"})
    assert len(blockers(made, step, acknowledged=unbound)) == 2


def test_what_can_be_seen_cannot_be_acknowledged():
    made = cluster()
    add(made, "old", anchors=OLD.pem)
    asked = [Acknowledgements().ask(SWITCH, subject, "Say so") for subject in ("shop/old", "all")]
    assert blockers(made, acknowledged=acknowledging(SWITCH, *asked)) == blockers(made) != []


def test_a_link_is_named_unless_the_fleet_has_the_cluster_that_it_leads_to():
    made = cluster()
    version = "multicluster.linkerd.io/v1alpha3"
    made.objects["apis/multicluster.linkerd.io"] = {"preferredVersion": {"groupVersion": version}}
    link = {"metadata": {"namespace": "linkerd-multicluster", "name": "west"}, "spec": {"targetClusterName": "west"}}
    made.add(f"apis/{version}/links", link)
    [line] = blockers(made)
    assert line.startswith("Link linkerd-multicluster/west: it leads to west, and whether the proxies there trust 2027")
    north = FleetPeers(clusters=frozenset({"north"}))
    assert blockers(made, fleet=FleetPeers(clusters=frozenset({"west", "north"}))) == []
    assert blockers(made, fleet=north) == [line], "nobody in the fleet asks it"
    assert blockers(made, fleet=north, acknowledged=acknowledging(SWITCH, line)) == []
    assert blockers(made, acknowledged=acknowledging(SWITCH, line)) == []


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_a_gateway_is_named_since_the_links_to_it_are_in_other_clusters(step):
    made = cluster()
    add(made, "gateway-1", **of_deployment("gateway"))
    [*_, container] = made.objects[SHOP][-1]["spec"]["containers"]
    container["env"].append({"name": "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES", "value": "svc.cluster.local."})
    [line] = blockers(made, step)
    assert line.startswith("Deployment shop/gateway: other clusters connect to it, and whether the proxies there trust")
    assert "fleet" not in line
    assert blockers(made, step, acknowledged=acknowledging(step, line)) == []
    [line] = blockers(made, step, fleet=FleetPeers(clusters=frozenset({"north"})))
    assert line.startswith("Deployment shop/gateway: other clusters may connect to it that are not of this fleet, and")
    assert line.endswith("If only clusters of this fleet do, add its name to meshtrust:gate.fleetGateways, once")
    declared = FleetPeers(clusters=frozenset({"north"}), gateways=frozenset({"Deployment shop/gateway"}))
    assert blockers(made, step, fleet=declared) == []
    others = FleetPeers(clusters=frozenset({"north"}), gateways=frozenset({"Deployment shop/entrance"}))
    assert blockers(made, step, fleet=others, acknowledged=acknowledging(step, line)) == []


def test_who_cannot_be_asked_is_read_for_status_and_a_right_that_is_missing_hides_nothing_else():
    made = cluster()
    external(made)
    target = Target(api=made, context="dev", namespace="linkerd", stack=None, deployed=None)
    found = asyncio.run(inspect(target, diagnoses=False))
    assert found.unseen
    assert found.unseen.subjects == ["ExternalWorkload shop/vm-1"]

    async def refuse(*_, **__):
        message = "externalworkloads is forbidden"
        raise ForbiddenError(message)

    made.list_custom = refuse
    found = asyncio.run(inspect(target, diagnoses=False))
    assert found.unseen is None
    assert found.mesh.pods


@pytest.mark.parametrize("is_native", [True, False], ids=["native sidecar", "container"])
def test_a_proxy_without_the_new_root_is_named_whichever_kind_of_container_it_is(is_native):
    made = cluster()
    add(made, "old-1", anchors=OLD.pem, is_native=is_native, **of_deployment("old"))
    [line] = blockers(made)
    assert line.startswith("shop/old-1 (Deployment shop/old): its proxy does not trust 2027")


def template(name, anchors, **spec):
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {**spec, "template": {"metadata": {}, "spec": {"containers": [{"name": "app"}, proxy(anchors)]}}},
    }


@pytest.mark.parametrize("step", [SWITCH, RETIRE], ids=["switch", "retire"])
def test_a_template_that_holds_the_old_root_is_named_though_no_pod_is_made_from_it(step):
    made = cluster()
    made.objects["apis/apps/v1/deployments"] = [template("idle", OLD.pem, replicas=0), template("fresh", BOTH)]
    [line] = blockers(made, step)
    assert line.startswith("Deployment shop/idle: its template holds roots without 2027, as `linkerd inject --manual`")
    assert "kubectl get deployment/idle -n shop -o yaml | linkerd uninject - | linkerd inject --manual -" in line


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("ReplicaSet", "apis/apps/v1/replicasets"),
        ("ReplicationController", "api/v1/replicationcontrollers"),
    ],
)
def test_a_bare_controller_without_pods_is_named_by_the_roots_in_its_template(kind, path):
    made = cluster()
    owned = template("web-1", OLD.pem, replicas=0)
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "controller": True}
    ]
    made.objects[path] = [template("bare", OLD.pem, replicas=0), owned]
    [line] = blockers(made)
    assert line.startswith(f"{kind} shop/bare: its template holds roots without 2027")


def test_pods_of_a_template_with_the_old_root_are_not_restarted_in_vain():
    made = cluster()
    made.objects["apis/apps/v1/deployments"] = [template("manual", OLD.pem, replicas=1)]
    add(made, "manual-1", anchors=OLD.pem, **of_deployment("manual"))
    found = asyncio.run(find_blockers(made, "linkerd", SWITCH, ROOTS))
    assert sorted(entry.subject for entry in found) == ["Deployment shop/manual", "shop/manual-1"]
    assert not any(entry.curable for entry in found)


def test_another_linkerd_in_the_cluster_that_shares_the_root_is_waited_for():
    made = cluster()
    made.set_bundle(OLD.pem, NOW - timedelta(days=1), "linkerd-b")
    made.set_issuer(ISSUER_OLD, OLD, "linkerd-b")
    add(made, "theirs", anchors=OLD.pem, signed_by=ISSUER_OLD, control_plane="linkerd-b")
    for step in (SWITCH, RETIRE):
        [line] = blockers(made, step)
        assert line.startswith("Linkerd in namespace linkerd-b: it shares a root with this one, and ")
        assert blockers(made, step, acknowledged=acknowledging(step, line)) == []


def test_another_linkerd_under_a_root_of_its_own_is_none_of_this_ones_concern():
    made, own = cluster(), make_certificate("root of b")
    made.set_bundle(own.pem, NOW - timedelta(days=1), "linkerd-b")
    made.set_issuer(make_certificate("issuer", issuer=own), own, "linkerd-b")
    add(made, "theirs", anchors=own.pem, control_plane="linkerd-b")
    assert blockers(made, SWITCH) == blockers(made, RETIRE) == []


# Owners.


def test_a_pod_of_an_argo_rollout_is_named_by_its_rollout_which_can_be_restarted():
    made = cluster()
    add(made, "canary-1", anchors=OLD.pem, owner=("apps/v1", "ReplicaSet", "canary-6d4f"))
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "canary", "controller": True}
    made.objects["apis/apps/v1/namespaces/shop/replicasets/canary-6d4f"] = {
        "metadata": {"namespace": "shop", "name": "canary-6d4f", "ownerReferences": [owner]}
    }
    [blocker] = asyncio.run(find_blockers(made, "linkerd", SWITCH, ROOTS))
    assert str(blocker) == "shop/canary-1 (Rollout shop/canary): its proxy does not trust 2027"
    assert blocker.workload is not None
    assert can_restart(blocker.workload)


def test_a_pod_of_a_controller_of_its_own_is_named_with_what_a_person_does():
    made = cluster()
    add(made, "kafka-0", anchors=OLD.pem, owner=("core.strimzi.io/v1beta2", "StrimziPodSet", "kafka"))
    [line] = blockers(made)
    assert line == (
        "shop/kafka-0 (StrimziPodSet shop/kafka): its proxy does not trust 2027; restart StrimziPodSet kafka in the "
        "way of its controller, or delete its pods one by one: kubectl -n shop delete pod <name>"
    )


# All roots have ended.


def test_roots_that_have_ended_are_not_replaced_while_certificates_under_them_still_serve():
    made = cluster()
    told = blockers(made, REPLACE)
    assert any(
        line.startswith("shop/web-1 (Deployment shop/web): its live certificate outlives the ended anchors until ")
        for line in told
    )
    ended = make_certificate("issuer", issuer=OLD, days=-0.01)
    for key, port in list(made.ports.items()):
        if port.chain:
            made.ports[key] = Port(port.answer, leaf(ended))
    assert blockers(made, REPLACE) == []


def test_a_rollout_whose_template_holds_the_old_root_is_named_and_not_restarted_in_vain():
    made = cluster()
    version = "argoproj.io/v1alpha1"
    made.objects["apis/argoproj.io"] = {"preferredVersion": {"groupVersion": version}}
    made.objects[f"apis/{version}/rollouts"] = [
        {**template("canary", OLD.pem), "apiVersion": version},
        {"apiVersion": version, "metadata": {"namespace": "shop", "name": "refers"}, "spec": {"workloadRef": {}}},
    ]
    owner = {"apiVersion": version, "kind": "Rollout", "name": "canary", "controller": True}
    made.add(
        "apis/apps/v1/namespaces/shop/replicasets",
        {"metadata": {"namespace": "shop", "name": "canary-7d9c", "ownerReferences": [owner]}},
    )
    add(made, "canary-1", anchors=OLD.pem, owner=("apps/v1", "ReplicaSet", "canary-7d9c"))
    found = asyncio.run(find_blockers(made, "linkerd", SWITCH, ROOTS))
    assert sorted(entry.subject for entry in found) == ["Rollout shop/canary", "shop/canary-1"]
    assert not any(entry.curable for entry in found)
    assert "Take the proxy out of it" in next(entry.reason for entry in found if entry.subject == "Rollout shop/canary")


def test_an_issuer_that_a_killed_run_left_under_the_other_root_is_cured_by_another_deployment():
    made = cluster()
    made.set_issuer(ISSUER_OLD, OLD)
    found = asyncio.run(find_blockers(made, "linkerd", RETIRE, ROOTS))
    [secret] = [entry for entry in found if entry.subject == "Secret linkerd/linkerd-identity-issuer"]
    assert secret.deployable
