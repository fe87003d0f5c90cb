"""A fleet of small clusters under load: deployed from nothing, rotated, hindered, joined, put right after a loss."""

import base64
import contextlib
import json
import os
import re
import signal
import uuid

import httpx
import pytest

from meshtrust.pki.pem import read_bundle
from rehearsal.cluster import Cluster
from tests.certificates import make_certificate
from tests.key_material import KeySearch, process_arguments
from tests.refusals import acknowledge
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.fleet_bench import APPLICATIONS, REPLICAS, WORKLOADS, events, fleet_bench
from tests.rehearsal.infra_stack import Infra
from tests.rehearsal.links import (
    IDENTITY,
    apply_link,
    install_links,
    remove_links,
    serve_only_the_first_version,
)
from tests.rehearsal.rights import grant, without, write_kubeconfig
from tests.rehearsal.rotation_bench import kill_after, kill_when, sleep_when

pytestmark = pytest.mark.soak

NO_CHANGES = ("up", "--yes", "--skip-preview", "--non-interactive", "--expect-no-changes")


@pytest.fixture(scope="module")
def fleet(binaries, linkerd_charts):
    """A fleet of two clusters that one command has deployed from nothing, with proxies that connect all the time."""
    common = {
        "anchor": {"protect": False},
        "linkerd": {"charts": str(linkerd_charts)},
        "certManager": {"charts": str(binaries.charts)},
    }
    with fleet_bench(["east", "west"], common) as made:
        told = made.cli("fleet", "up", "--json")
        assert told.returncode == 0, told.stdout + told.stderr
        made.first = events(told.stdout)
        for name in made.clusters:
            made.load(name)
        yield made


@pytest.fixture
def steady(fleet):
    """The generation that the fleet is under."""
    [anchor] = fleet.outputs("anchor")["anchors"]
    assert all(fleet.outputs(name)["signer"] == anchor for name in fleet.clusters)
    return anchor


@pytest.fixture
def following():
    """A name that no generation has had."""
    return f"g{uuid.uuid4().hex[:8]}"


def last_states(written):
    return {entry["stack"]: entry["state"] for entry in events(written)[-1]["stacks"]}


def test_one_command_deploys_a_fleet_from_nothing(fleet):
    titles = [entry["title"] for entry in fleet.first if entry["event"] == "phase"]
    assert titles == [
        "Make the stacks",
        "Deploy the trust anchor",
        "Ask for intermediates",
        "Sign the intermediates of east, west",
        "Deploy the clusters",
    ]
    bundles = {fleet.outputs(stack)["trustAnchorsSha256"] for stack in ("anchor", *fleet.clusters)}
    assert len(bundles) == 1
    assert fleet.cli("fleet", "verify").returncode == 0
    for stack in ("anchor", *fleet.clusters):
        unchanged = fleet.engine(stack, *NO_CHANGES)
        assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr


def test_the_anchors_key_is_in_the_anchor_stack_and_nowhere_else(fleet):
    pattern = r"-----BEGIN EC PRIVATE KEY-----.*?-----END EC PRIVATE KEY-----"
    keys = {_body(key) for key in re.findall(pattern, fleet.state("anchor"), re.DOTALL)}
    assert len(keys) == 1, "it signs with one generation"
    [key] = keys
    for name, cluster in fleet.clusters.items():
        state = fleet.state(name)
        own = {_body(found) for found in re.findall(pattern, state, re.DOTALL)}
        assert own, "the cluster's own intermediate has a key"
        assert not own & keys
        assert key not in re.sub(r"\\\\?n|\s", "", state)
        assert "PRIVATE KEY" not in fleet.engine(name, "stack", "output", "--json", "--show-secrets").stdout
        with cluster.client() as api:
            for secret in api.get("/api/v1/secrets").raise_for_status().json()["items"]:
                for value in (secret.get("data") or {}).values():
                    assert key not in _body(base64.b64decode(value).decode(errors="replace"))
    assert "PRIVATE KEY" not in fleet.engine("anchor", "stack", "output", "--json", "--show-secrets").stdout


def _body(pem):
    """The base64 of a PEM, whatever breaks its lines."""
    return re.sub(r"(\\+n|\s)", "", re.sub(r"-----[A-Z ]+-----", "", pem))


