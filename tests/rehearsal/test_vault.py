"""Vault signs the identity issuer: a real API (OpenBao's server) behind cert-manager's own Vault issuers.

The stack `vault` as a whole is in test_rehearsal.py, and a rotation from one PKI mount to another in test_rotation.py.
"""

import asyncio
import base64
import contextlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from meshtrust.cluster import cert_manager
from meshtrust.cluster.api import ClusterError
from meshtrust.linkerd.issuer.secret import judge_issuer_secret
from meshtrust.pki.pem import read_bundle
from rehearsal import cert_manager as installed
from rehearsal import vault
from rehearsal.cluster import Cluster
from rehearsal.cluster.pki import Authority
from rehearsal.connection import connect
from rehearsal.observe import Observer
from rehearsal.vault.issuers import LogIn, apply, by_app_role, by_kubernetes, by_token, wait_ready
from tests.http_server import serving
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.live_stack import get
from tests.rehearsal.stack import UP
from tests.rehearsal.test_adopt import CERTIFICATE

NAMESPACE = "signed"
SIGNS = "pki/root/sign-intermediate"
CERT_MANAGER = "/apis/cert-manager.io/v1"


@pytest.fixture(scope="module")
def cluster():
    """A cluster with cert-manager, beside which Vault runs."""
    with Cluster.start(f"vault-{os.getpid()}", beside=[vault.declare]) as running:
        installed.install(running)
        with running.client() as api:
            api.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}}).raise_for_status()
        yield running


@pytest.fixture(scope="module")
def observer(cluster):
    return Observer(cluster)


@pytest.fixture(scope="module")
def bao(cluster):
    """The server, with the mount `pki` that has the root."""
    return vault.OpenBao.start(cluster)


@pytest.fixture(scope="module")
def root(bao):
    """The root of the mount `pki`."""
    return vault.make_root(bao, "pki")


@pytest.fixture(scope="module")
def elsewhere(bao):
    """Servers that are not Vault, by what they answer with."""
    with contextlib.ExitStack() as running:
        page = running.enter_context(serving(lambda _: (200, b"<html>Log in</html>")))
        yield {
            "page": running.enter_context(serving(lambda path: (302, f"{page}{path}".encode()))),
            "plain": running.enter_context(serving(lambda path: (301, f"{bao.address}{path}".encode()))),
            "standby": running.enter_context(serving(lambda path: (307, f"{bao.address}{path}".encode()))),
            "balancer": running.enter_context(serving(lambda _: (404, b"<html>no backend</html>"))),
        }


def revoke_token(bao, name):
    data = get(bao.cluster, f"/api/v1/namespaces/cert-manager/secrets/{name}")["data"]
    bao.write("auth/token/revoke", token=base64.b64decode(data["token"]).decode())


def forbid(bao, name):
    bao.call("PUT", f"sys/policies/acl/{name}", policy='path "elsewhere" { capabilities = ["read"] }')


def change_audience(bao, name):
    bao.write(
        f"auth/kubernetes/role/{name}",
        bound_service_account_names=[name],
        bound_service_account_namespaces=["cert-manager"],
        audience="vault",
    )


def add_role(bao, _):
    bao.write("pki/roles/mesh", allow_any_name=True, enforce_hostnames=False, max_ttl="72h", key_type="any")


def limit_root(bao, _):
    vault.make_root(bao, "pki-limited", max_path_length=0)


def limit_intermediate(bao, _):
    vault.make_intermediate(bao, "pki-below-limited", "pki", max_path_length=0)


def allow_one_more(bao, _):
    vault.make_intermediate(bao, "pki-below", "pki", max_path_length=1)


def leave_out_the_root(bao, _):
    vault.make_intermediate(bao, "pki-alone", "pki", with_root=False)


def leave_the_mount_empty(bao, _):
    bao.write("sys/mounts/pki-empty", type="pki")


def move_the_mount(bao, _):
    vault.make_root(bao, "pki-moved")
    bao.call("POST", "sys/remount", **{"from": "pki-moved", "to": "pki-there"})


OTHER_AUTHORITY = base64.b64encode(Authority.make().pem.encode()).decode()


