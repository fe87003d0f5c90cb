"""Secrets at rest, passphrases, and the stack's configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rehearsal.engine.errors import CliError
from rehearsal.engine.secrets import Crypter
from tests.engine.workbench import Workbench

KEY = 'key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")\npulumi.export("key", key.private_key_pem)\n'


def test_no_private_key_is_in_the_state_in_the_outputs_or_on_the_screen(bench: Workbench) -> None:
    bench.program(KEY + 'pulumi.export("nested", {"keys": [key.private_key_pem]})')
    shown = bench.ok("preview", "--json").text + bench.up().text + bench.ok("stack", "export").text
    shown += bench.ok("stack", "output", "--json").text + bench.ok("preview", "--diff").text
    everything = shown + "".join(path.read_text() for path in bench.directory.rglob("*") if path.is_file())
    assert "PRIVATE KEY" not in everything
    assert bench.outputs()["key"].startswith("-----BEGIN EC PRIVATE KEY-----")
    assert "PRIVATE KEY" in bench.ok("stack", "export", "--show-secrets").out


def test_an_unchanged_secret_keeps_its_ciphertext(bench: Workbench) -> None:
    bench.program(KEY)
    bench.up()
    before = bench.resources()["key"]["outputs"]
    bench.up()
    assert bench.resources()["key"]["outputs"] == before


def test_the_real_clis_ciphertext_is_read_with_its_passphrase() -> None:
    vector = json.loads((Path(__file__).parent / "passphrase_vector.json").read_text())
    crypter = Crypter.open(vector["passphrase"], vector["encryptionsalt"])
    assert crypter.decrypt(vector["ciphertext"]) == vector["plaintext"]
    with pytest.raises(CliError, match="incorrect passphrase"):
        Crypter.open("another", vector["encryptionsalt"])


def test_a_wrong_or_missing_passphrase_is_refused(bench: Workbench) -> None:
    wrong = bench.run("preview", PULUMI_CONFIG_PASSPHRASE="wrong")
    assert wrong.code == 1
    assert "get stack secrets manager: incorrect passphrase" in wrong.err
    bench.without = ("PULUMI_CONFIG_PASSPHRASE",)
    assert "passphrase must be set with PULUMI_CONFIG_PASSPHRASE or" in bench.run("preview").err
    file = bench.directory / "passphrase"
    file.write_text("correct horse\n")
    bench.ok("preview", PULUMI_CONFIG_PASSPHRASE_FILE=str(file))


def test_an_exported_deployment_can_be_imported(bench: Workbench) -> None:
    bench.program(KEY)
    bench.up()
    before = bench.outputs()
    export = bench.ok("stack", "export", "--show-secrets").out
    bench.program("")
    bench.up()
    result = bench.run("stack", "import", stdin=export)
    assert result.code == 0, result.text
    assert bench.outputs() == before
    assert "PRIVATE KEY" not in bench.state_file.read_text()


SCHEMA = {
    "size": {"type": "integer"},
    "anchors": {"type": "array", "items": {"type": "string"}, "default": ["2026"]},
    "linkerd.ha": {"type": "boolean", "default": False},
    "linkerd.mode": {"type": "string", "default": "intermediate"},
    "token": {"type": "string", "secret": True, "default": ""},
}
SHOW = """
config = pulumi.Config()
pulumi.export("size", config.require_int("size"))
pulumi.export("anchors", config.require_object("anchors"))
pulumi.export("linkerd", config.require_object("linkerd"))
pulumi.export("token", config.get_secret("token"))
"""


@pytest.fixture
def configured(bench: Workbench) -> Workbench:
    schema = {key: value for key, value in SCHEMA.items() if key != "token"}
    bench.project(stackConfigDir="stacks", config=schema)
    bench.ok("stack", "rm", "--yes")
    bench.ok("stack", "init", "dev")
    bench.program(SHOW)
    return bench


def test_the_program_gets_defaults_overlaid_with_the_stacks_values(configured: Workbench) -> None:
    configured.ok("config", "set", "size", "3")
    configured.ok("config", "set", "--path", "linkerd.ha", "true")
    configured.ok("config", "set", "--secret", "token", "hush")
    configured.up()
    assert configured.outputs() == {
        "size": 3,
        "anchors": ["2026"],
        "linkerd": {"ha": True, "mode": "intermediate"},
        "token": "hush",
    }
    text = (configured.directory / "stacks/Pulumi.dev.yaml").read_text()
    assert "hush" not in text
    assert configured.digest()["config"]["bench:token"] == "[secret]"
    assert configured.ok("config", "get", "token").out == "hush\n"


def test_a_required_value_without_a_default_must_be_given(configured: Workbench) -> None:
    result = configured.run("preview")
    assert result.code == 1
    assert result.err.endswith("error: validating stack config: Stack 'dev' is missing configuration value 'size'\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("bench:size: many", "configuration key 'size' must be of type 'integer'"),
        ("bench:size: 3\n  bench:anchors: [2026]", "configuration key 'anchors' must be of type 'array<string>'"),
        ("bench:size: 3\n  bench:linkerd: {ha: maybe}", "configuration key 'linkerd.ha' must be of type 'boolean'"),
        ("size: 3", "configuration keys should be of the form `<namespace>:<name>`"),
    ],
)
def test_a_value_of_another_type_is_refused(configured: Workbench, value: str, message: str) -> None:
    file = configured.directory / "stacks/Pulumi.dev.yaml"
    file.write_text(f"{file.read_text()}config:\n  {value}\n")
    result = configured.run("preview")
    assert result.code == 1
    assert message in result.err


def test_editing_configuration_keeps_comments_and_other_entries(configured: Workbench) -> None:
    file = configured.directory / "stacks/Pulumi.dev.yaml"
    salt = file.read_text()
    file.write_text(
        f"# why this stack is as it is\n{salt}config:\n  # three is enough\n  bench:size: 3\n"
        "  bench:anchors: # generations\n    - '2026'\n    - '2027'\n  bench:linkerd:\n    ha: true\n# the end\n"
    )
    configured.ok("config", "set", "size", "4")
    configured.ok("config", "set", "--path", "anchors[1]", "next")
    configured.ok("config", "rm", "linkerd")
    assert file.read_text() == (
        f"# why this stack is as it is\n{salt}config:\n  # three is enough\n  bench:size: '4'\n"
        "  bench:anchors:\n  - '2026'\n  - next\n# the end\n"
    )


def test_a_name_that_looks_like_a_number_is_a_text_where_it_is_said_to_be_one(configured: Workbench) -> None:
    """By --path the real CLI writes a number otherwise, which its own check of the schema then refuses."""
    file = configured.directory / "stacks/Pulumi.dev.yaml"
    configured.ok("config", "set", "size", "3")
    configured.ok("config", "set", "--path", "anchors[0]", "2026")
    assert "must be of type 'array<string>'" in configured.run("preview").err
    configured.ok("config", "set", "--path", "anchors[0]", "2026", "--type", "string")
    assert "- '2026'\n" in file.read_text()
    configured.ok("preview")


def test_a_secret_that_the_schema_demands_must_be_encrypted(bench: Workbench) -> None:
    bench.project(config=SCHEMA)
    bench.ok("config", "set", "size", "3")
    bench.ok("config", "set", "token", "plain")
    result = bench.run("preview")
    assert "configuration key 'token' must be encrypted as it's secret" in result.err


def test_the_notice_comes_first_and_never_on_stdout_that_is_data(bench: Workbench) -> None:
    notice = "meshtrust's embedded engine, not the Pulumi CLI: for rehearsals and tests only"
    assert bench.ok("preview").out.splitlines()[0] == notice
    for command in (["preview", "--json"], ["stack", "output", "--json"], ["config", "--json"], ["version"]):
        result = bench.ok(*command)
        assert notice not in result.out, command
        assert result.err.splitlines()[0] == notice, command


def test_a_text_of_several_lines_is_set_and_removed_whole(bench: Workbench) -> None:
    bench.ok("config", "set", "--path", "roots.first", stdin="-----BEGIN-----\nabc\n-----END-----\n")
    bench.ok("config", "set", "after", "1")
    bench.ok("config", "set", "--path", "roots.second", "2")
    assert bench.ok("config", "get", "--path", "roots.first").out.startswith("-----BEGIN-----\nabc\n-----END-----")
    bench.ok("config", "rm", "roots")
    assert "BEGIN" not in (bench.directory / "Pulumi.dev.yaml").read_text()
    assert "abc" not in (bench.directory / "Pulumi.dev.yaml").read_text()
    assert bench.ok("config", "get", "after").out.strip() == "1"
