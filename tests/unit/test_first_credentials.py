"""The first credentials of a new mesh: Linkerd waits for no cert-manager, unless a Secret is there already."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from components.ca_issuer import CaCertificate
from meshtrust.cluster.api import Api, ConflictError, ForbiddenError
from meshtrust.linkerd.evidence import Mesh
from meshtrust.stacks.outputs import StackOutputs
from program.checks.first_deployment import FirstDeployment
from program.configuration.settings import Settings, load_settings
from program.wait.first_credentials import sign_first_credentials
from tests.certificates import make_certificate
from tests.recorder import record_main
from tests.unit.test_signing import SPEC

ROOT = make_certificate("root")
OWN_ROOT = {"anchorCertificates": {"2026": ROOT.pem}}


@pytest.fixture(autouse=True)
def update(monkeypatch):
    """A run that is no preview, whatever run another test of this process has left behind."""
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)


class Secrets(Api):
    """An API server that keeps the Secrets that are created, or refuses the one of a name."""

    def __init__(self, refused="", error=None):
        self.refused, self.error, self.created = refused, error, {}

    async def send(self, request):
        assert (request.method, request.path) == ("POST", "/api/v1/namespaces/linkerd/secrets")
        name = request.body["metadata"]["name"]
        if name == self.refused:
            raise self.error
        self.created[name] = request.body

    def open_port(self, namespace, pod, port, *, seconds):
        raise AssertionError((namespace, pod, port, seconds))


def certificate(name):
    key = pulumi.Output.secret(ROOT.key_pem)
    return CaCertificate(secret=name, spec=SPEC, chain=pulumi.Output.from_input(ROOT.pem), key=key)


def bundle_for_linkerd(api, *, is_issued=False):
    """The bundle that Linkerd gets, and whether it is a secret; None while it waits for cert-manager."""

    async def run():
        issued = asyncio.Event()
        plan: Any = SimpleNamespace(api=api)
        if is_issued:
            issued.set()

        async def when_issued():
            await issued.wait()
            return "the bundle"

        outputs = sign_first_credentials(
            plan,
            "linkerd",
            [certificate("issuer"), certificate("webhook")],
            pulumi.Output.from_input("the bundle"),
            pulumi.Output.from_input(when_issued()),
        )
        future = asyncio.ensure_future(outputs.future())
        is_left = bool(api.refused) and not is_issued
        while not future.done() and not (is_left and api.created):
            await asyncio.wait([future], timeout=0.05)
        if is_left:
            # All is written that will be; what waits for nothing else is there soon.
            await asyncio.wait([future], timeout=1)
        if not future.done():
            future.cancel()
            return None
        return await future, await outputs.is_secret()

    return asyncio.run(run())


def test_linkerd_gets_its_bundle_once_the_secrets_are_written_and_the_bundle_is_no_secret():
    api = Secrets()
    assert bundle_for_linkerd(api) == ("the bundle", False)
    assert set(api.created) == {"issuer", "webhook"}
    assert {body["type"] for body in api.created.values()} == {"kubernetes.io/tls"}


def test_a_secret_that_is_there_is_left_and_linkerd_waits_until_cert_manager_has_issued():
    taken = {"refused": "issuer", "error": ConflictError("Secret linkerd/issuer exists")}
    assert bundle_for_linkerd(Secrets(**taken)) is None
    assert bundle_for_linkerd(Secrets(**taken), is_issued=True) == ("the bundle", False)


def test_a_secret_that_may_not_be_written_ends_the_run_with_the_reason():
    refused = Secrets("issuer", ForbiddenError("The Secret linkerd/issuer cannot be changed: forbidden."))
    with pytest.raises(SystemExit):
        bundle_for_linkerd(refused)


def may_sign(config, *, mesh=None, last=None, **changes):
    """Whether a run with these keys signs the first credentials."""
    found = []

    def run():
        outputs = StackOutputs(last or {})
        settings = load_settings(outputs)
        assert isinstance(settings, Settings)
        found.append(FirstDeployment(mesh=mesh).may_sign_first(settings, outputs))

    record_main(run, {**config, **{f"meshtrust:{key}": value for key, value in changes.items()}})
    return found[0]


def test_a_run_signs_first_where_it_installs_cert_manager_and_there_is_no_mesh(config):
    assert may_sign(config)
    assert may_sign(config, issuer={"mode": "anchor"})
    assert not may_sign(config, mesh=Mesh(namespace="linkerd")), "a mesh that is there keeps its order"
    assert not may_sign(config, last={"anchors": ["2026"], "signer": "2026"})


@pytest.mark.parametrize(
    "changes",
    [
        {"certManager": {"install": False}},
        {"trustBundle": {"mode": "trust-manager"}},
        {"issuer": {"mode": "pulumi"}},
        {"issuer": {"mode": "external-issuer", "refs": {"2026": {"name": "vault"}}}, **OWN_ROOT},
        {"issuer": {"mode": "external-secret"}, **OWN_ROOT},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_run_signs_nothing_first_where_it_has_no_key_or_linkerd_waits_for_something_else_too(config, changes):
    assert not may_sign(config, **changes)
