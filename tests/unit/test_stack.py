"""A stack's file is read with the project's defaults and edited in place; the CLI's errors become one sentence each."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from meshtrust.cluster.api import ClusterError
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.stack import MissingStackError, Stack, StackError, cli
from meshtrust.stacks.target import Selection, open_target
from tests.kubeconfig_outputs import kubeconfig
from tests.kubeconfigs import write_kubeconfig
from tests.recorder import REPOSITORY

TEXT = """# Ours.
config:
  meshtrust:context: kind-dev
  # One generation now.
  meshtrust:anchors: ["2026"] # oldest first
  meshtrust:anchor:
    protect: false
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    (tmp_path / "stacks" / "Pulumi.dev.yaml").write_text(TEXT)
    return tmp_path


@pytest.fixture
def stack(project):
    return Stack("dev", project)


@pytest.fixture(autouse=True)
def no_cli_is_known():
    cli.cache_clear()


@pytest.fixture
def pulumi(tmp_path, monkeypatch):
    """Put a program under the name `pulumi` on PATH that fails or answers as given."""

    def install(script):
        path = tmp_path / "bin" / "pulumi"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo v3.272.0 && exit\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))

    return install


def test_a_setting_is_the_stacks_own_or_else_the_projects_default(stack):
    assert stack.setting("context") == "kind-dev"
    assert stack.setting("anchor.protect") is False
    assert stack.setting("linkerd.namespace") == "linkerd"


def test_what_belongs_to_a_retired_generation_goes_with_it(stack):
    text = f"""{TEXT}  meshtrust:issuer:
    mode: external-issuer
    refs: {{"2026": {{name: vault-2026}}, "2027": {{name: vault-2027}}}}
"""
    stack.file.write_text(text)
    stack.configure(Trust(anchors=("2027",), signer="2027"))
    issuer = yaml.safe_load(stack.file.read_text())["config"]["meshtrust:issuer"]
    assert issuer == {"mode": "external-issuer", "refs": {"2027": {"name": "vault-2027"}}}
    stack.configure(Trust(anchors=("2028",), signer="2028"))
    assert yaml.safe_load(stack.file.read_text())["config"]["meshtrust:issuer"] == {"mode": "external-issuer"}


def test_the_only_anchor_signs_unless_another_is_named(stack):
    assert stack.configured == Trust(anchors=("2026",), signer="2026")


def test_an_edit_leaves_comments_and_all_else_where_they_are(stack):
    stack.configure(Trust(anchors=("2026", "2027"), signer="2026"))
    expected = TEXT.replace('["2026"]', '["2026", "2027"]') + '  meshtrust:signer: "2026"\n'
    assert stack.file.read_text() == expected
    assert stack.configured == Trust(anchors=("2026", "2027"), signer="2026")


def test_an_edit_takes_the_roots_along_that_are_no_anchors_any_more(stack):
    stack.file.write_text(TEXT + '  meshtrust:anchorCertificates:\n    "2026": one\n    "2027": two\n')
    stack.configure_anchors(["2027"])
    config = yaml.safe_load(stack.file.read_text())["config"]
    assert (config["meshtrust:anchors"], config["meshtrust:anchorCertificates"]) == (["2027"], {"2027": "two"})
    assert "meshtrust:signer" not in config
    stack.configure_anchors(["2028"])
    assert "meshtrust:anchorCertificates" not in yaml.safe_load(stack.file.read_text())["config"]


def test_an_edit_keeps_the_files_mode(stack):
    stack.file.chmod(0o640)
    stack.configure(Trust(anchors=("2027",), signer="2027"))
    assert stat.S_IMODE(stack.file.stat().st_mode) == 0o640
    assert [path.name for path in stack.file.parent.iterdir()] == ["Pulumi.dev.yaml"], "no draft is left"


def test_an_edit_that_cannot_be_made_leaves_the_file_and_says_what_to_set(stack):
    stack.file.write_text("config: [")
    with pytest.raises(StackError, match=r"(?s)cannot be edited: .*Set meshtrust:anchors .* by hand: anchors 2027"):
        stack.configure(Trust(anchors=("2027",), signer="2027"))
    assert stack.file.read_text() == "config: ["


def test_a_file_whose_config_is_a_list_is_one_sentence(stack):
    stack.file.write_text("config: [meshtrust:context, kind-dev]\n")
    with pytest.raises(StackError, match=r"Pulumi.dev.yaml has a config that is no map of keys\. Correct it\.$"):
        stack.setting("context")


PEM = "-----BEGIN EC PRIVATE KEY-----\nhush\n-----END EC PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        f'config:\n  meshtrust:anchorKeys:\n    "2026": |\n{PEM}',
        "config:\n  meshtrust:linkerd: {license: hush: x}\n",
        "config:\n  hush: 2026-99-99\n",
        "config: {? [hush]: x}\n",
        f"config: {'[' * 3000}{']' * 3000}\n",
        "config:\n  meshtrust:signer: !!python/object:os.system hush\n",
    ],
)
def test_a_file_that_is_no_yaml_is_one_sentence_that_quotes_nothing_of_it(stack, text):
    stack.file.write_text(text)
    for use in (lambda: stack.setting("signer"), lambda: stack.set_goal(["2027"])):
        with pytest.raises(StackError, match=r"Pulumi\.dev\.yaml cannot be (read|edited): ") as caught:
            use()
        assert "hush" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_stack_that_does_not_exist_is_named_with_those_that_do(project):
    with pytest.raises(StackError, match=r'There is no stack "prod" in .*stacks \(there are: dev\)'):
        Stack("prod", project).check()


