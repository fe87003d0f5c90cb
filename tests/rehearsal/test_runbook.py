"""The runbook's rehearsed pages: their commands run as they stand there, and show what they are said to."""

import re
import shlex
from datetime import UTC, datetime

import pytest

from rehearsal.mesh.traffic import wait_for_proxies
from rehearsal.observe import Observer
from rehearsal.workspace import REPOSITORY
from tests.certificates import Pair, make_certificate
from tests.rehearsal.control_plane import wait_until
from tests.rehearsal.issuer_watch import content
from tests.rehearsal.rotation_bench import APPLICATIONS, bench

pytestmark = pytest.mark.soak

PAGE = (REPOSITORY / "docs" / "runbook.md").read_text()
WORKLOADS = 2


def steps(heading):
    """The console blocks of a page: for each the commands, each with what it is said to show."""
    [section] = re.findall(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE)
    assert "*Rehearsed.*" in section
    blocks = re.findall(r"(?s)```console\n(.*?)```", section)
    return [re.findall(r"(?m)^\$ (.*)\n((?:[^$\n].*\n)*)", block) for block in blocks]


class Follower:
    """Runs the commands of a page on a rehearsal's stack."""

    def __init__(self, mesh):
        self._mesh = mesh

    def follow(self, block):
        for command, shown in block:
            program, *arguments = shlex.split(command)
            written = {"pulumi": self._pulumi, "meshtrust": self._meshtrust, "kubectl": self._kubectl}[program](
                arguments
            )
            flat = " ".join(written.split())
            for expected in filter(None, re.split(r"…|\n", shown)):
                assert " ".join(expected.split()) in flat, f"`{command}` shows:\n{written}"

    def _pulumi(self, arguments):
        result = self._mesh.engine(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def _meshtrust(self, arguments):
        where = arguments.index("--stack")
        result = self._mesh.cli(*arguments[:where], *arguments[where + 2 :])
        assert "Traceback" not in result.stderr
        return result.stdout + result.stderr

    def _kubectl(self, arguments):
        """Do what kubectl would do by the API, as far as a page asks for it."""
        merge = {"headers": {"Content-Type": "application/merge-patch+json"}}
        namespace = arguments[arguments.index("-n") + 1]
        deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        with self._mesh.cluster.client() as api:
            if arguments[:4] == ["rollout", "restart", "deployment", "--all"]:
                stamp = {"kubectl.kubernetes.io/restartedAt": datetime.now(UTC).isoformat()}
                patch = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
                for item in api.get(deployments).json()["items"]:
                    path = f"{deployments}/{item['metadata']['name']}"
                    api.patch(path, json=patch, **merge).raise_for_status()
                    wait_until(lambda path=path: _is_rolled_out(api.get(path).json()), 90)
            elif arguments[:2] == ["scale", "deployment"]:
                replicas = int(arguments[arguments.index("--replicas") + 1])
                path = f"{deployments}/{arguments[2]}"
                api.patch(path, json={"spec": {"replicas": replicas}}, **merge).raise_for_status()
                wait_until(lambda: _is_rolled_out(api.get(path).json()), 90)
            else:
                pytest.fail(f"the test does not know `kubectl {shlex.join(arguments)}`")
        return ""


def _is_rolled_out(deployment):
    status, wanted = deployment.get("status") or {}, deployment["spec"]["replicas"]
    return (
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("replicas", 0) == status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == wanted
    )


@pytest.fixture(scope="module")
def mesh(binaries, linkerd_charts, embedded):
    settings = {
        "anchor": {"protect": False},
        "signer": "2026",
        "linkerd": {"charts": str(linkerd_charts)},
        "certManager": {"charts": str(binaries.charts)},
    }
    with bench("runbook", settings, embedded=embedded, workloads=WORKLOADS, replicas=1) as made:
        yield made


@pytest.fixture
def follower(mesh):
    return Follower(mesh)


def end_the_issuer(mesh):
    """Take cert-manager away, and let the issuer in the Secret be one that has ended."""
    Follower(mesh).follow([("kubectl scale deployment cert-manager -n cert-manager --replicas 0", "")])
    secrets = "/api/v1/namespaces/linkerd/secrets"
    observer = Observer(mesh.cluster)
    with mesh.cluster.client() as api:
        ca = content(api.get(f"{secrets}/linkerd-issuer-ca-2026").json())
        issuer = make_certificate(
            "identity.linkerd.cluster.local", issuer=Pair.of(ca["tls.crt"], ca["tls.key"]), path_length=0, days=0
        )
        wait_until(lambda: issuer.certificate.not_valid_after_utc < datetime.now(UTC))
        patch = {"stringData": {"tls.crt": f"{issuer.pem}{ca['tls.crt']}", "tls.key": issuer.key_pem}}
        api.patch(
            f"{secrets}/linkerd-identity-issuer", json=patch, headers={"Content-Type": "application/merge-patch+json"}
        ).raise_for_status()
    assert observer.secret_certificate("linkerd", "linkerd-identity-issuer") == issuer.certificate


def test_an_expired_issuer(mesh, follower):
    seen, cured, well = steps("An expired issuer")
    end_the_issuer(mesh)
    follower.follow(seen)
    follower.follow(cured)
    wait_until(lambda: "identity issuer" not in mesh.cli("verify").stdout, 90)
    follower.follow(well)


def test_a_compromised_anchor(mesh, follower):
    out, well = steps("A compromised anchor")
    follower.follow(out)
    wait_for_proxies(mesh.cluster, WORKLOADS, 60)
    follower.follow(well)
    outputs = mesh.outputs()
    assert (outputs["anchors"], outputs["signer"]) == (["2027"], "2027")
    trail = [(step["step"], step["gate"], step.get("reason")) for step in outputs["transitions"]]
    reason = "the key of 2026 is known"
    assert trail[-3:] == [
        ("introduce", "none", None),
        ("switch", "overridden", reason),
        ("retire", "overridden", reason),
    ]
    with mesh.cluster.client() as api:
        pods = api.get(f"/api/v1/namespaces/{APPLICATIONS}/pods").json()["items"]
    assert len(pods) == WORKLOADS


def test_a_page_that_is_rehearsed_is_tested_here():
    rehearsed = re.findall(r"(?m)^## (.*)\n\n\*Rehearsed\.\*", PAGE)
    assert rehearsed == ["An expired issuer", "A compromised anchor"]


def test_a_command_of_a_page_is_one_that_there_is():
    """Of pages that are not rehearsed, too."""
    named = set(re.findall(r"meshtrust ([a-z]+) --", PAGE))
    reference = (REPOSITORY / "docs" / "commands.md").read_text()
    assert named
    assert named <= set(re.findall(r"(?m)^## meshtrust ([a-z]+)$", reference))