@dataclass(frozen=True)
class Case:
    """An issuer, and what is said of it; nothing if it signs.

    Attributes:
        path: Where it signs.
        log_in: How cert-manager logs in.
        changed: Members of `spec.vault` that are otherwise.
        server: Which of the servers that are not Vault it names.
        prepare: What is done in Vault before the Certificate is made.
        says: Parts of what is said.
    """

    path: str = SIGNS
    log_in: LogIn = by_app_role
    changed: dict[str, Any] = field(default_factory=dict)
    server: str = ""
    prepare: Callable[[vault.OpenBao, str], object] = lambda *_: None
    says: tuple[str, ...] = ()


POLICY = 'Give it a policy with path "pki/root/sign-intermediate" { capabilities = ["update"] }'
TOO_SHORT = ("max path length of zero", "Have it signed again with a path length of 1 or more")
NOT_VAULT = ("is not Vault, but something before it", "set spec.vault.server to the address of Vault's API")
CASES = {
    "kubernetes": Case(log_in=by_kubernetes),
    "approle": Case(),
    "token": Case(log_in=by_token),
    "standby": Case(server="standby"),
    "longer-chain": Case("pki-below/root/sign-intermediate", prepare=allow_one_more),
    "chain-without-root": Case("pki-alone/root/sign-intermediate", prepare=leave_out_the_root),
    "limited-root": Case("pki-limited/root/sign-intermediate", prepare=limit_root, says=TOO_SHORT),
    "limited-mount": Case("pki-below-limited/root/sign-intermediate", prepare=limit_intermediate, says=TOO_SHORT),
    "no-mount": Case("nowhere/root/sign-intermediate", says=("Code: 404", "Vault has no PKI engine there")),
    "moved-mount": Case(
        "pki-moved/root/sign-intermediate", prepare=move_the_mount, says=("Code: 404", "no PKI engine")
    ),
    "empty-mount": Case(
        "pki-empty/root/sign-intermediate",
        prepare=leave_the_mount_empty,
        says=("no default issuer", "The mount has no such authority"),
    ),
    "named-issuer": Case("pki/issuer/default/sign-intermediate"),
    "no-such-issuer": Case(
        "pki/issuer/nobody/sign-intermediate", says=("unable to find PKI issuer", "<mount>/issuer/<name>")
    ),
    "namespace": Case(changed={"namespace": "nobody"}, says=("namespace not found", "Set spec.vault.namespace")),
    "plain": Case(server="plain"),
    "no-role": Case("pki/sign/nobody", prepare=add_role, says=("unknown role", "signs no request for a CA")),
    "no-policy": Case(prepare=forbid, says=("Code: 403", POLICY)),
    "token-ended": Case(log_in=by_token, prepare=revoke_token, says=("Code: 403", "a static token that has ended")),
    "role-gone": Case(
        prepare=lambda bao, name: bao.call("DELETE", f"auth/approle/role/{name}"),
        says=("invalid role or secret ID", "make a new secret id of the AppRole"),
    ),
    "audience": Case(
        log_in=by_kubernetes, prepare=change_audience, says=("audience", "Set the audience of Vault's role to vault://")
    ),
    "no-authority": Case(changed={"caBundle": None}, says=("x509: certificate", "Set spec.vault.caBundle to")),
    "other-authority": Case(
        changed={"caBundle": OTHER_AUTHORITY}, says=("x509: certificate", "Set spec.vault.caBundle")
    ),
    "nobody-there": Case(changed={"server": "https://127.0.0.1:1"}, says=("connection refused", "See that Vault runs")),
    "log-in-page": Case(server="page", says=NOT_VAULT),
    "load-balancer": Case(server="balancer", says=NOT_VAULT),
}


@pytest.fixture(scope="module")
def said(cluster, bao, root, elsewhere):
    """Messages about each case, by its name; all cases run at once."""
    assert root
    for name, case in CASES.items():
        changed = {"server": elsewhere[case.server]} if case.server else case.changed
        vault.make_vault_issuer(bao, name, case.path, case.log_in, **changed)
        case.prepare(bao, name)
        order(cluster, name)

    async def ask():
        api = await connect(cluster.context, str(cluster.kubeconfig))
        return await asyncio.gather(*(told(api, name) for name in CASES))

    return dict(zip(CASES, asyncio.run(ask()), strict=True))


def order(cluster, name, issuer=""):
    """Make a Certificate as the stack's, of an issuer of its name unless another is given."""
    spec = {**CERTIFICATE["spec"], "secretName": name, "issuerRef": {"name": issuer or name, "kind": "ClusterIssuer"}}
    with cluster.client() as api:
        where = f"{CERT_MANAGER}/namespaces/{NAMESPACE}/certificates/{name}"
        apply(api, where, {**CERTIFICATE, "metadata": {"name": name}, "spec": spec})