def test_a_directory_without_a_project_says_so(tmp_path):
    with pytest.raises(StackError, match=r"There is no .*Pulumi.yaml\. Run this in the project's directory"):
        Stack("dev", tmp_path).check()


def test_outputs_are_what_the_cli_prints(stack, pulumi):
    pulumi("""[ "$*" = "--non-interactive stack output --json --stack dev" ] && echo '{"signer": "2026"}'""")
    assert stack.outputs() == {"signer": "2026"}


def test_what_the_cli_writes_is_passed_on_and_what_it_refuses_told_in_its_words(stack, pulumi):
    pulumi("echo Updating; echo '    error: It is not safe yet' ; exit 1")
    written: list[str] = []
    with pytest.raises(StackError, match=r'^`pulumi up` of stack "dev" failed: It is not safe yet$'):
        stack.up(written.append)
    assert written == ["Updating", "    error: It is not safe yet"]


def test_a_log_that_cannot_be_written_does_not_keep_the_cli_from_ending(stack, pulumi, tmp_path):
    # More than a pipe holds, so that the CLI ends only if someone reads.
    pulumi(f"for _ in 1 2; do printf '%099999d\\n' 0; done; : > {tmp_path}/ended")
    told: list[str] = []

    def write(line):
        told.append(line)
        (tmp_path / "missing" / "dev.log").write_text(line)

    with pytest.raises(StackError, match=r'The CLI has done its work on stack "dev", .*No such file .*dev\.log'):
        stack.up(write)
    assert (tmp_path / "ended").exists()
    assert len(told) == 1


def test_why_the_cli_failed_goes_before_a_log_that_cannot_be_written(stack, pulumi):
    pulumi("echo 'error: It is not safe yet'; exit 1")

    def write(_):
        raise OSError

    with pytest.raises(StackError, match="failed: It is not safe yet"):
        stack.up(write)


def test_a_stack_that_the_backend_does_not_know_is_to_be_made(stack, pulumi):
    pulumi("echo \"error: no stack named 'dev' found\" >&2; exit 6")
    with pytest.raises(MissingStackError, match=r'the backend has no stack "dev"\. Run: pulumi stack init dev'):
        stack.outputs()


def test_a_stack_that_another_run_is_at_work_on_is_told_so(stack, pulumi):
    pulumi("echo 'error: the stack is currently locked by 1 lock(s).' >&2; exit 1")
    with pytest.raises(StackError, match=r"another run is at work on it\. .* pulumi cancel --stack dev"):
        stack.up(lambda _: None)


def test_a_stack_is_made_without_selecting_it(stack, pulumi, tmp_path):
    pulumi(f'echo "$*" > {tmp_path}/asked')
    stack.init("awskms://alias/meshtrust")
    asked = (tmp_path / "asked").read_text()
    assert asked == "--non-interactive stack init --no-select --secrets-provider awskms://alias/meshtrust --stack dev\n"


def test_an_encrypted_path_of_the_kubeconfig_is_decrypted_by_the_cli(stack, pulumi, tmp_path):
    stack.file.write_text(TEXT + "  meshtrust:kubeconfig:\n    secure: v1:ciphertext\n")
    selection = Selection(stack="dev", directory=tmp_path)
    path = write_kubeconfig(tmp_path / "kubeconfig", {}, name="another")
    pulumi(f"""case "$*" in *"config get kubeconfig"*) echo {path};; *) echo '{{"kubeconfig": "[secret]"}}';; esac""")
    with pytest.raises(ClusterError, match=f'"kind-dev", and the kubeconfig .{path}. has no context of that name'):
        asyncio.run(open_target(selection))
    pulumi("""case "$*" in *config*) echo "error: incorrect passphrase" >&2; exit 1;; *) echo '{}';; esac""")
    cli.cache_clear()
    with pytest.raises(StackError, match=r"kubeconfig is encrypted in .*dev\.yaml, and cannot be decrypted: incorrect"):
        asyncio.run(open_target(selection))


FROM_STACK = TEXT.replace("meshtrust:context: kind-dev", "meshtrust:cluster: {fromStack: acme/infra/prod}")


