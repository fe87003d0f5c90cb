"""The engine is killed at every resource, of a first run and of updates: the last run gets where one run would."""

import json
import re
import signal
import subprocess

import pytest

from rehearsal.workspace import REPOSITORY, workspace
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.faults.conftest import faulty, said, take_away_what_a_kill_left
from tests.rehearsal.live_stack import LiveStack
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, run, settings

pytestmark = pytest.mark.soak

PENDING = "Attempting to deploy or update resources with … pending operations from previous deployment"


class Killed:
    """A stack whose runs are killed, one after the other, each at another boundary."""

    def __init__(self, project, cluster, observer):
        self.project, self.cluster, self.observer = project, cluster, observer
        self.keys = {}

    def up(self):
        """Run until a run gets through; return how often it was killed, and all that was written."""
        survived = self.project.directory / "survived"
        survived.unlink(missing_ok=True)
        written: list[str] = []
        while (code := self._run(survived, written)) == -signal.SIGKILL:
            take_away_what_a_kill_left(self.project)
            self._see_that_keys_stay()
        assert code == 0, written[-1]
        return len(survived.read_text().splitlines()), "\n".join(written)

    def _run(self, survived, written):
        process = subprocess.run(
            faulty(self.project).command(*UP),
            env={**self.project.full_environment, "FAULTS_SURVIVED": str(survived)},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        written.append(process.stdout + process.stderr)
        assert "Traceback" not in written[-1], written[-1]
        return process.returncode

    def _see_that_keys_stay(self):
        """A key that was recorded once is the same ever after."""
        path = self.project.directory / "state" / ".pulumi" / "stacks" / "meshtrust" / f"{self.project.stack}.json"
        found = {
            resource["urn"]: resource["outputs"]["publicKeyFingerprintSha256"]
            for resource in (json.loads(path.read_text())["checkpoint"].get("latest") or {}).get("resources", [])
            if resource["type"] == "tls:index/privateKey:PrivateKey" and not resource.get("delete")
        }
        for urn, fingerprint in found.items():
            assert self.keys.setdefault(urn, fingerprint) == fingerprint, urn

    def inventory(self):
        """Objects on the cluster, without the numbers of Helm's revisions."""
        return {re.sub(r"\.v\d+$", "", entry) for entry in self.observer.inventory()}

    def deployed_revisions(self):
        with self.cluster.client() as api:
            secrets = api.get("/api/v1/secrets", params={"labelSelector": "owner=helm"}).json()["items"]
        labels = [secret["metadata"]["labels"] for secret in secrets]
        assert {label["status"] for label in labels} <= {"deployed", "superseded", "failed"}
        return sorted(label["name"] for label in labels if label["status"] == "deployed")


@pytest.fixture(scope="module")
def placed(cluster, binaries, linkerd_charts):
    return {**settings(cluster, binaries, linkerd_charts), "signer": "2026"}


@pytest.fixture(scope="module")
def unbroken(cluster, observer, placed):
    """Inventory and releases of an installation without a fault."""
    before = observer.inventory()
    with workspace("dev", settings=placed) as project:
        stack = Killed(project, cluster, observer)
        run(project, *UP)
        found = stack.inventory(), stack.deployed_revisions()
        run(project, *DESTROY)
    observer.wait_for_inventory(before, 60)
    return found


@pytest.fixture(scope="module")
def stack(cluster, observer, placed):
    """A stack of which nothing was deployed yet."""
    before = observer.inventory()
    with workspace("dev", settings=placed) as project:
        yield Killed(project, cluster, observer)
        run(project, *DESTROY)
    observer.wait_for_inventory(before, 60)


def configure(stack, **changes):
    live = LiveStack(stack.project, stack.cluster)
    live.configure(**changes)
    return live


def restart_the_control_plane(cluster):
    """Its proxies hold certificates of the old anchor for a day."""
    with cluster.client() as api:
        api.delete("/api/v1/namespaces/linkerd/pods").raise_for_status()
        path = "/apis/apps/v1/namespaces/linkerd/deployments"
        wait_until(lambda: all(_is_ready(item) for item in api.get(path).json()["items"]), 90)


def _is_ready(deployment):
    return deployment["status"].get("readyReplicas", 0) == deployment["spec"]["replicas"]


def test_a_first_run_killed_at_every_resource(stack, unbroken, row):
    kills, written = stack.up()
    assert kills >= 20, "every resource that is made"
    assert (stack.inventory(), stack.deployed_revisions()) == unbroken
    run(stack.project, *UP, *NO_CHANGES)
    assert LiveStack(stack.project, stack.cluster).leaf_verifies()
    row(
        fault="the engine is killed (SIGKILL)",
        when="a first `up`, once for every resource, just after its start",
        happens="the next `up` continues",
        says=said(written, PENDING),
        kept="no recorded key changes; the cluster has exactly what an uninterrupted run creates; 0 changes afterwards",
    )


def test_a_rotation_killed_at_every_resource(stack, row):
    """Introduce, switch and retire, which update, make and delete."""
    run(stack.project, *UP)
    kills, written = 0, ""
    for anchors, signer in ((["2026", "2027"], "2026"), (["2026", "2027"], "2027"), (["2027"], "2027")):
        live = configure(stack, anchors=anchors, signer=signer)
        if len(anchors) == 1:
            restart_the_control_plane(stack.cluster)
        count, output = stack.up()
        kills, written = kills + count, written + output
        run(stack.project, *UP, *NO_CHANGES)
        assert live.leaf_verifies()
    assert kills >= 8
    outputs = stack.project.outputs()
    assert [entry["step"] for entry in outputs["transitions"]] == ["deploy", "introduce", "switch", "retire"]
    assert (outputs["anchors"], outputs["signer"]) == (["2027"], "2027")
    row(
        fault="the engine is killed (SIGKILL)",
        when="every `up` of a rotation (introduce, switch, retire), once for every resource, just after its start",
        happens="the next `up` continues with the same step",
        says=said(written, PENDING),
        kept="no recorded key changes; each step is in the audit trail once; an issued certificate verifies after each",
    )
