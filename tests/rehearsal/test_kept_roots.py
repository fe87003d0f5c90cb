"""A generation's root stays what it is, whatever would have the engine make another one under its name."""

import json
import time

import pytest

from meshtrust.pem import fingerprint, read_bundle
from meshtrust.pending_release import AT_WORK
from tests.certificates import make_certificate
from tests.rehearsal.live_stack import get, names
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
        [found] = [entry["urn"] for entry in self.export()["deployment"]["resources"] if _name(entry) == name]
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


CHANGES = {
    **{f"--target-replace of its {part}": replaced(part, "--target-replace") for part in ANCHOR_PARTS},
    "--replace of its key": replaced("key", "--replace"),
    "a state without its key": lost("key"),
    "a state without all of it": lost(*ANCHOR_PARTS),
    "a state with another certificate": another_certificate,
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


def test_a_root_is_never_made_again(live, cluster):
    state = State(live)
    whole, before, outputs = state.export(), trusted(cluster), live.project.outputs()
    for name, change in CHANGES.items():
        options = change(state)
        there = state.ids()
        for command in (PREVIEW, UP):
            said = live.refused(*command, *options)
            assert 'generation "2026"' in said, f"{name}: {said}"
            assert "A generation is one root for good" in said, f"{name}: {said}"
            assert "restore the stack's state" in said, f"{name}: {said}"
        assert state.ids() == there, f"{name}: something was made, or deleted"
        assert trusted(cluster) == before, name
        state.restore(whole)
    assert live.project.outputs()["roots"] == outputs["roots"]
    live.run(*UP, *NO_CHANGES)
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
