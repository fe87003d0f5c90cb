"""A mesh that a first deployment finds: described as a last deployment, and taken over with the issuer that it has."""

import asyncio
import base64
import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given

from meshtrust.linkerd.cli_install import KEPT, convert_issuer_secret, mark_for_helm
from meshtrust.linkerd.evidence import Mesh
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.goal import find_way_from_mesh
from meshtrust.rotation.known_roots import Held
from meshtrust.rotation.steps import Trust, find_step
from meshtrust.stacks.outputs import StackOutputs
from meshtrust.stacks.takeover.adoption import AdoptionError
from meshtrust.stacks.takeover.present_mesh import describe_mesh
from program.checks import first_deployment
from tests.certificates import make_certificate
from tests.fake_cluster import NOW, FakeCluster
from tests.unit.test_goal import STATES

# As `linkerd install` has it: the root signs by itself.
ROOT = make_certificate("identity.linkerd.cluster.local", days=365)
OTHER = make_certificate("another root", days=400)
ENDED = make_certificate("ended", age=2, days=-1)
OWN = make_certificate(generation="own")
SECRETS = "api/v1/namespaces/linkerd/secrets"
ISSUER = "linkerd-identity-issuer"


def encoded(**texts):
    return {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in texts.items()}


def cli_secret(pair=ROOT):
    data = encoded(crt_pem=pair.pem, key_pem=pair.key_pem)
    return {"metadata": {"name": ISSUER, "namespace": "linkerd"}, "type": "Opaque", "data": data}


def cluster_of_the_cli():
    cluster = FakeCluster()
    cluster.add(SECRETS, cli_secret())
    return cluster


def keys(cluster):
    """The issuer's keys by the names of the Secrets that have one."""
    found = {}
    for item in cluster.objects[SECRETS]:
        data = item["data"]
        found[item["metadata"]["name"]] = base64.b64decode(data.get("tls.key") or data["key.pem"]).decode()
    return found


def convert(cluster):
    asyncio.run(convert_issuer_secret(cluster, "linkerd", ROOT.certificate))


def test_the_secret_of_the_cli_becomes_one_that_cert_manager_can_write_with_the_same_issuer():
    cluster = cluster_of_the_cli()
    convert(cluster)
    [secret] = cluster.objects[SECRETS]
    assert (secret["metadata"]["name"], secret["type"]) == (ISSUER, "kubernetes.io/tls")
    assert secret["data"] == encoded(tls_crt=ROOT.pem, tls_key=ROOT.key_pem, ca_crt=ROOT.pem)
    convert(cluster)
    assert cluster.objects[SECRETS] == [secret]


@pytest.mark.parametrize("killed_at", range(12))
def test_a_run_that_is_killed_at_any_request_loses_no_key_and_the_next_one_goes_on(killed_at):
    cluster, requests = cluster_of_the_cli(), 0

    def kill(_):
        nonlocal requests
        assert ROOT.key_pem in keys(cluster).values()
        requests += 1
        if requests == killed_at:
            raise KeyboardInterrupt

    cluster.before_call = kill
    try:
        convert(cluster)
    except KeyboardInterrupt:
        assert ROOT.key_pem in keys(cluster).values()
        # Whoever looks at it meanwhile finds the mesh's issuer, in whichever Secret it is.
        cluster.before_call = lambda _: None
        assert describe(cluster).deployed.trust
        convert(cluster)
    assert keys(cluster) == {ISSUER: ROOT.key_pem}
    assert cluster.objects[SECRETS][0]["type"] == "kubernetes.io/tls"


def test_a_secret_that_a_killed_run_has_left_is_never_taken_for_a_newer_one():
    cluster = cluster_of_the_cli()
    cluster.add(SECRETS, {**cli_secret(OTHER), "metadata": {"name": KEPT, "namespace": "linkerd"}})
    convert(cluster)
    assert keys(cluster) == {ISSUER: ROOT.key_pem}


def test_objects_are_marked_for_helm_unless_another_release_owns_them():
    cluster = FakeCluster()
    services = "api/v1/namespaces/linkerd/services"
    owner = {"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": "elsewhere"}
    cluster.add(services, {"metadata": {"name": "theirs", "namespace": "linkerd", "annotations": dict(owner)}})
    cluster.add(services, {"metadata": {"name": "free", "namespace": "linkerd", "labels": {}, "annotations": {}}})
    for kind in ("serviceaccounts", "secrets", "configmaps"):
        cluster.objects[f"api/v1/namespaces/linkerd/{kind}"] = []
    for group, *plurals in (
        ("rbac.authorization.k8s.io/v1/namespaces/linkerd", "roles", "rolebindings"),
        ("rbac.authorization.k8s.io/v1", "clusterroles", "clusterrolebindings"),
        (
            "admissionregistration.k8s.io/v1",
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
        ),
        ("apps/v1/namespaces/linkerd", "deployments"),
        ("batch/v1/namespaces/linkerd", "cronjobs"),
        ("policy/v1/namespaces/linkerd", "poddisruptionbudgets"),
    ):
        for plural in plurals:
            cluster.objects[f"apis/{group}/{plural}"] = []
    assert asyncio.run(mark_for_helm(cluster, "linkerd", "linkerd-control-plane", is_control_plane=True)) == 1
    theirs, free = (item["metadata"] for item in cluster.objects[services])
    assert theirs["annotations"] == owner
    assert free["labels"] == {"app.kubernetes.io/managed-by": "Helm"}
    assert free["annotations"]["meta.helm.sh/release-name"] == "linkerd-control-plane"
    assert asyncio.run(mark_for_helm(cluster, "linkerd", "linkerd-control-plane", is_control_plane=True)) == 0