def test_a_rotation_that_is_hindered_and_killed_comes_to_its_end_and_no_handshake_fails(fleet, steady, following):
    before = fleet.failed()
    with unreachable(fleet.clusters["west"]):
        _is_hindered(fleet, steady, following)
    # The goal is in every file. What blocks in the own cluster is named pod by pod.
    for stack in ("anchor", *fleet.clusters):
        assert fleet.config(stack)["anchors"] == [following]
    introduced = fleet.up("west")
    assert fleet.outputs("west")["anchors"] == [steady, following], introduced
    written = fleet.up("west")
    deployment = f"Deployment {APPLICATIONS}/workload-001"
    assert re.search(rf"- {APPLICATIONS}/workload-\S+ \({deployment}\): its proxy does not trust", written)
    assert fleet.outputs("west")["signer"] == steady
    assert fleet.outputs("west")["rotation"]["next"] == f"switch-{following}"
    assert fleet.outputs("west")["rotation"]["waitingFor"]["count"] >= WORKLOADS * REPLICAS

    kill_after(20, fleet.command("fleet", "rotate", "--to", following), fleet.environment)
    for stack in ("anchor", *fleet.clusters):
        fleet.engine(stack, "cancel", "--yes")
    done = fleet.cli("fleet", "rotate", "--to", following, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fleet.failed() == before
    assert fleet.outputs("anchor")["anchors"] == [following]
    for name in fleet.clusters:
        assert (fleet.outputs(name)["anchors"], fleet.outputs(name)["signer"]) == ([following], following)
    assert fleet.cli("fleet", "verify").returncode == 0


def _is_hindered(fleet, steady, following):
    """Rotate while west cannot be reached, and try to continue with east nevertheless."""
    hindered = fleet.cli("fleet", "rotate", "--to", following, "--json")
    assert hindered.returncode == 1, hindered.stdout + hindered.stderr
    assert last_states(hindered.stdout) == {"anchor": "done", "east": "done", "west": "failed"}
    [wrong] = [entry for entry in events(hindered.stdout)[-1]["stacks"] if "error" in entry]
    assert "The API server of context" in wrong["error"]

    # East has pledged that it is ready, and may still not switch: nobody knows what west's proxies trust.
    fleet.up("anchor")
    assert fleet.outputs("east")["signer"] == steady
    assert fleet.outputs("east")["pledge"]["accepts"] == sorted([steady, following])
    written = fleet.up("east")
    assert fleet.outputs("east")["signer"] == steady
    assert f"It is not safe yet to switch the signer to {following}: 1 thing in the fleet blocks it" in written
    assert f"- west: its stack: it has not pledged that all its pods trust {following}" in written
    planned = json.loads(fleet.ok("plan", "--stack", "east", "--to", following, "--json"))
    assert [entry["stack"] for entry in planned["blockers"]] == ["west"]


def test_a_rotation_is_taken_back_by_a_run_that_stood_still_meanwhile_and_no_handshake_fails(fleet, steady, following):
    before = fleet.failed()

    def has_switched():
        return fleet.outputs("east")["signer"] == following

    def is_back():
        return fleet.outputs("east")["signer"] == steady

    kill_when(has_switched, fleet.command("fleet", "rotate", "--to", following), fleet.environment, 900)
    for stack in ("anchor", *fleet.clusters):
        fleet.engine(stack, "cancel", "--yes")
    # A laptop that is closed and opened again: what it waited for may have timed out, and the same command goes on.
    sleep_when(is_back, 20, fleet.command("fleet", "rotate", "--to", steady), fleet.environment, 900)
    done = fleet.cli("fleet", "rotate", "--to", steady, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fleet.failed() == before
    assert fleet.outputs("anchor")["anchors"] == [steady]
    for name in fleet.clusters:
        assert (fleet.outputs(name)["anchors"], fleet.outputs(name)["signer"]) == ([steady], steady)
    assert fleet.cli("fleet", "verify").returncode == 0


@contextlib.contextmanager
def unreachable(cluster):
    """Have a cluster's API server take connections and answer none."""
    pid = int((cluster.directory / "kube-apiserver.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        with cluster.client() as api:
            wait_until(lambda: _is_ready(api), 60)


def _is_ready(api):
    with contextlib.suppress(httpx.HTTPError):
        return api.get("/readyz").status_code == httpx.codes.OK
    return False


def test_a_fleet_is_rotated_by_the_kubeconfigs_that_other_stacks_export(
    fleet, steady, following, monkeypatch, tmp_path
):
    """Each stack has only the name of the one that made its cluster, and the machine has no kubeconfig."""
    assert steady
    before, kubeconfigs = fleet.failed(), {}
    for name, cluster in fleet.clusters.items():
        kubeconfigs[name] = json.loads(cluster.kubeconfig.read_text())
        infra = Infra(fleet.project, name)
        infra.export(kubeconfigs[name])
        fleet.configure(name, context=None, kubeconfig=None, cluster={"fromStack": infra.name})
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setitem(fleet.environment, "KUBECONFIG", "/nowhere")
    monkeypatch.setitem(fleet.environment, "TMPDIR", str(temporary))
    with process_arguments() as seen:
        rotated = fleet.cli(
            "fleet", "rotate", "--to", following, "--verbose", "--log-directory", str(tmp_path / "logs")
        )
        assert rotated.returncode == 0, rotated.stdout + rotated.stderr
        status = fleet.ok("fleet", "status", "--html", str(tmp_path / "fleet.html"))
        verified = fleet.ok("fleet", "verify", "--json")
        again = fleet.ok("fleet", "up", "--json")
    assert fleet.failed() == before
    assert {name: fleet.outputs(name)["signer"] for name in fleet.clusters} == dict.fromkeys(fleet.clusters, following)
    assert set(last_states(again).values()) == {"done"}
    written = {
        "what they wrote": rotated.stdout + rotated.stderr + status + verified + again,
        **{str(path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()},
        **{str(path): path.read_text() for path in (fleet.project.directory / "state").rglob("*.json")},
    }
    assert any("/logs/" in where for where in written)
    users = [user["user"] for kubeconfig in kubeconfigs.values() for user in kubeconfig["users"]]
    keys = [base64.b64decode(user["client-key-data"]).decode() for user in users]
    KeySearch(keys).check({**written, **seen})
    held = [user[kind] for user in users for kind in ("client-key-data", "client-certificate-data")]
    assert [where for where, text in written.items() if any(content in text for content in held)] == []
    assert list(temporary.iterdir()) == []
    for name, cluster in fleet.clusters.items():
        fleet.configure(name, context=cluster.context, kubeconfig=str(cluster.kubeconfig), cluster=None)
    fleet.ok("fleet", "up")


def test_a_gate_that_warns_in_one_cluster_has_it_take_no_step_before_the_others_are_ready(fleet, steady, following):
    before, failed = {name: len(fleet.outputs(name)["transitions"]) for name in fleet.clusters}, fleet.failed()
    fleet.configure("east", gate={"mode": "warn", "overrides": {f"retire-{steady}": "00000000 left over"}})
    fleet.ok("fleet", "rotate", "--to", following)
    fleet.configure("east", gate=None)
    taken = {name: fleet.outputs(name)["transitions"][count:] for name, count in before.items()}
    for entries in taken.values():
        assert [(entry["step"], entry["gate"]) for entry in entries[1:]] == [("switch", "open"), ("retire", "open")]
    begun = {name: {entry["step"]: entry["at"] for entry in entries} for name, entries in taken.items()}
    assert max(entry["switch"] for entry in begun.values()) < min(entry["retire"] for entry in begun.values())
    assert fleet.failed() == failed


@pytest.mark.usefixtures("steady")
def test_a_cluster_that_fails_stops_what_has_not_begun_and_the_next_run_goes_on(fleet):
    charts = fleet.config("east")["linkerd"]["charts"]
    fleet.configure("east", linkerd={"charts": "/nowhere"})
    failed = fleet.cli("fleet", "up", "--json")
    assert failed.returncode == 1
    assert last_states(failed.stdout) == {"anchor": "done", "east": "failed", "west": "not begun"}
    [wrong] = [entry for entry in events(failed.stdout)[-1]["stacks"] if "error" in entry]
    with open(wrong["log"], encoding="utf-8") as log:  # noqa: PTH123 a path that the command told
        assert "where there is no linkerd-crds/Chart.yaml" in log.read()
    fleet.configure("east", linkerd={"charts": charts})
    assert last_states(fleet.ok("fleet", "up", "--json")) == {"anchor": "done", "east": "done", "west": "done"}


@pytest.mark.usefixtures("steady")
def test_a_run_that_fails_half_way_leaves_the_mesh_as_it_was_and_the_next_run_goes_on(fleet):
    before, linkerd = fleet.failed(), fleet.config("east")["linkerd"]
    # No node takes the new pods, so that the run ends when they have not become ready in time, and the old ones serve.
    nowhere = {**linkerd, "values": {"nodeSelector": {"nowhere": "true"}}}
    fleet.configure("east", linkerd=nowhere, helm={"timeoutSeconds": 20})
    failed = fleet.cli("fleet", "up", "--json")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert last_states(failed.stdout) == {"anchor": "done", "east": "failed", "west": "not begun"}
    fleet.configure("east", linkerd=linkerd, helm=None)
    assert last_states(fleet.ok("fleet", "up", "--json")) == {"anchor": "done", "east": "done", "west": "done"}
    assert fleet.cli("fleet", "verify").returncode == 0
    assert fleet.failed() == before


@pytest.mark.usefixtures("steady")
def test_a_stack_that_another_run_is_at_work_on_is_named_and_the_next_run_goes_on(fleet):
    locks = fleet.project.directory / "state" / ".pulumi" / "locks" / "organization" / "meshtrust" / "west"
    lock = locks / f"{uuid.uuid4()}.json"
    locks.mkdir(parents=True, exist_ok=True)
    lock.write_text('{"pid": 1, "username": "someone", "hostname": "elsewhere", "timestamp": "2026-11-24T12:00:00Z"}')
    try:
        told = fleet.cli("fleet", "up", "--json")
    finally:
        lock.unlink()
    assert told.returncode == 1
    assert last_states(told.stdout) == {"anchor": "done", "east": "done", "west": "failed"}
    [wrong] = [entry for entry in events(told.stdout)[-1]["stacks"] if "error" in entry]
    assert "another run is at work on it" in wrong["error"]
    assert "pulumi cancel --stack west" in wrong["error"]
    assert last_states(fleet.ok("fleet", "up", "--json")) == {"anchor": "done", "east": "done", "west": "done"}


@pytest.fixture
def linked(fleet, steady):
    """The fleet with its clusters linked to each other, and east to one that is not in the fleet."""
    assert steady
    for cluster in fleet.clusters.values():
        install_links(cluster)
    apply_link(fleet.clusters["east"], "west")
    apply_link(fleet.clusters["east"], "partner")
    apply_link(fleet.clusters["west"], "east")
    yield fleet
    for cluster in fleet.clusters.values():
        remove_links(cluster)


@pytest.mark.usefixtures("steady")
def test_clusters_that_do_not_know_the_kind_are_told_as_such(fleet):
    found = verify(fleet)
    assert found["links"] == []
    for cluster in found["clusters"].values():
        assert cluster["links"] == {"installed": False, "error": None}
        assert about_links(cluster) == []


def test_linked_clusters_are_judged_from_both_ends(linked, tmp_path):
    found = verify(linked)
    assert states(found) == {("east", "west"): "well", ("east", None): "unchecked", ("west", "east"): "well"}
    [partner] = about_links(found["clusters"]["east"])
    assert partner["severity"] == "warning"
    assert partner["subject"] == "Link linkerd-multicluster/partner"
    assert "leads to partner, which is no cluster of this fleet" in partner["wrong"]
    assert about_links(found["clusters"]["west"]) == []

    page = tmp_path / "fleet.html"
    shown = linked.ok("fleet", "status", "--html", str(page))
    assert re.search(r"(?m)^east +partner !, west ✓ *$", shown)
    assert "partner, not of this fleet" in page.read_text()

    apply_link(linked.clusters["east"], "west", gatewayIdentity=IDENTITY.replace("cluster.local", "example.com"))
    found = verify(linked, code=1)
    assert states(found)["east", "west"] == "refused"
    wrong = next(entry for entry in found["clusters"]["east"]["findings"] if entry["severity"] == "error")
    assert wrong["subject"] == "Link linkerd-multicluster/west"
    assert wrong["wrong"].endswith(
        "ends with .serviceaccount.identity.linkerd.cluster.local: proxies here refuse that gateway"
    )
    apply_link(linked.clusters["east"], "west")

    with stranger(linked.clusters["west"]):
        found = verify(linked, code=1)
    assert states(found) == {("east", "west"): "refused", ("east", None): "unchecked", ("west", "east"): "refused"}

    linked.configure("west", linkName="partner")
    found = verify(linked)
    assert [(entry["to"], entry["targetClusterName"]) for entry in found["links"]][:2] == [
        ("west", "partner"),
        (None, "west"),
    ]
    linked.configure("west", linkName=None)
    serve_only_the_first_version(linked.clusters["east"])
    assert states(verify(linked))["east", "west"] == "well"


def test_the_rights_to_read_are_enough_for_a_fleet_and_its_links_and_a_right_less_is_told(linked, tmp_path):
    own = {name: linked.config(name)["kubeconfig"] for name in linked.clusters}
    for name, cluster in linked.clusters.items():
        with cluster.client() as api:
            grant(api, "read-only.yaml")
        linked.configure(name, kubeconfig=str(write_kubeconfig(cluster, "read-only", tmp_path)))
    try:
        found = verify(linked)
        assert states(found) == {("east", "west"): "well", ("east", None): "unchecked", ("west", "east"): "well"}
        assert [entry["subject"] for entry in about_links(found["clusters"]["east"])] == [
            "Link linkerd-multicluster/partner"
        ]
        assert "forbidden" not in json.dumps(found)
        with without(linked.clusters["west"], "ClusterRole", "meshtrust-read-only", "links"):
            found = verify(linked)
    finally:
        for name, kubeconfig in own.items():
            linked.configure(name, kubeconfig=kubeconfig)
    assert states(found) == {("east", "west"): "well", ("east", None): "unchecked"}
    assert found["clusters"]["west"]["links"]["installed"] is True
    assert "forbidden" in found["clusters"]["west"]["links"]["error"]
    [finding] = about_links(found["clusters"]["west"])
    assert finding["severity"] == "warning"
    assert finding["wrong"].startswith("are not known: The list of Links cannot be read: ")


def verify(fleet, code=0):
    told = fleet.cli("fleet", "verify", "--json")
    assert told.returncode == code, told.stdout + told.stderr
    assert "Traceback" not in told.stderr
    return json.loads(told.stdout)


def about_links(cluster):
    """Findings about its Links; proxies may trust a retired root still, after a rotation that was taken back."""
    return [entry for entry in cluster["findings"] if entry["subject"].startswith("Link")]


def states(found):
    return {(link["from"], link["to"]): link["state"] for link in found["links"]}


@contextlib.contextmanager
def stranger(cluster):
    """Have a pod with a proxy that trusts a root of nobody's, as one that was injected by hand long ago."""
    proxy = {
        "name": "linkerd-proxy",
        "image": "example.com/proxy",
        "env": [{"name": "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "value": make_certificate().pem}],
    }
    labels = {"linkerd.io/control-plane-ns": "linkerd"}
    body = {"metadata": {"name": "stranger", "labels": labels}, "spec": {"containers": [proxy]}}
    with cluster.client() as api:
        # Nothing injects there.
        path = "/api/v1/namespaces/default/pods"
        api.post(path, json=body).raise_for_status()
        try:
            yield
        finally:
            api.delete(f"{path}/stranger").raise_for_status()
            wait_until(lambda: api.get(f"{path}/stranger").status_code == httpx.codes.NOT_FOUND)


def test_a_clusters_stack_that_is_lost_is_made_anew_under_its_name_and_no_handshake_fails(fleet, steady):
    """As docs/fleet.md says: its keys are others then, but for the webhooks' authority under a name of its own."""
    before, roots = fleet.failed(), fleet.outputs("west")["trustAnchors"]
    intermediates = fleet.outputs("west")["intermediates"]
    lost = fleet.engine("west", "stack", "rm", "--yes", "--force", "--preserve-config")
    assert lost.returncode == 0, lost.stdout + lost.stderr
    fleet.configure("west", webhooks={"authorities": ["2"]})
    with fleet.clusters["west"].client() as api:
        api.delete(f"/api/v1/namespaces/linkerd/secrets/linkerd-issuer-ca-{steady}").raise_for_status()
    fleet.ok("fleet", "up")
    assert fleet.outputs("west")["trustAnchors"] == roots
    assert fleet.outputs("west")["intermediates"].keys() == {steady}
    assert fleet.outputs("west")["intermediates"] != intermediates, "it has another key"
    assert fleet.cli("fleet", "verify").returncode == 0
    unchanged = fleet.engine("west", *NO_CHANGES)
    assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr
    assert fleet.failed() == before


def test_a_cluster_joins_with_what_the_others_have_and_the_fleet_outlives_its_anchor_stack(fleet, steady, following):
    before = fleet.failed()
    early = f"{following}-early"
    fleet.configure("anchor", anchors=[steady, early])
    with Cluster.start(f"late-{os.getpid()}") as cluster:
        fleet.add("late", cluster, [early], early)
        # By hand: its stack asks, the anchor stack signs, and it is refused nevertheless.
        up = ("up", "--yes", "--skip-preview", "--non-interactive")
        steps = [("late", "stack", "init"), ("anchor", *up), ("late", *up), ("anchor", *up)]
        for stack, *command in steps:
            result = fleet.engine(stack, *command)
            assert result.returncode == 0, result.stdout + result.stderr
        written = fleet.refused("late")
        assert f"east signs with {steady}, which this cluster would not trust" in written
        assert f"west does not trust {early}, with which this cluster would sign" in written

        fleet.configure("late", anchors=[steady], signer=steady)
        fleet.ok("fleet", "up")
        fleet.load("late")
        assert fleet.outputs("late")["trustAnchorsSha256"] == fleet.outputs("east")["trustAnchorsSha256"]
        assert fleet.cli("fleet", "verify").returncode == 0

        # The anchor stack and its key are lost: its root is still known, and the clusters' own intermediates go on.
        root = fleet.outputs("east")["trustAnchors"]
        lost = fleet.engine("anchor", "stack", "rm", "--yes", "--force", "--preserve-config")
        assert lost.returncode == 0, lost.stdout + lost.stderr
        fleet.configure("anchor", anchors=[steady], anchorCertificates={steady: root})
        for stack, *command in [("anchor", "stack", "init"), ("anchor", *up)]:
            result = fleet.engine(stack, *command)
            assert result.returncode == 0, result.stdout + result.stderr
        assert fleet.outputs("anchor")["roots"][steady]["brought"] is True
        install_links(fleet.clusters["east"])
        for target in ("west", "partner"):
            apply_link(fleet.clusters["east"], target)
        waiting = fleet.cli("fleet", "rotate", "--to", following, "--json")
        told = events(waiting.stdout)
        [warning] = [entry for entry in told if entry["event"] == "warning"]
        assert warning["stack"] == "east"
        assert warning["text"].startswith("Link linkerd-multicluster/partner may tie it to what is not of this fleet")
        assert not [entry for entry in told if entry.get("title") == f"Switch the signer to {following}"]
        # Neither step passes over the Link out of the fleet until each was acknowledged by its name.
        for _ in ("switch", "retire"):
            assert waiting.returncode != 0
            said = waiting.stderr + waiting.stdout.replace('\\"', '"')
            given = acknowledge(said, "the partner trusts it since Monday")
            assert [set(subjects) for subjects in given.values()] == [{"Link linkerd-multicluster/partner"}], said
            fleet.configure("east", gate={"acknowledged": given})
            waiting = fleet.cli("fleet", "rotate", "--to", following, "--json")
        assert waiting.returncode == 0, waiting.stdout + waiting.stderr
        fleet.configure("east", gate=None)
        assert fleet.outputs("anchor")["anchors"] == [following]
        assert [len(read_bundle(fleet.outputs(name)["trustAnchors"])) for name in fleet.clusters] == [1, 1, 1]
        assert {name: failed for name, failed in fleet.failed().items() if name in before} == before
        assert fleet.failed()["late"] == 0
        assert fleet.cli("fleet", "verify").returncode == 0
        del fleet.clusters["late"]