def test_the_kubeconfig_of_the_stack_that_made_the_cluster_is_read_by_the_cli(stack, pulumi, tmp_path):
    stack.file.write_text(FROM_STACK)
    text = json.dumps(json.dumps(kubeconfig({"token": "hush"}, server="http://127.0.0.1:1")))
    asked = "stack output kubeconfig --json --show-secrets --stack acme/infra/prod"
    pulumi(f"""case "$*" in *"{asked}"*) printf '%s' '{text}';; *) echo '{{}}';; esac""")
    selection = Selection(stack="dev", directory=tmp_path)
    with pytest.raises(
        ClusterError, match='API server of output kubeconfig of stack "acme/infra/prod" cannot'
    ) as caught:
        asyncio.run(open_target(selection))
    assert "hush" not in str(caught.value)
    both = Selection(stack="dev", directory=tmp_path, kubeconfig="/home/kubeconfig")
    with pytest.raises(StackError, match=r"Name a context too \(--context\), or leave --kubeconfig out"):
        asyncio.run(open_target(both))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "echo \"error: no stack named 'prod' found\" >&2; exit 6",
            "which the backend does not have. Correct its name",
        ),
        ("echo 'error: current stack does not have output property' >&2; exit 1", "See its outputs, and correct the"),
        (
            "echo '[\"hush\"]'",
            'meshtrust:cluster.output is "kubeconfig", and that output of stack "acme/infra/prod" is',
        ),
    ],
)
def test_an_output_that_is_no_kubeconfig_of_a_cluster_is_one_sentence(stack, pulumi, tmp_path, answer, message):
    stack.file.write_text(FROM_STACK)
    pulumi(f"""case "$*" in *"stack output kubeconfig"*) {answer};; *) echo '{{}}';; esac""")
    with pytest.raises(StackError) as caught:
        asyncio.run(open_target(Selection(stack="dev", directory=tmp_path)))
    assert message in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_deployment_leaves_nothing_of_what_the_providers_write_to_the_temporary_directory(stack, pulumi, tmp_path):
    pulumi(f'echo "$TMPDIR" > {tmp_path}/asked; echo hush > "$TMPDIR/kubeconfig1"')
    stack.up(lambda _: None)
    used = Path((tmp_path / "asked").read_text().strip())
    assert used.parent == Path(tempfile.gettempdir())
    assert not used.exists()


@pytest.mark.parametrize("name", ["prod.eu_2", "acme/prod.eu_2", "organization/meshtrust/prod.eu_2"])
def test_a_stack_has_each_name_that_the_cli_takes(project, name):
    (project / "stacks" / "Pulumi.prod.eu_2.yaml").write_text(TEXT)
    assert Stack(name, project).setting("context") == "kind-dev"
    assert Stack(name, project).file.name == "Pulumi.prod.eu_2.yaml"


def test_a_stack_of_another_project_is_told_so(project):
    with pytest.raises(StackError, match=r'"acme/shop/dev" is a stack of project shop, and .* is that of meshtrust\.'):
        Stack("acme/shop/dev", project).check()


LATIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_a_file_is_utf_8_whatever_the_locale_is(stack, project):
    """Python would read and write it as ASCII there, or as Latin-1 (ISO-8859-1) elsewhere."""
    stack.file.write_text(TEXT.replace("# Ours.", "# Größe, 界."), encoding="utf-8")
    program = (
        "import locale, sys; from pathlib import Path; from meshtrust.stacks.stack import Stack; "
        "from meshtrust.rotation.steps import Trust; assert locale.getpreferredencoding() != 'UTF-8'; "
        "Stack('dev', Path(sys.argv[1])).configure(Trust(anchors=('2026', '2027'), signer='2026'))"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(project)], env={**os.environ, **LATIN}, cwd=REPOSITORY, check=True
    )
    assert "# Größe, 界." in stack.file.read_text(encoding="utf-8")
    assert stack.configured.anchors == ("2026", "2027")


def test_nothing_is_left_of_an_edit_that_fails(stack, project, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StackError, match=r"cannot be edited: .*No space left on device"):
        stack.configure(Trust(anchors=("2026", "2027"), signer="2026"))
    assert [path.name for path in (project / "stacks").iterdir()] == ["Pulumi.dev.yaml"]
    assert stack.file.read_text() == TEXT


@pytest.mark.parametrize("written", ["|\n    apiVersion: v1\n    token: hush", "{users: [{user: {token: hush}}]}"])
def test_a_kubeconfig_itself_in_the_stacks_file_is_refused_and_not_repeated(stack, pulumi, tmp_path, written):
    stack.file.write_text(f"{TEXT}  meshtrust:kubeconfig: {written}\n")
    pulumi("echo '{}'")
    with pytest.raises(ClusterError, match="is a kubeconfig's content, and has to be its path") as caught:
        asyncio.run(open_target(Selection(stack="dev", directory=tmp_path)))
    assert "hush" not in str(caught.value)


def test_a_machine_without_the_cli_is_told_what_is_missing(stack, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="There is no pulumi on PATH"):
        stack.outputs()


def test_a_cli_that_is_too_old_is_told_so(stack, pulumi, tmp_path, monkeypatch):
    monkeypatch.delenv("PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK", raising=False)
    pulumi("")
    (tmp_path / "bin" / "pulumi").write_text("#!/bin/sh\necho v3.0.0\n")
    with pytest.raises(StackError, match=r"The pulumi on PATH cannot be used: .*minimum CLI version"):
        stack.outputs()
