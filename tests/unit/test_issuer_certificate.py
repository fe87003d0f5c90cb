"""The identity issuer is read in both schemes of Linkerd for its Secret; what `linkerd install` makes is sound."""

import asyncio
import base64
import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from meshtrust.commands.chain import chain_trees
from meshtrust.commands.cli import app
from meshtrust.commands.display.picture import draw_chain
from meshtrust.linkerd.issuer.certificate import IssuerCertificate, read_issuer_certificate
from meshtrust.names import IDENTITY
from meshtrust.stacks.inspection import MinimumLifetimes, judge
from rehearsal.connection import connect
from tests.api_server import holding
from tests.certificates import make_certificate
from tests.unit.test_inspection import ISSUER, OLD, inspection, mesh, pod, prints

IN_LINKERD = "/api/v1/namespaces/linkerd"
SECRET = f"{IN_LINKERD}/secrets/linkerd-identity-issuer"
SOURCE = "Secret linkerd/linkerd-identity-issuer"
# linkerd2 cli/cmd/options.go, initializeIssuerCredentials: its own root.
ITSELF = make_certificate("identity.linkerd.cluster.local", days=365)
PODS = {"identity-1": IDENTITY, "web-1": ""}


def secret(**texts):
    keys = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"metadata": {"namespace": "linkerd", "name": "linkerd-identity-issuer"}, "data": keys}


def read(tmp_path, **texts):
    async def reading(kubeconfig):
        return await read_issuer_certificate(await connect("dev", kubeconfig), "linkerd")

    with holding({SECRET: secret(**texts)}, tmp_path) as kubeconfig:
        return asyncio.run(reading(kubeconfig))


def test_an_issuer_of_linkerds_own_scheme_is_read(tmp_path):
    found = read(tmp_path, crt_pem=ISSUER.pem, key_pem=ISSUER.key_pem)
    assert found == IssuerCertificate(source=SOURCE, chain=(ISSUER.certificate,), roots=None)


def test_an_issuer_of_cert_manager_goes_before_what_else_is_there(tmp_path):
    found = read(tmp_path, tls_crt=ISSUER.pem, ca_crt=OLD.pem, crt_pem=ITSELF.pem)
    assert found == IssuerCertificate(source=SOURCE, chain=(ISSUER.certificate,), roots=(OLD.certificate,))


@pytest.fixture
def installed():
    """A mesh as `linkerd install` makes it, whose root signs by itself."""
    made = mesh(
        roots=(ITSELF.certificate,),
        issuer=(ITSELF.certificate,),
        issuer_root=None,
        pods=tuple(pod(name, prints(ITSELF), component) for name, component in PODS.items()),
    )
    return inspection(made, trust=None, deployed={}, names={})


def test_a_mesh_of_linkerds_own_scheme_needs_no_attention(installed):
    assert judge(installed, MinimumLifetimes()) == []


def test_an_issuer_that_is_its_own_root_is_drawn_below_it(installed):
    drawn = io.StringIO()
    for tree in chain_trees(installed):
        Console(file=drawn, width=100).print(tree)
    lines = drawn.getvalue().splitlines()
    assert lines[0].startswith("trust anchor ")
    assert [line.strip("└─ ") for line in lines[3:]] == [
        "identity issuer  the trust anchor itself",
        "2 proxies  2 trust it",
    ]


def test_the_picture_of_an_issuer_that_is_its_own_root_finds_nothing_wrong(installed):
    picture = draw_chain(installed)
    assert "the trust anchor itself" in picture
    assert "chains to no root" not in picture
    assert "2 trust the anchor that signs" in picture


def test_the_command_reads_such_a_mesh_from_its_cluster(tmp_path):
    objects = {
        SECRET: secret(crt_pem=ITSELF.pem, key_pem=ITSELF.key_pem),
        f"{IN_LINKERD}/configmaps/linkerd-identity-trust-roots": {"data": {"ca-bundle.crt": ITSELF.pem}},
        "/api/v1/pods": {"metadata": {}, "items": []},
    }
    with holding(objects, tmp_path) as kubeconfig:
        result = CliRunner().invoke(app, ["chain", "--context", "dev", "--kubeconfig", kubeconfig, "--json"])
    assert result.exit_code == 0, result.output
    assert [link["fingerprint"] for link in json.loads(result.stdout)] == [*prints(ITSELF)]