def mesh(*roots, issuer=ROOT):
    return Mesh(
        namespace="linkerd",
        trust_domain="example.org",
        roots=tuple(pair.certificate for pair in roots),
        issuer=(issuer.certificate,) if issuer else (),
    )


def describe(cluster, found=None, *, known=None, has_release=False, by_trust_manager=False):
    return asyncio.run(
        describe_mesh(
            cluster,
            found or mesh(ROOT, issuer=None if ISSUER not in keys(cluster) else ROOT),
            {name: pair.certificate for name, pair in (known or {}).items()},
            has_release=has_release,
            by_trust_manager=by_trust_manager,
            now=NOW,
        )
    )


EXISTING = f"existing-{fingerprint(ROOT.certificate)[:8]}"


def test_a_mesh_is_described_as_what_a_stack_would_have_deployed():
    deployed = describe(cluster_of_the_cli()).deployed
    assert deployed.trust == Trust(anchors=(EXISTING,), signer=EXISTING)
    assert deployed.certificates == {EXISTING: ROOT.certificate}
    assert deployed.roots[EXISTING].external
    assert deployed.issuer == {"mode": "external-secret"}
    assert (deployed.identity_suffix.namespace, deployed.identity_suffix.trust_domain) == ("linkerd", "example.org")


def test_roots_of_the_goal_have_its_names_and_ended_ones_are_left_out():
    found = describe(cluster_of_the_cli(), mesh(OTHER, ENDED, ROOT, OWN), known={"mine": OTHER, "own": OWN}).deployed
    assert set(found.anchors) == {"mine", EXISTING, "own"}
    assert (found.roots["mine"].external, found.roots["own"].external) == (True, False)


def certificate_of(name=ISSUER):
    reference = {"name": "root", "kind": "Issuer"}
    return {"metadata": {"name": name}, "spec": {"secretName": ISSUER, "issuerRef": reference, "duration": "48h"}}


def with_certificate(name=ISSUER):
    cluster = cluster_of_the_cli()
    convert(cluster)
    cluster.objects["apis/cert-manager.io/v1"] = {"groupVersion": "cert-manager.io/v1", "resources": []}
    cluster.objects["apis/cert-manager.io/v1/namespaces/linkerd/certificates"] = [certificate_of(name)]
    return cluster


def test_an_issuer_of_cert_manager_goes_on_to_sign_where_helm_knows_the_mesh():
    deployed = describe(with_certificate(), has_release=True).deployed
    reference = {"name": "root", "kind": "Issuer", "group": "cert-manager.io"}
    assert deployed.issuer == {"mode": "external-issuer", "reference": reference}


@pytest.mark.parametrize(
    ("made", "found", "message"),
    [
        (with_certificate, None, "Helm knows no release of it"),
        (lambda: with_certificate("other"), None, "a stack's own has that name"),
        (cluster_of_the_cli, mesh(OTHER), "holds no issuer that chains to a trusted root"),
        (cluster_of_the_cli, mesh(ROOT, issuer=None), "holds no issuer that chains to a trusted root"),
        (cluster_of_the_cli, mesh(ENDED), "no issuer that chains to a trusted root"),
    ],
    ids=["a Certificate alone", "another Certificate", "another root", "no issuer", "all ended"],
)
def test_a_mesh_that_cannot_go_on_as_it_is_is_told_with_the_reason(made, found, message):
    with pytest.raises(AdoptionError, match=message):
        describe(made(), found)


def test_an_issuer_whose_key_is_another_ones_cannot_go_on_to_sign():
    cluster = cluster_of_the_cli()
    cluster.objects[SECRETS][0]["data"] |= encoded(key_pem=OTHER.key_pem)
    with pytest.raises(AdoptionError, match="The identity issuer is not as a stack needs it"):
        describe(cluster, mesh(ROOT))


def test_a_bundle_that_trust_manager_publishes_is_left_to_it():
    cluster = cluster_of_the_cli()
    bundles = "apis/trust.cert-manager.io/v1alpha1/bundles"
    cluster.objects[bundles] = [{"metadata": {"name": "linkerd-identity-trust-roots"}}]
    with pytest.raises(AdoptionError, match=r"Set meshtrust:trustBundle\.mode to trust-manager"):
        describe(cluster)
    assert describe(cluster, by_trust_manager=True).deployed.trust


