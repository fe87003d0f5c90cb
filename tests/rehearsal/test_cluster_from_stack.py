"""A cluster whose kubeconfig another stack exports: the real CLI, from the first run to a cluster that has moved."""

import base64
import copy
import json
import re
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
import yaml

from rehearsal.pulumi.home import find_installed
from rehearsal.workspace import workspace
from tests.connect_proxy import proxying
from tests.esc_service import ENVIRONMENT, esc_service
from tests.http_server import serving
from tests.key_material import KeySearch, process_arguments
from tests.rehearsal.infra_stack import Infra
from tests.rehearsal.service_account import request_token, write_service_account
from tests.rehearsal.stack import DESTROY, NO_CHANGES, UP, run, settings

pytestmark = pytest.mark.soak

SOURCE = "organization/infra/prod"
ACCOUNTS = "/api/v1/namespaces/kube-system/serviceaccounts"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
# Runs a command as in a pod: with the files of a directory where the kubelet mounts them.
POD = """mount -t tmpfs tmpfs /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount &&
cp "$1"/* /run/secrets/kubernetes.io/serviceaccount/ && shift && exec "$@"
"""


class FromStack:
    def __init__(self, project, infra, kubeconfig, arguments, written):
        self.project, self.infra, self.kubeconfig = project, infra, kubeconfig
        self.arguments, self.written = arguments, written

    @property
    def key(self):
        """The client's key as PEM."""
        return base64.b64decode(self.kubeconfig["users"][0]["user"]["client-key-data"]).decode()

    def preview(self):
        """Return the operations of a preview, by the resource's name; what stays is left out."""
        shown = self.project.capture("preview", "--json", "--non-interactive")
        assert shown.returncode == 0, shown.stdout + shown.stderr
        KeySearch([self.key]).check({"what preview wrote": shown.stdout + shown.stderr})
        steps = json.loads(shown.stdout)["steps"]
        return {step["urn"].rpartition("::")[2]: step["op"] for step in steps if step["op"] != "same"}

    def command(self, *arguments, **environment):
        """Run a command of meshtrust on the stack alone, with no kubeconfig on the machine."""
        named = (*arguments, "--stack", self.project.stack)
        return self.project.capture_meshtrust(*named, KUBECONFIG="/nowhere", **environment)

    @contextmanager
    def exporting(self, kubeconfig, *, secret=True):
        """Have the other stack export another kubeconfig meanwhile."""
        self.infra.export(kubeconfig, secret=secret)
        yield
        self.infra.export(self.kubeconfig)

    @contextmanager
    def configured(self, **changes):
        path = self.project.file(self.project.stack)
        before = path.read_text()
        config = yaml.safe_load(before)["config"]
        config |= {f"meshtrust:{key}": value for key, value in changes.items()}
        path.write_text(yaml.safe_dump({"config": config}))
        yield
        path.write_text(before)


@pytest.fixture(scope="module")
def stack(cluster, binaries, linkerd_charts, observer):
    before = observer.inventory()
    base = settings(cluster, binaries, linkerd_charts)
    with workspace("no-cert-manager", settings=base, environment={"KUBECONFIG": "/nowhere"}) as made:
        # Files that a run leaves behind are found here.
        (temporary := made.directory / "temporary").mkdir()
        project = replace(made, environment={**made.environment, "TMPDIR": str(temporary)})
        kubeconfig = json.loads(cluster.kubeconfig.read_text())
        infra = Infra(project)
        infra.export(kubeconfig)
        config = yaml.safe_load(project.file(project.stack).read_text())["config"]
        for key in ("context", "kubeconfig"):
            del config[f"meshtrust:{key}"]
        project.write_stack(project.stack, {**config, "meshtrust:cluster": {"fromStack": SOURCE}})
        with process_arguments() as arguments:
            written = run(project, *UP)
        yield FromStack(project, infra, kubeconfig, arguments, written)
        run(project, *DESTROY)
    observer.wait_for_inventory(before, 60)


