"""State in a bucket of S3, and secrets encrypted by Vault's transit engine: the real CLI on servers of this machine."""

import contextlib
import os
import re
import signal
import subprocess
import uuid
from datetime import UTC, datetime

import httpx
import pytest

from meshtrust.pki.chain import verify_chain
from meshtrust.pki.pem import read_bundle
from rehearsal import mesh, objectstore, vault
from rehearsal.cluster import Cluster
from rehearsal.objectstore import Bucket
from rehearsal.workspace import workspace
from tests.key_material import KeySearch
from tests.rehearsal import stack
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.live_stack import LiveStack
from tests.rehearsal.stack import NO_CHANGES, UP
from tests.rehearsal.test_secrets_provider import ANCHOR, KEY

pytestmark = pytest.mark.soak

PROVIDER = "hashivault://meshtrust"


@pytest.fixture(scope="module")
def cluster():
    with Cluster.start(f"backends-{os.getpid()}", beside=[vault.declare, objectstore.declare]) as running:
        yield running


@pytest.fixture
def bucket(cluster):
    made = Bucket(cluster, f"state-{uuid.uuid4().hex[:8]}")
    wait_until(lambda: _answers(made.url))
    made.make()
    return made


@pytest.fixture(scope="module")
def bao(cluster):
    return vault.OpenBao.start(cluster)


@pytest.fixture
def transit(bao):
    """The environment in which the CLI encrypts by the transit engine, with a token that may do nothing else."""
    if "transit/" not in bao.call("GET", "sys/mounts"):
        bao.write("sys/mounts/transit", type="transit")
        bao.write("transit/keys/meshtrust")
    rules = "\n".join(
        f'path "transit/{verb}/meshtrust" {{ capabilities = ["update"] }}' for verb in ("encrypt", "decrypt")
    )
    bao.call("PUT", "sys/policies/acl/state", policy=rules)
    token = bao.write("auth/token/create", policies=["state"], ttl="1h")["auth"]["client_token"]
    return {
        "VAULT_SERVER_URL": bao.address,
        "VAULT_SERVER_TOKEN": token,
        "VAULT_CACERT": str(bao.cluster.directory / vault.NAME / "ca.crt"),
    }


