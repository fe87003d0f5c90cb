"""A cluster's client: which files of its credentials stay, whatever becomes of connecting."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from meshtrust.cluster.api import NAMESPACES, ClusterError
from meshtrust.cluster.connection import credentials
from meshtrust.cluster.connection.credentials import CredentialsError, read_credentials
from meshtrust.cluster.connection.kubeconfig import Context, KubeconfigError, parse_context, read_context
from rehearsal.connection import connect
from rehearsal.providers.cluster_client import ClusterClient, UnreachableError
from tests.certificates import make_certificate
from tests.connect_proxy import proxying
from tests.http_server import serving
from tests.kubeconfigs import command_for_credentials, write_kubeconfig
from tests.recorder import REPOSITORY

USER, OTHER = make_certificate(), make_certificate()
NOWHERE = "http://127.0.0.1:1"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def _answer(path):
    if path.startswith("/version"):
        return 200, json.dumps({"gitVersion": "v1.36.0"}).encode()
    return 401, json.dumps({"message": "who?"}).encode()


@pytest.fixture
def api_server():
    """A server that tells its version, and takes no credentials."""
    with serving(_answer) as url:
        yield url


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def kubeconfig(tmp_path):
    def write(server, cluster=(), **user):
        held = {"client-key-data": encoded(USER.key_pem), "client-certificate-data": encoded(USER.pem), **user}
        others = {"certificate-authority-data": encoded(USER.pem), **dict(cluster)}
        return write_kubeconfig(tmp_path / "config", held, server=server, **others)

    return write


async def read_a_namespace(kubeconfig):
    api = await connect("dev", kubeconfig)
    await api.get(NAMESPACES, "default")


def test_a_server_that_refuses_the_credentials_leaves_no_copy_of_them(api_server, kubeconfig, temporary):
    with pytest.raises(ClusterError, match="cannot be read: who"):
        asyncio.run(read_a_namespace(kubeconfig(api_server)))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("user", [{}, {"username": "somebody"}], ids=["no server", "credentials that are none"])
def test_a_server_that_is_not_reached_leaves_no_copy_of_the_credentials(user, kubeconfig, temporary):
    with pytest.raises(ClusterError, match='context "dev" cannot be reached'):
        asyncio.run(connect("dev", kubeconfig(NOWHERE, **user)))
    assert list(temporary.iterdir()) == []


def test_key_files_that_the_kubeconfig_names_stay(kubeconfig, temporary, tmp_path):
    (tmp_path / "user.key").write_text(USER.key_pem)
    path = Path(kubeconfig(NOWHERE))
    named = path.read_text(encoding="utf-8").replace('"client-key-data"', '"client-key": "user.key", "unused"')
    path.write_text(named, encoding="utf-8")
    with pytest.raises(ClusterError, match='context "dev" cannot be reached'):
        asyncio.run(connect("dev", str(path)))
    assert list(temporary.iterdir()) == []
    assert (tmp_path / "user.key").is_file()


def test_the_client_of_the_rehearsals_provider_leaves_no_copy_either(api_server, kubeconfig, temporary):
    client = ClusterClient(kubeconfig(api_server), "dev")
    assert client.request("GET", "/version")
    with pytest.raises(UnreachableError):
        ClusterClient(kubeconfig(NOWHERE), "dev")
    assert list(temporary.iterdir()) == []


def command_with(name, value):
    variable = {"name": name, "value": value}
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "true", "env": [variable]}}


def read(user, **cluster):
    context = Context(name="dev", namespace="default", cluster={"server": NOWHERE, **cluster}, user=user)
    return asyncio.run(read_credentials(context))


def prints(status, version="client.authentication.k8s.io/v1"):
    printed = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    return command_for_credentials(f"printf %s '{printed}'")


def test_a_command_may_give_a_certificate_with_its_key_and_no_copy_of_them_is_left(temporary):
    found = read(prints({"clientCertificateData": USER.pem, "clientKeyData": USER.key_pem}))
    assert found.headers == []
    assert list(temporary.iterdir()) == []


def test_a_command_is_told_what_is_expected_of_it(tmp_path):
    seen = tmp_path / "seen"
    user = command_for_credentials(f"printf '%s' \"$KUBERNETES_EXEC_INFO\" > {seen}; exit 3")
    user["exec"]["provideClusterInfo"] = True
    with pytest.raises(CredentialsError, match="sh ended with code 3"):
        read(user)
    asked = json.loads(seen.read_text())
    assert (asked["apiVersion"], asked["kind"]) == ("client.authentication.k8s.io/v1", "ExecCredential")
    assert asked["spec"] == {"interactive": False, "cluster": {"server": NOWHERE}}


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (prints({"token": ""}), "gives neither a token nor a certificate"),
        (prints({"clientCertificateData": "no key: s3cret"}), "prints something else than an ExecCredential"),
        (command_for_credentials("echo s3cret"), "prints something else than an ExecCredential"),
        (command_for_credentials("echo '[\"s3cret\"]'"), "prints something else than an ExecCredential"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "sh"}}, "has to speak one of"),
        (
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such", "installHint": "Get it."}},
            r"command no-such cannot be run: .*\. Get it\.$",
        ),
        ({"username": "somebody", "password": "s3cret"}, "username and a password, which Kubernetes takes no more"),
        ({"auth-provider": {"name": "gcp", "config": {}}}, 'auth-provider "gcp" was taken out of Kubernetes'),
        ({"auth-provider": {"name": "oidc"}}, "has no 'config'"),
        ({"client-key-data": "s3cret!", "client-certificate-data": ""}, "client-key-data is not PEM in base64"),
        (
            {"client-key-data": encoded("s3cret"), "client-certificate-data": encoded(USER.pem)},
            "client-certificate and client-key are not a certificate in PEM and its key",
        ),
        (
            {"client-key-data": encoded(OTHER.key_pem), "client-certificate-data": encoded(USER.pem)},
            "client-certificate and client-key are not a certificate in PEM and its key",
        ),
        ({"token": "s3cret\nX-Header: s3cret"}, "token, or that of its command, has characters that no token has"),
        ({"token": "s3crét"}, "token, or that of its command, has characters that no token has"),
        (prints({"token": "s3cret\n"}), "token, or that of its command, has characters that no token has"),
        (command_with("A=B", "s3cret"), "command true cannot be run: illegal environment variable name"),
        (command_with("A", "s3cret\0"), "command true cannot be run: embedded null byte"),
        (
            {"tokenFile": "/nowhere/token"},
            "the file /nowhere/token of the kubeconfig's tokenFile cannot be read here: No",
        ),
    ],
)
def test_credentials_that_cannot_be_had_are_one_clause_that_repeats_no_secret(user, reason):
    with pytest.raises(CredentialsError, match=reason) as caught:
        read(user)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["s3cret", "\x30\x82", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_authority_that_is_no_certificate_is_told_so(text):
    with pytest.raises(CredentialsError, match="the kubeconfig's certificate-authority has no certificate in PEM"):
        read({}, **{"certificate-authority-data": base64.b64encode(text.encode("latin-1")).decode()})


def test_a_file_of_another_machine_is_named_with_how_to_do_without_it(temporary):
    with pytest.raises(
        CredentialsError, match=r"file /home/bob/ca\.crt of .*certificate-authority .*view --raw --flatten"
    ):
        read({}, **{"certificate-authority": "/home/bob/ca.crt"})
    assert list(temporary.iterdir()) == []


def test_base64_in_lines_and_a_comment_beside_pem_are_read():
    """Both are so for kubectl: Go ignores the ends of lines, and what is beside a block of PEM."""
    text = base64.encodebytes(f"# Zertifizierungsstelle für alle\n{USER.pem}".encode()).decode()
    assert "\n" in text.strip()
    assert read({}, **{"certificate-authority-data": text}).tls.get_ca_certs()


def test_of_what_a_command_writes_before_it_fails_the_last_lines_are_shown():
    with pytest.raises(CredentialsError) as caught:
        read(command_for_credentials("seq 1 3000 >&2; exit 1"))
    assert str(caught.value).endswith("\n2999\n3000")
    assert len(str(caught.value).splitlines()) == 20


def test_a_cluster_is_reached_by_a_socks_proxy(kubeconfig):
    with serving(lambda _: (200, b'{"gitVersion": "v1.36.0"}')) as url, proxying("socks5") as (proxy, tunnels):
        asyncio.run(connect("dev", kubeconfig(url, cluster={"proxy-url": proxy})))
        assert tunnels == [url.removeprefix("http://")]


def test_a_command_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "_LOGIN_SECONDS", 0.5)
    with pytest.raises(CredentialsError, match=r"sh has not ended within 0\.5 seconds"):
        read(command_for_credentials(f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_command_with_a_relative_path_is_the_one_beside_the_kubeconfig(tmp_path):
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "login"
    script.write_text('#!/bin/sh\necho \'{"status": {"token": "beside"}}\'\n')
    script.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "./bin/login"}}
    context = read_context("dev", write_kubeconfig(tmp_path / "config", user))
    assert asyncio.run(read_credentials(context)).headers == [("Authorization", "Bearer beside")]


def test_a_token_in_a_file_goes_before_another_and_impersonation_is_passed_on(tmp_path):
    (tmp_path / "token").write_text("renewed\n")
    user = {
        "token": "old",
        "tokenFile": str(tmp_path / "token"),
        "as": "admin",
        "as-groups": ["a", "b"],
        "as-user-extra": {"scopes": ["view"]},
    }
    assert read(user).headers == [
        ("Authorization", "Bearer renewed"),
        ("Impersonate-User", "admin"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-scopes", "view"),
    ]


def test_where_no_file_can_be_in_memory_a_temporary_one_is_removed(kubeconfig, temporary, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    asyncio.run(read_credentials(read_context("dev", kubeconfig(NOWHERE))))
    assert list(temporary.iterdir()) == []


def test_the_content_of_a_kubeconfig_is_enough_and_its_current_context_counts():
    content = json.dumps(
        {
            "current-context": "dev",
            "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
            "clusters": [
                {"name": "c", "cluster": {"server": NOWHERE, "tls-server-name": "api", "proxy-url": "http://p"}}
            ],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
    )
    context = parse_context(content, "", "cluster.fromStack")
    assert (context.name, context.namespace) == ("dev", "shop")
    found = asyncio.run(read_credentials(context))
    assert (found.server, found.server_name, found.proxy) == (NOWHERE, "api", "http://p")
    with pytest.raises(KubeconfigError, match=r'cluster.fromStack is "prod".*It has dev'):
        parse_context(content, "prod", "cluster.fromStack")


def test_credentials_that_expire_are_read_again_once_for_all_that_wait(tmp_path):
    runs = tmp_path / "runs"
    user = command_for_credentials(
        f'echo run >> {runs}; echo "{{\\"status\\": {{\\"token\\": \\"$(wc -l < {runs})\\"}}}}"'
    )
    seen: list[dict[str, str]] = []

    def answer(path):
        if path.startswith("/version") or seen[-1]["authorization"] == "Bearer 2":
            return 200, json.dumps({"gitVersion": "v1.36.0"}).encode()
        return 401, json.dumps({"message": "Unauthorized"}).encode()

    async def ask(kubeconfig):
        api = await connect("dev", kubeconfig)
        await asyncio.gather(*(api.get(NAMESPACES, f"n{number}") for number in range(5)))

    with serving(answer, seen) as url:
        asyncio.run(ask(write_kubeconfig(tmp_path / "config", user, server=url)))
    assert runs.read_text() == "run\nrun\n"


# What a refusal does to a run: it ends the process from within the first task of the event loop, which is run as by
# Pulumi's language host (pulumi sdk/python/cmd/pulumi-language-python-exec).
REFUSED = """
import asyncio, sys
from rehearsal.connection import connect

async def run():
    await connect("dev", sys.argv[1])
    sys.exit(32)

loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(run())
finally:
    loop.close()
"""


def test_a_run_that_is_refused_once_it_has_connected_ends(api_server, kubeconfig):
    command = [sys.executable, "-c", REFUSED, kubeconfig(api_server)]
    assert subprocess.run(command, cwd=REPOSITORY, timeout=60, check=False).returncode == 32