def test_the_kubeconfig_is_in_no_state_no_log_no_argument_and_no_file(stack):
    project, user = stack.project, stack.kubeconfig["users"][0]["user"]
    files = [path for path in project.directory.rglob("*") if path.is_file() and not path.is_symlink()]
    left = [path for path in files if path.is_relative_to(project.directory / "temporary")]
    if find_installed("kubernetes"):
        # Pulumi's own provider leaves a copy, which only its user can read (docs/security.md).
        assert {stat.filemode(path.stat().st_mode) for path in left} <= {"-rw-------"}
        files = [path for path in files if path not in left]
    else:
        assert left == []
    places = {str(path): path.read_bytes().decode(errors="replace") for path in files}
    exported = project.capture("stack", "export").stdout
    assert '"pulumi:providers:kubernetes"' in exported
    assert any("/state/" in path for path in places), "the state is looked into"
    places |= {
        "the state": exported,
        "the outputs": json.dumps(project.outputs()),
        "what `up` wrote": stack.written,
        **stack.arguments,
    }
    KeySearch([stack.key]).check(places)
    # Not even the client's certificate, or the key as the kubeconfig has it.
    for held in (user["client-key-data"], user["client-certificate-data"]):
        assert [where for where, text in places.items() if held in text] == []
    revealed = project.capture("stack", "export", "--show-secrets").stdout
    assert user["client-key-data"] in revealed, "it is found where it is shown"


def test_the_next_run_has_nothing_to_do(stack):
    run(stack.project, *UP, *NO_CHANGES)


def changed(kubeconfig, **cluster):
    moved = copy.deepcopy(kubeconfig)
    moved["clusters"][0]["cluster"] |= cluster
    return moved


def renamed(kubeconfig):
    moved = copy.deepcopy(kubeconfig)
    for kind in ("clusters", "contexts", "users"):
        moved[kind][0]["name"] = "renamed"
    moved["contexts"][0]["context"] = {"cluster": "renamed", "user": "renamed"}
    return {**moved, "current-context": "renamed"}