@given(STATES, STATES)
def test_the_first_run_takes_no_root_away_and_leaves_the_signer_and_each_later_step_is_legal(present, goal):
    first, *rest = find_way_from_mesh(present, goal).steps
    assert (first.kind, first.before, first.after.signer) == ("deploy", None, present.signer)
    assert set(first.after.anchors) == {*present.anchors, *goal.anchors}
    state = first.after
    for step in rest:
        assert find_step(state, step.after) == dataclasses.replace(step, before=state)
        state = step.after
    assert (set(state.anchors), state.signer) == (set(goal.anchors), goal.signer)


MARK = "meshtrust organization/meshtrust/prod"


@pytest.fixture
def find(monkeypatch):
    """Return what a first deployment finds in a cluster, by the settings of its stack."""

    def look(cluster, found, *, mode="reconcile", in_fleet=False, owner="", anchors=("own",)):
        async def read_mesh(*_):
            return found

        async def read_releases(*_):
            return [SimpleNamespace(description=owner)] if owner else []

        monkeypatch.setattr(first_deployment, "read_mesh", read_mesh)
        monkeypatch.setattr(first_deployment, "read_releases", read_releases)
        monkeypatch.setattr(first_deployment, "owner_id", lambda: MARK)
        settings: Any = SimpleNamespace(
            linkerd=SimpleNamespace(namespace="linkerd", releases=("linkerd-crds", "linkerd-control-plane")),
            anchor=SimpleNamespace(generations=anchors, signer=anchors[-1], certificates={}),
            rotation=SimpleNamespace(mode=mode),
            trust_bundle=SimpleNamespace(by_trust_manager=False),
            trust=Trust(anchors=anchors, signer=anchors[-1]),
        )
        held = Held(bundle_name="the bundle", roots=found.roots, issuer=found.issuer)
        made = asyncio.run(first_deployment.find_mesh(cluster, settings, StackOutputs({}), held, in_fleet=in_fleet))
        return made, [(step.name, step.after.signer) for step in made.way(settings).steps] if made.present else []

    return look


def test_the_way_of_a_first_deployment_begins_with_the_mesh_that_it_finds(find):
    found, steps = find(cluster_of_the_cli(), mesh(ROOT))
    assert found.deployed.trust == Trust(anchors=(EXISTING,), signer=EXISTING)
    assert steps == [(f"deploy-{EXISTING}-own", EXISTING), ("switch-own", "own"), (f"retire-{EXISTING}", "own")]


def test_a_first_run_that_has_failed_half_way_is_gone_on_from_with_the_same_names(find):
    cluster = cluster_of_the_cli()
    convert(cluster)
    found, steps = find(cluster, mesh(ROOT, OWN), owner=MARK)
    assert set(found.deployed.anchors) == {EXISTING, "own"}
    assert not found.deployed.roots["own"].external
    assert {step for step, _ in steps} >= {"switch-own", f"retire-{EXISTING}"}
    assert steps[0][1] == EXISTING, "the present issuer signs still"
    assert found.held.roots == mesh(ROOT, OWN).roots, "the stack keeps the root that it has made"


@pytest.mark.parametrize(
    ("states", "is_kept"),
    [
        (["failed"], True),
        (["pending-install"], True),
        (["failed", "failed"], True),
        (["superseded", "failed"], False),
        ([], False),
    ],
    ids=str,
)
def test_what_an_installation_holds_that_never_ended_is_kept_as_this_stacks_own(find, states, is_kept):
    labels = [{"owner": "helm", "name": "linkerd-control-plane", "status": status} for status in states]
    revisions = [{"metadata": {"name": f"v{number}", "labels": each}} for number, each in enumerate(labels)]
    issued = make_certificate("identity.linkerd.cluster.local", issuer=OWN)
    found, _ = find(FakeCluster(objects={SECRETS: revisions}), mesh(OWN, issuer=issued))
    assert bool(found.held.roots) == is_kept
    assert bool(found.present or found.obstacle) != is_kept


@pytest.mark.parametrize(
    ("found", "options", "obstacle"),
    [
        (mesh(ROOT), {"in_fleet": True}, "the other clusters of its fleet do not trust them"),
        (mesh(ROOT, OWN), {"owner": MARK, "anchors": ("later",)}, "this stack has made own, and would lose its key"),
        (mesh(OTHER), {}, "holds no issuer that chains to a trusted root"),
        (mesh(ROOT), {"mode": "step"}, ""),
    ],
    ids=["a fleet", "another goal after a failure", "no usable issuer", "mode step"],
)
def test_where_the_way_cannot_begin_with_the_mesh_the_goal_is_judged_alone_with_the_reason(
    find, found, options, obstacle
):
    made, steps = find(cluster_of_the_cli(), found, **options)
    assert (made.present, steps) == (None, [])
    assert obstacle in made.obstacle
    assert bool(made.obstacle) == bool(obstacle)
