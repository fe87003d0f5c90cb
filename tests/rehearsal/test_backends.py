"""State in a bucket of S3, and secrets encrypted by Vault's transit engine: the real CLI on servers of this machine."""

import os
import re
import uuid

import httpx
import pytest

from rehearsal import objectstore, vault
from rehearsal.cluster import Cluster
from rehearsal.objectstore import Bucket
from rehearsal.workspace import workspace
from tests.key_material import KeySearch
from tests.rehearsal import stack
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.stack import NO_CHANGES, UP
from tests.rehearsal.test_secrets_provider import KEY

pytestmark = pytest.mark.soak

ANCHOR = {"clusters": [], "anchor": {"protect": False}}
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