@pytest.fixture
def deployer(cluster):
    """A service account with the rights of an administrator."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer"}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": "kube-system"}],
    }
    with cluster.client() as api:
        api.post(ACCOUNTS, json=account).raise_for_status()
        api.post(BINDINGS, json=binding).raise_for_status()
        yield "deployer"
        api.delete(f"{BINDINGS}/deployer")
        api.delete(f"{ACCOUNTS}/deployer")


@pytest.fixture
def another_way(request, stack, cluster, deployer):
    """Another kubeconfig of the same cluster."""
    kubeconfig = stack.kubeconfig
    if request.param == "server":
        yield changed(
            kubeconfig, server=kubeconfig["clusters"][0]["cluster"]["server"].replace("127.0.0.1", "localhost")
        )
    elif request.param == "context":
        yield renamed(kubeconfig)
    elif request.param == "token":
        [user] = kubeconfig["users"]
        yield {**kubeconfig, "users": [{**user, "user": {"token": request_token(cluster, "kube-system", deployer)}}]}
    else:
        with proxying(request.param) as (url, tunnels):
            yield changed(kubeconfig, **{"proxy-url": url})
            assert tunnels, "the run went by the proxy"


@pytest.mark.parametrize("another_way", ["server", "context", "token", "http", "socks5"], indirect=True)
def test_another_way_to_the_same_cluster_updates_the_provider_and_replaces_nothing(stack, another_way):
    assert another_way != stack.kubeconfig
    with stack.exporting(another_way):
        assert stack.preview() == {"cluster": "update"}


def test_a_context_in_place_of_the_stack_replaces_nothing(stack, cluster):
    with stack.configured(cluster={}, context=cluster.context, kubeconfig=str(cluster.kubeconfig)):
        assert stack.preview().get("cluster") == "update"
        assert not any("replace" in op or "delete" in op for op in stack.preview().values())


@pytest.mark.needs("mount-namespaces")
def test_in_cluster_replaces_nothing_and_leaves_no_token_in_the_state(stack, cluster, deployer, tmp_path):
    write_service_account(cluster, tmp_path, "kube-system", deployer)
    token = (tmp_path / "token").read_text()
    server = httpx.URL(stack.kubeconfig["clusters"][0]["cluster"]["server"])
    pod = {"KUBERNETES_SERVICE_HOST": server.host, "KUBERNETES_SERVICE_PORT": str(server.port)}

    def run_in_pod(*command, environment):
        inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", POD, "sh", str(tmp_path), *command]
        ran = subprocess.run(
            inside,
            env={**environment, **pod},
            cwd=stack.project.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert token not in ran.stdout + ran.stderr
        return ran.stdout

    with stack.configured(cluster={}, context="in-cluster"):
        outside = stack.project.capture("preview", "--non-interactive")
        assert 'The context is "in-cluster", the service account of a pod' in outside.stdout + outside.stderr
        preview = stack.project.command("preview", "--json", "--non-interactive")
        shown = run_in_pod(*preview, environment=stack.project.full_environment)
        changes = {step["urn"].rpartition("::")[2]: step["op"] for step in json.loads(shown)["steps"]}
        assert {name: op for name, op in changes.items() if op != "same"} == {"cluster": "update"}
        run_in_pod(*stack.project.command(*UP), environment=stack.project.full_environment)
        run_in_pod(*stack.project.command(*UP, *NO_CHANGES), environment=stack.project.full_environment)
        status = [sys.executable, "-m", "meshtrust", "status", "--stack", stack.project.stack]
        run_in_pod(*status, environment=stack.project.command_environment)
        assert token not in stack.project.capture("stack", "export", "--show-secrets").stdout
    run(stack.project, *UP)


def test_text_in_base64_leads_there_too(stack):
    text = base64.b64encode(yaml.safe_dump(stack.kubeconfig).encode()).decode()
    with stack.exporting(text):
        assert stack.preview() == {}, "it is the same kubeconfig"


def test_another_cluster_is_refused(stack):
    def answer(path):
        namespace = {"metadata": {"name": "kube-system", "uid": "another"}}
        return 200, json.dumps({"gitVersion": "v1.36.0"} if path.startswith("/version") else namespace).encode()

    with serving(answer) as url, stack.exporting(changed(stack.kubeconfig, server=url)):
        refused = stack.project.capture(*UP)
        said = " ".join((refused.stdout + refused.stderr).split())
        assert refused.returncode != 0
        assert f'output kubeconfig of stack "{SOURCE}" leads to cluster another' in said
        assert f'output kubeconfig of stack "{SOURCE}" is not verified' in said, "it answers by http://"
        assert "Traceback" not in said
        status = stack.command("status")
        assert status.returncode == 3
        assert "leads to cluster another. Have meshtrust:cluster.fromStack lead" in " ".join(status.stderr.split())


@pytest.mark.parametrize("arguments", [["status"], ["verify"], ["plan"], ["heal"]])
def test_a_command_reaches_the_cluster_by_the_stack_alone(stack, arguments):
    with process_arguments() as seen:
        ran = stack.command(*arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    KeySearch([stack.key]).check({"what it wrote": ran.stdout + ran.stderr, **seen})


WRONG = {
    "no such stack": (
        {"fromStack": "organization/infra/nowhere"},
        'cluster.fromStack is "organization/infra/nowhere", whose outputs cannot be read',
        'cluster.fromStack is "organization/infra/nowhere", which the backend does not have. Correct its name',
    ),
    "no such output": (
        {"fromStack": SOURCE, "output": "admin"},
        "does not exist (it has kubeconfig, vpcId)",
        "does not have output property 'admin'. See its outputs, and correct the name",
    ),
    "no kubeconfig": (
        {"fromStack": SOURCE, "output": "vpcId"},
        'cluster.output is "vpcId", and that output of stack',
        'cluster.output is "vpcId", and that output of stack',
    ),
}


@pytest.mark.parametrize(("section", "by_run", "by_command"), WRONG.values(), ids=WRONG.keys())
def test_an_output_that_cannot_be_used_is_one_message_of_the_run_and_of_a_command(stack, section, by_run, by_command):
    with stack.configured(cluster=section):
        refused = stack.project.capture("preview", "--non-interactive")
        said = " ".join((refused.stdout + refused.stderr).split())
        assert refused.returncode != 0
        assert by_run in said
        assert "Nothing was changed." in said
        status = stack.command("status")
        assert status.returncode == 3
        assert by_command in status.stderr
        assert "Traceback" not in said + status.stderr


def test_an_output_that_cannot_be_decrypted_is_told_so(stack):
    """Its stack has another passphrase, whose values the engine leaves out."""
    state = stack.project.directory / "state" / ".pulumi" / "stacks" / "infra" / "prod.json"
    before = state.read_text()
    document = json.loads(before)
    with workspace("anchor", settings={"clusters": []}) as other:
        found = json.loads(other.capture("stack", "export").stdout)
        document["checkpoint"]["latest"]["secrets_providers"] = found["deployment"]["secrets_providers"]
    state.write_text(json.dumps(document))
    try:
        refused = stack.project.capture("preview", "--non-interactive")
        said = " ".join((refused.stdout + refused.stderr).split())
        assert refused.returncode != 0
        assert "this run cannot decrypt it" in said, said
        status = stack.command("status")
        assert status.returncode == 3, status.stdout + status.stderr
        assert "Traceback" not in said + status.stderr
    finally:
        state.write_text(before)


def test_a_key_in_plaintext_there_is_a_warning(stack):
    with stack.exporting(stack.kubeconfig, secret=False):
        shown = stack.project.capture("preview", "--non-interactive")
        assert shown.returncode == 0, shown.stdout
        said = " ".join((shown.stdout + shown.stderr).split())
        assert f'output of stack "{SOURCE}" holds a key, a token or a password and is not a secret there' in said


# A line of a program that says where the kubeconfig is, then runs what it is given.
SAY = 'echo "KUBECONFIG is $KUBECONFIG" >&2; exec "$@"'


def test_a_kubeconfig_of_pulumi_esc_is_another_file_in_each_run_and_changes_nothing(stack, cluster):
    """As `environment:` of a stack in Pulumi Cloud: the CLI's own code writes the file and names it in KUBECONFIG."""
    project, backend = stack.project, f"file://{stack.project.directory / 'state'}"
    place = project.directory / "Pulumi.yaml"
    definition = place.read_text()
    place.unlink()
    place.write_text(f"{definition}\nbackend:\n  url: {backend}\n")
    files = {"KUBECONFIG": yaml.safe_dump(stack.kubeconfig)}
    paths: list[str] = []

    def run_with_esc(*command):
        opened = [str(project.cli.path), "env", "run", ENVIRONMENT, "--", "sh", "-c", SAY, "sh"]
        ran = subprocess.run(
            [*opened, *command],
            cwd=project.directory,
            env={**project.command_environment, **service, "PULUMI_BACKEND_URL": "", "KUBECONFIG": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        KeySearch([stack.key]).check({"what it wrote": ran.stdout + ran.stderr})
        [path] = re.findall("KUBECONFIG is (.+)", ran.stderr)
        assert path not in paths
        paths.append(path)
        return ran.stdout

    def own_changes(preview):
        changes = {step["urn"].rpartition("::")[2]: step["op"] for step in json.loads(preview)["steps"]}
        return {name: op for name, op in changes.items() if op != "same"}

    preview = project.command("preview", "--json", "--non-interactive")
    with (
        esc_service(files=files, variables={"REGION": "eu-west-1"}) as service,
        stack.configured(cluster={}, context=cluster.context),
    ):
        assert own_changes(run_with_esc(*preview)) == {"cluster": "update"}
        run_with_esc(*project.command(*UP))
        assert own_changes(run_with_esc(*preview)) == {}
        run_with_esc(*project.command(*UP, *NO_CHANGES))
        run_with_esc(sys.executable, "-m", "meshtrust", "status", "--stack", project.stack)
        state = project.capture("stack", "export", "--show-secrets").stdout
        assert not [path for path in paths if path in state]
        assert stack.kubeconfig["users"][0]["user"]["client-key-data"] not in state

        document = yaml.safe_load(project.file(project.stack).read_text())
        project.file(project.stack).write_text(yaml.safe_dump({**document, "environment": [ENVIRONMENT]}))
        left = set((project.directory / "temporary").iterdir())
        for arguments in (["status"], ["verify"], ["plan"]):
            with process_arguments() as seen:
                ran = stack.command(*arguments, **service, PULUMI_BACKEND_URL="")
            assert ran.returncode == 0, ran.stdout + ran.stderr
            KeySearch([stack.key]).check({"what it wrote": ran.stdout + ran.stderr, **seen})
        assert set((project.directory / "temporary").iterdir()) == left
    # The way back, which is an update too.
    run(project, *UP)


def test_a_rotation_by_the_stack_alone_reaches_its_goal_and_writes_the_kubeconfig_nowhere(stack, tmp_path):
    before = set((stack.project.directory / "temporary").rglob("*"))
    with process_arguments() as seen:
        ran = stack.command("rotate", "--to", "2027", "--verbose", "--log-directory", str(tmp_path / "logs"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    outputs = stack.project.outputs()
    assert (outputs["anchors"], outputs["signer"]) == (["2027"], "2027")
    logs = {str(path): path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file()}
    assert logs, "what the engine wrote is looked into"
    KeySearch([stack.key]).check({"what it wrote": ran.stdout + ran.stderr, **logs, **seen})
    assert set((stack.project.directory / "temporary").rglob("*")) == before
    assert stack.command("verify").returncode == 0