async def told(api, name):
    """Return what a run says of an issuer before it is used, or of the Certificate that it does not sign."""
    reference = {"name": name, "kind": "ClusterIssuer", "group": "cert-manager.io"}
    while True:
        try:
            await cert_manager.check_issuer(api, NAMESPACE, reference)
            await cert_manager.wait_issued(api, NAMESPACE, name, 300)
        except ClusterError as error:
            # cert-manager has not looked at it yet, or has begun to log in before the case was prepared.
            if "no condition Ready" in str(error):
                await asyncio.sleep(0.1)
                continue
            return str(error)
        return ""


@pytest.mark.parametrize("name", CASES)
def test_what_vault_answers_is_told_with_its_place_and_what_to_do(said, name):
    case = CASES[name]
    if not case.says:
        assert said[name] == ""
        return
    for part in (*case.says, f"ClusterIssuer {name}", f"path {case.path} of Vault"):
        assert part in said[name], said[name]
    assert "\n" not in said[name]


@pytest.mark.parametrize(
    ("name", "length"),
    [("kubernetes", 1), ("approle", 1), ("token", 1), ("longer-chain", 2), ("chain-without-root", 2)],
)
def test_what_vault_signs_can_sign_for_the_mesh_with_its_whole_chain(cluster, said, root, name, length):
    assert said[name] == ""
    secret = get(cluster, f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
    [anchor] = read_bundle(root)
    found = list(judge_issuer_secret(secret, {"2026": anchor}, "2026", datetime.now(UTC)))
    assert [str(finding) for finding in found if finding.severity == "error"] == []
    assert len(read_bundle(base64.b64decode(secret["data"]["tls.crt"]).decode())) == length


@pytest.mark.usefixtures("said")
def test_a_sealed_vault_is_told_while_it_is_waited_for_and_signs_once_it_is_unsealed(cluster, bao):
    bao.restart()
    order(cluster, "sealed", "approle")

    async def ask(question, *arguments):
        api = await connect(cluster.context, str(cluster.kubeconfig))
        return await question(api, *arguments)

    async def why(api):
        return await cert_manager.explain(api, await cert_manager.read_certificate(api, NAMESPACE, "sealed"))

    heard = wait_until(lambda: "Vault is sealed" in (line := asyncio.run(ask(why))) and line)
    assert "Unseal Vault" in heard
    assert "ClusterIssuer approle" in heard
    bao.unseal()
    asyncio.run(ask(cert_manager.wait_issued, NAMESPACE, "sealed", 300))


def external(**refs):
    issuers = {key: {"name": name, "kind": "ClusterIssuer"} for key, name in refs.items()}
    return {"mode": "external-issuer", "refs": issuers}


@pytest.fixture(scope="module")
def leaves(cluster, bao, root):
    """An issuer whose path in Vault makes no CA."""
    assert root
    add_role(bao, "")
    vault.make_vault_issuer(bao, "leaves", "pki/sign/mesh")
    wait_ready(cluster, "leaves")
    return "leaves"


@pytest.fixture(scope="module")
def mesh_issuer(cluster, bao, root):
    """An issuer that signs, by a static token."""
    assert root
    vault.make_vault_issuer(bao, "mesh", SIGNS, by_token)
    wait_ready(cluster, "mesh")
    return "mesh"


@pytest.fixture(scope="module")
def next_root(cluster, bao):
    """The root of another mount, and the issuer `next` under it."""
    made = vault.make_root(bao, "pki-next")
    vault.make_vault_issuer(bao, "next", "pki-next/root/sign-intermediate")
    wait_ready(cluster, "next")
    return made


def test_a_role_that_makes_no_ca_is_refused_in_preview(leaves, make_stack, root):
    stack = make_stack("vault", anchorCertificates={"2026": root}, issuer=external(**{"2026": leaves}))
    said = stack.refused("preview")
    assert 'names ClusterIssuer leaves, which signs by Vault\'s path "pki/sign/mesh", which issues no CA' in said
    assert "Set spec.vault.path to <mount>/root/sign-intermediate" in said


@pytest.mark.soak
def test_a_mesh_outlives_what_goes_wrong_in_vault_and_says_what_it_is(mesh_issuer, make_stack, bao, observer, root):
    add_role(bao, "")
    stack = make_stack("vault", anchorCertificates={"2026": root}, issuer=external(**{"2026": mesh_issuer}))
    stack.up()
    served = stack.issuer_chain()

    # With another path cert-manager writes a certificate without the CA flag into the Secret.
    vault.make_vault_issuer(bao, mesh_issuer, "pki/sign/mesh", by_token)
    assert "ClusterIssuer mesh, which signs by Vault's path" in warned(stack)
    renew(observer)
    wait_until(lambda: stack.issuer_chain() != served)
    assert stack.leaf_verifies()[1] == served[0], "the identity service keeps the issuer that it has"
    assert "not marked as a CA" in verify(stack)
    assert stack.leaf_verifies()[1] == served[0]
    vault.make_vault_issuer(bao, mesh_issuer, SIGNS, by_token)
    wrong = stack.issuer_chain()
    renew(observer)
    wait_until(lambda: stack.issuer_chain() != wrong)
    wait_until(lambda: stack.leaf_verifies()[1] == stack.issuer_chain()[0])

    # The token ends.
    served = stack.issuer_chain()
    revoke_token(bao, mesh_issuer)
    renew(observer)
    found = wait_until(lambda: "Code: 403" in (said := verify(stack)) and said)
    assert "a static token that has ended a new one" in found
    assert stack.leaf_verifies()[1] == served[0]
    by_token_again(bao, mesh_issuer)
    renew(observer)
    wait_until(lambda: stack.issuer_chain() != served)

    # It is sealed: nothing that is deployed needs it. A request that it has refused is not tried again for an hour.
    served = stack.issuer_chain()
    bao.seal()
    try:
        renew(observer)
        stack.run("up", "--yes", "--skip-preview", "--non-interactive", "--expect-no-changes")
        found = wait_until(lambda: "Vault is sealed" in (said := verify(stack)) and said)
        assert "Unseal Vault" in found
        assert "have it tried again: meshtrust heal" in found
        assert stack.leaf_verifies()[1] == served[0]
    finally:
        bao.unseal()
    healed = command(stack, "heal")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert stack.issuer_chain() != served


@pytest.mark.soak
@pytest.mark.usefixtures("mesh_issuer")
def test_a_switch_to_another_mount_waits_for_a_sealed_vault_and_goes_on(next_root, make_stack, bao, root, tmp_path):
    stack = make_stack("vault", anchorCertificates={"2026": root}, issuer=external(**{"2026": "mesh"}))
    stack.up()
    both = {"2026": root, "2027": next_root}
    refs = external(**{"2026": "mesh", "2027": "next"})
    # What is restarted before a switch is the gate's matter, which has tests of its own.
    stack.up(anchors=["2026", "2027"], signer="2026", anchorCertificates=both, issuer=refs, gate={"mode": "warn"})
    bao.seal()
    stack.configure(signer="2027")
    # What a run waits for is shown at its resource while it waits, and is no line of a log.
    log, events = tmp_path / "log", tmp_path / "events"
    with log.open("w") as written:
        run = subprocess.Popen(
            [*stack.project.command(*UP), f"--event-log={events}"],
            env={**stack.project.full_environment, "PULUMI_DEBUG_COMMANDS": "true"},
            stdout=written,
            stderr=written,
        )
    try:
        said = wait_until(lambda: events.exists() and "Vault is sealed" in (text := events.read_text()) and text, 120)
        assert "ClusterIssuer next signs by path pki-next/root/sign-intermediate of Vault" in said
        assert run.poll() is None
    finally:
        bao.unseal()
        code = run.wait(240)
    assert code == 0, log.read_text()
    assert stack.leaf_verifies()[-1] == read_bundle(next_root)[0]


def renew(observer):
    observer.renew_certificate("linkerd", "linkerd-identity-issuer")


def by_token_again(bao, name):
    """Write another token into the Secret of an issuer."""
    with bao.cluster.client() as api:
        by_token(bao, api, name)


def warned(stack):
    """Preview, which succeeds; return what it says."""
    result = stack.project.capture("preview", "--non-interactive")
    assert result.returncode == 0, result.stdout + result.stderr
    return " ".join((result.stdout + result.stderr).split())


def command(stack, name):
    """Run a command of meshtrust on a stack."""
    return stack.project.capture_meshtrust(name, "--stack", stack.project.stack, COLUMNS="500")


def verify(stack):
    """Return what `meshtrust verify` says, which must not be content."""
    result = command(stack, "verify")
    assert result.returncode == 1, result.stdout + result.stderr
    return " ".join(result.stdout.split())
