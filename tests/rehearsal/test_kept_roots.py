"""A generation's root stays what it is, whatever would have the engine make another one under its name."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from meshtrust.cluster.pending_release import AT_WORK
from meshtrust.pki.pem import fingerprint, read_bundle
from rehearsal.workspace import workspace
from tests.certificates import make_certificate
from tests.rehearsal import ending_tls
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.live_stack import LiveStack, get, names
from tests.rehearsal.stack import NO_CHANGES, UP

BUNDLE = "/api/v1/namespaces/linkerd/configmaps/linkerd-identity-trust-roots"
PREVIEW = ("preview", "--non-interactive")
ANCHOR_PARTS = ("id", "key", "root")


class State:
    """The state of a stack, as its owner may change it by the CLI."""

    def __init__(self, live):
        self._live = live

    def export(self):
        result = self._live.project.capture("stack", "export")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def restore(self, state):
        self._live.run("stack", "import", "--force", stdin=json.dumps(state))

    def ids(self):
        """Whatever the providers have made, by name."""
        resources = self.export()["deployment"]["resources"]
        return {_name(entry): entry["id"] for entry in resources if "id" in entry and "pulumi:" not in entry["type"]}

    def urn(self, name):
        resources = self.export()["deployment"]["resources"]
        [found] = [entry["urn"] for entry in resources if _name(entry) == name and entry.get("custom")]
        return found

    def without(self, *names):
        """Take resources out of it, and out of what depends on them."""
        state = self.export()
        resources = state["deployment"]["resources"]
        gone = {entry["urn"] for entry in resources if _name(entry) in names}
        assert len(gone) == len(names)
        for entry in resources:
            entry["dependencies"] = [urn for urn in entry.get("dependencies") or [] if urn not in gone]
            depending = entry.get("propertyDependencies") or {}
            entry["propertyDependencies"] = {
                key: [urn for urn in urns or [] if urn not in gone] for key, urns in depending.items()
            }
        state["deployment"]["resources"] = [entry for entry in resources if entry["urn"] not in gone]
        self.restore(state)

    def edited(self, name, **outputs):
        """Give a resource other outputs."""
        state = self.export()
        [entry] = [entry for entry in state["deployment"]["resources"] if _name(entry) == name]
        entry["outputs"] |= outputs
        self.restore(state)


def _name(resource):
    return resource["urn"].rpartition("::")[2]


def trusted(cluster):
    """The fingerprints of the bundle in the cluster."""
    return {fingerprint(root) for root in read_bundle(get(cluster, BUNDLE)["data"]["ca-bundle.crt"])}


@pytest.fixture
def anchor_stack():
    """A stack that owns a trust anchor and signs for no cluster yet, so that it needs none."""
    with workspace("anchor", settings={"clusters": []}) as project:
        made = LiveStack(project, None)
        made.run(*UP)
        yield made


@pytest.fixture
def live(make_stack):
    made = make_stack("dev")
    made.run(*UP)
    return made


def replaced(part, option):
    def change(state):
        return (option, state.urn(f"trust-anchor-2026-{part}"))

    return change


def lost(*parts):
    def change(state):
        state.without(*(f"trust-anchor-2026-{part}" for part in parts))
        return ()

    return change


def another_certificate(state):
    """As an import, or an editor, may leave it."""
    state.edited("trust-anchor-2026-root", certPem=make_certificate().pem)
    return ()


def another_key(state):
    """The provider makes a root again whose key has changed."""
    state.edited("trust-anchor-2026-key", privateKeyPem=make_certificate().key_pem)
    return ()


def ends_by_its_provider(state):
    """The provider makes a certificate again that has ended, by the end that the state has."""
    state.edited("trust-anchor-2026-root", validityEndTime="2001-01-01T00:00:00Z")
    return ()


CHANGES = {
    **{f"--target-replace of its {part}": replaced(part, "--target-replace") for part in ANCHOR_PARTS},
    "--replace of its key": replaced("key", "--replace"),
    "a state without its key": lost("key"),
    "a state without all of it": lost(*ANCHOR_PARTS),
    "a state with another certificate": another_certificate,
    "a state with another key": another_key,
    "a root that has ended for its provider": ends_by_its_provider,
}


PENDING = "sh.helm.release.v1.linkerd-crds.v99"


@pytest.fixture
def half_done(cluster):
    """Have a release of the stack be one that an interrupted run has left half done; return whether it still is."""
    path = "/api/v1/namespaces/linkerd/secrets"

    def is_there():
        return PENDING in names(cluster, f"{path}?labelSelector=status=pending-upgrade")

    def make():
        labels = {"owner": "helm", "name": "linkerd-crds", "status": "pending-upgrade", "version": "99"}
        with cluster.client() as api:
            api.post(path, json={"metadata": {"name": PENDING, "labels": labels}}).raise_for_status()
        return is_there

    return make


def test_a_refused_run_clears_no_release_and_one_that_goes_on_waits_for_helm(live, half_done):
    is_there = half_done()
    live.refused(*UP, "--target-replace", State(live).urn("trust-anchor-2026-key"))
    assert is_there(), "the run was refused, and Helm may still be at work"
    begun = time.monotonic()
    said = live.project.capture(*UP)
    assert said.returncode == 0, said.stdout
    assert not is_there()
    assert time.monotonic() - begun > AT_WORK.seconds - 30
    assert "Helm may still be at work on linkerd/linkerd-crds" in " ".join(said.stdout.split())


@pytest.mark.parametrize("name", CHANGES)
def test_a_root_is_never_made_again(anchor_stack, name):
    state = State(anchor_stack)
    whole, outputs = state.export(), anchor_stack.project.outputs()
    options = CHANGES[name](state)
    there = state.ids()
    for command in (PREVIEW, UP):
        said = anchor_stack.refused(*command, *options)
        assert 'generation "2026"' in said
        assert "A generation is one root for good" in said
        assert "restore the stack's state" in said
    assert state.ids() == there, "something was made, or deleted"
    assert anchor_stack.project.outputs()["roots"] == outputs["roots"]
    state.restore(whole)
    anchor_stack.run(*UP, *NO_CHANGES)


def test_nothing_new_is_made_in_a_run_that_is_refused_for_a_root(anchor_stack):
    state = State(anchor_stack)
    state.without("trust-anchor-2026-key")
    there = state.ids()
    assert 'generation "2026"' in anchor_stack.refused(*UP, anchors=["2026", "2027"])
    assert state.ids() == there


@pytest.mark.parametrize("option", ["--target", "--exclude"])
def test_a_run_that_leaves_out_what_is_new_keeps_the_outputs_by_which_roots_are_known(anchor_stack, option):
    state = State(anchor_stack)
    left_out = (option, {"--target": state.urn("trust-anchor-2026-key"), "--exclude": "**trust-anchor-2027-*"}[option])
    outputs, there = anchor_stack.project.outputs(), state.ids()
    said = anchor_stack.refused(*UP, *left_out, anchors=["2026", "2027"])
    assert "This run has left out what is new in the stack (--target, --exclude)" in said
    assert anchor_stack.project.outputs() == outputs
    key = state.urn("trust-anchor-2026-key")
    assert 'generation "2026" has the root' in anchor_stack.refused(*UP, "--target-replace", key)
    assert there.items() <= state.ids().items()
    anchor_stack.up()


def test_the_root_of_a_mesh_is_never_made_again(live, cluster):
    state = State(live)
    whole, before = state.export(), trusted(cluster)
    for command in (PREVIEW, UP):
        said = live.refused(*command, "--target-replace", state.urn("trust-anchor-2026-key"))
        assert 'generation "2026" has the root' in said
    assert trusted(cluster) == before
    # Restored from a backup, a state knows nothing of a generation that proxies trust already.
    live.up(anchors=["2026", "2027"], signer="2026")
    before, later = trusted(cluster), state.export()
    state.restore(whole)
    for command in (PREVIEW, UP):
        said = live.refused(*command)
        assert 'generation "2027" has the root' in said
        assert "ConfigMap linkerd/linkerd-identity-trust-roots has it" in said
    assert trusted(cluster) == before
    state.restore(later)
    live.run(*UP, *NO_CHANGES)


# Long enough for the stack to be made before.
ENDS_AFTER_SECONDS = 45


def test_a_root_that_has_ended_stays_what_it_is():
    """Its provider would make another one, though no input has changed."""
    with workspace("anchor", settings={"clusters": []}) as project:
        ending_tls.install(project.home)
        ending = {**project.environment, "ENDING_SECONDS": str(ENDS_AFTER_SECONDS)}
        LiveStack(replace(project, environment=ending), None).run(*UP)
        made = LiveStack(project, None)
        [root] = read_bundle(project.outputs()["trustAnchors"])
        wait_until(lambda: root.not_valid_after_utc < datetime.now(UTC), ENDS_AFTER_SECONDS)
        # As where it signed until now, and the stack's file alone was changed (anchor.protect).
        protected = State(made)
        made.run("state", "protect", protected.urn("trust-anchor-2026-root"), "--yes")
        there = protected.ids()
        said = made.refused(*PREVIEW, anchors=["2026", "2027"])
        command = "pulumi state unprotect --all --yes --stack anchor"
        assert command in said
        assert protected.ids() == there
        made.run(*command.split()[1:])
        said = project.capture(*UP)
        assert said.returncode == 0, said.stdout
        assert "It stays in the bundle as it is, and is never made again" in " ".join(said.stdout.split())
        assert read_bundle(project.outputs()["trustAnchors"])[0] == root
        assert "trust-anchor-2026-key" in State(made).ids()
        made.run(*UP, *NO_CHANGES)
