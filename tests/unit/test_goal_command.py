"""`meshtrust goal`: files of stacks get a new goal, all of them or none, and nothing else in them changes."""

import yaml
from typer.testing import CliRunner

from meshtrust.commands.cli import app
from meshtrust.rotation.steps import IllegalStepError
from meshtrust.stacks.stack import StackError
from tests.recorder import REPOSITORY

EAST = """# Ours.
config:
  meshtrust:context: east # a comment
  meshtrust:anchorStack: anchor
  meshtrust:anchors: ["2026"]
  meshtrust:signer: "2026"
  meshtrust:issuer:
    mode: external-issuer
    refs:
      "2026":
        name: vault-2026
"""
ANCHOR = """config:
  meshtrust:role: anchor
  meshtrust:anchors: ["2026"]
  meshtrust:clusters: [east]
"""


def project(tmp_path):
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text())
    (tmp_path / "stacks" / "Pulumi.east.yaml").write_text(EAST)
    (tmp_path / "stacks" / "Pulumi.anchor.yaml").write_text(ANCHOR)
    return lambda *arguments: CliRunner().invoke(app, ["goal", "--cwd", str(tmp_path), *arguments])


def test_cluster_and_anchor_stack_get_the_goal_and_keep_all_else(tmp_path):
    result = project(tmp_path)("--to", "2027", "east", "anchor")
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        ["Pulumi.east.yaml: anchors 2026 → 2027", "Pulumi.anchor.yaml: anchors 2026 → 2027"],
    )
    east = (tmp_path / "stacks" / "Pulumi.east.yaml").read_text()
    wanted = EAST.replace('anchors: ["2026"]', 'anchors: ["2027"]').replace('signer: "2026"', 'signer: "2027"')
    assert east == wanted, "what belongs to 2026 is needed until it is retired"
    anchor = yaml.safe_load((tmp_path / "stacks" / "Pulumi.anchor.yaml").read_text())["config"]
    assert anchor["meshtrust:anchors"] == ["2027"]
    assert "meshtrust:signer" not in anchor


def test_a_misspelt_stack_leaves_every_file_as_it_was(tmp_path):
    result = project(tmp_path)("--to", "2027", "east", "wset")
    assert isinstance(result.exception, StackError)
    assert 'There is no stack "wset"' in str(result.exception)
    assert (tmp_path / "stacks" / "Pulumi.east.yaml").read_text() == EAST


def test_what_is_not_a_name_is_refused_before_a_file_is_read(tmp_path):
    result = project(tmp_path)("--to", "20 27", "east")
    assert isinstance(result.exception, IllegalStepError)
    assert (tmp_path / "stacks" / "Pulumi.east.yaml").read_text() == EAST