def _answers(url):
    try:
        return httpx.get(url, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


def keys_in(exported):
    """The private keys in an export of a state, of which there are some."""
    # A plaintext is JSON within JSON.
    found = [re.sub(r"\\+n", "\n", pem) for pem in KEY.findall(exported)]
    assert found
    return found


def test_state_in_a_bucket_shows_no_key_and_is_found_again(bucket):
    with workspace("anchor", settings=ANCHOR, environment=bucket.environment) as project:
        stack.run(project, *UP)
        stack.run(project, *UP, *NO_CHANGES)
        keys = keys_in(project.capture("stack", "export", "--show-secrets").stdout)
        names = bucket.objects()
        assert ".pulumi/stacks/meshtrust/anchor.json" in names
        assert not [name for name in names if "/locks/" in name]
        KeySearch(keys).check({name: bucket.read(name) for name in names})


def test_a_bucket_without_versions_has_the_state_of_every_run_in_its_history(bucket):
    """A state that was deleted is put back from there."""
    state = ".pulumi/stacks/meshtrust/anchor.json"
    with workspace("anchor", settings=ANCHOR, environment=bucket.environment) as project:
        stack.run(project, *UP)
        keys = keys_in(project.capture("stack", "export", "--show-secrets").stdout)
        bucket.delete(state)
        lost = project.capture(*UP)
        assert lost.returncode != 0
        assert "no stack named 'anchor' found" in lost.stderr + lost.stdout
        history = [name for name in bucket.objects() if "/history/meshtrust/anchor/" in name and "checkpoint" in name]
        bucket.copy(max(history), state)
        stack.run(project, *UP, *NO_CHANGES)
        assert keys_in(project.capture("stack", "export", "--show-secrets").stdout) == keys


@contextlib.contextmanager
def held_at_the_lock(project, bucket):
    """Begin an update, and hold its CLI where it is once it has the stack's lock; it goes on afterwards."""
    run = subprocess.Popen(
        project.command(*UP),
        env=project.full_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: [name for name in bucket.objects() if "/locks/" in name])
        os.kill(run.pid, signal.SIGSTOP)
        yield run
    finally:
        os.kill(run.pid, signal.SIGCONT)
        run.wait(600)


def test_a_run_that_meets_another_at_the_lock_is_told_so_and_changes_nothing(bucket):
    with workspace("anchor", settings=ANCHOR, environment=bucket.environment) as project:
        with held_at_the_lock(project, bucket) as first:
            second = project.capture(*UP)
            assert second.returncode != 0
            assert "the stack is currently locked by 1 lock(s)" in second.stderr + second.stdout
            by_command = project.capture_meshtrust("fleet", "up", "--anchor-stack", "anchor")
            said = " ".join((by_command.stdout + by_command.stderr).split())
            assert by_command.returncode != 0, said
            assert "another run is at work on it. Run again when that has ended" in said
            assert "Traceback" not in said
        assert first.returncode == 0
        stack.run(project, *UP, *NO_CHANGES)
        assert not [name for name in bucket.objects() if "/locks/" in name]


def test_a_bucket_that_goes_in_the_middle_of_a_run_ends_it_and_a_backup_goes_on(
    bucket, cluster, binaries, linkerd_charts
):
    settings = stack.settings(cluster, binaries, linkerd_charts)
    with workspace("no-cert-manager", settings=settings, environment=bucket.environment) as project:
        stack.run(project, *UP)
        live = LiveStack(project, cluster)
        backup = project.capture("stack", "export").stdout
        before = project.outputs()["trustAnchors"]

        # The server comes back without the bucket while a run is under way.
        live.configure(linkerd={"values": {"controllerLogLevel": "debug"}})
        with held_at_the_lock(project, bucket) as run:
            cluster.kill(objectstore.NAME)
            wait_until(lambda: _answers(bucket.url))
            assert _answers(bucket.url) == httpx.codes.NOT_FOUND
        said = run.stdout.read()
        assert run.returncode != 0, said
        assert "NoSuchBucket" in said, said
        assert "Traceback" not in said
        KeySearch().check({"what it wrote": said})
        leaf = mesh.request_leaf(cluster, namespace="linkerd", service_account="default")
        chain = read_bundle(leaf.chain_pem)
        assert verify_chain(chain, read_bundle(before), datetime.now(UTC)), "the mesh has lost nothing"

        # With the bucket and a backup of the state put back, the next run takes over what that one had done.
        bucket.make()
        project.init()
        restored = project.capture("stack", "import", stdin=backup)
        assert restored.returncode == 0, restored.stderr
        stack.run(project, *UP)
        stack.run(project, *UP, *NO_CHANGES)
        assert project.outputs()["trustAnchors"] == before
        assert live.leaf_verifies()
        stack.run(project, *stack.DESTROY)


def test_a_live_fleet_exchanges_its_secrets_providers_stack_by_stack(
    transit, bucket, cluster, binaries, linkerd_charts
):
    """One stack is under the new key and the other under the old one meanwhile, and each reads the other's outputs."""
    common = stack.settings(cluster, binaries, linkerd_charts)
    environment = {**bucket.environment, **transit}
    with workspace("anchor", settings={**ANCHOR, "clusters": ["east"]}, environment=environment) as project:
        east = project.of("east")
        project.write_stack("east", {**common, "anchorStack": "anchor", "anchors": ["2026"], "signer": "2026"})
        for one in (project, east, project, east):
            stack.run(one, *UP)
        keys = {one.stack: keys_in(one.capture("stack", "export", "--show-secrets").stdout) for one in (project, east)}
        for changed in (project, east):
            ran = changed.capture("stack", "change-secrets-provider", PROVIDER)
            assert ran.returncode == 0, ran.stderr
            for one in (project, east):
                stack.run(one, *UP, *NO_CHANGES)
        for one in (project, east):
            exported = one.capture("stack", "export", "--show-secrets").stdout
            assert keys_in(exported) == keys[one.stack]
            assert PROVIDER in exported
        assert LiveStack(east, cluster).leaf_verifies()
        stack.run(east, *stack.DESTROY)


def test_vaults_transit_engine_takes_over_a_live_stack_with_every_key(bao, transit, bucket):
    environment = {**bucket.environment, **transit}
    with workspace("anchor", settings=ANCHOR, environment=environment) as project:
        stack.run(project, *UP)
        before = keys_in(project.capture("stack", "export", "--show-secrets").stdout)
        changed = project.capture("stack", "change-secrets-provider", PROVIDER)
        assert changed.returncode == 0, changed.stderr
        exported = project.capture("stack", "export", "--show-secrets").stdout
        assert PROVIDER in exported
        assert keys_in(exported) == before
        stack.run(project, *UP, *NO_CHANGES)

        bao.seal()
        try:
            refused = project.capture(*UP)
            assert refused.returncode != 0
            assert "Vault is sealed" in refused.stderr + refused.stdout
            KeySearch(before).check({"what it wrote": refused.stderr + refused.stdout})
        finally:
            bao.unseal()
        stack.run(project, *UP, *NO_CHANGES)
