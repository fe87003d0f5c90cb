"""The policy pack under the real CLI: `pulumi preview --policy-pack`, as its README has it."""

import json
import shutil

import pytest

from rehearsal.workspace import REPOSITORY, workspace
from tests.policy_environment import policy_environment
from tests.rehearsal.stack import charts_of_linkerd

RULES = {"anchor-key-on-no-cluster", "issuer-duration", "no-key-in-helm-values", "signing-anchors-are-protected"}


@pytest.fixture
def pack(tmp_path):
    """The pack with its environment, and a week as the longest life of an issuer."""
    directory = shutil.copytree(REPOSITORY / "policy", tmp_path / "policy", ignore=shutil.ignore_patterns(".venv"))
    (directory / ".venv").symlink_to(policy_environment())
    limits = tmp_path / "policy-config.json"
    limits.write_text(json.dumps({"issuer-duration": {"maxHours": 168}}))
    return ["--policy-pack", str(directory), "--policy-pack-config", str(limits)]


@pytest.fixture
def preview(pack, binaries):
    """Preview stack dev without a cluster; return the exit code and what is written."""
    charts = {"linkerd": {"charts": str(charts_of_linkerd())}, "certManager": {"charts": str(binaries.charts)}}

    def of(**settings):
        offline = {"MESHTRUST_OFFLINE": "1"}
        with workspace("dev", settings={**charts, **settings}, environment=offline) as project:
            result = project.capture("preview", "--non-interactive", *pack)
        return result.returncode, result.stdout + result.stderr

    return of


def violations(written):
    """The rules that a run was refused by."""
    return {rule for rule in RULES if f"[mandatory]  {rule} " in written}


def test_a_stack_as_it_should_be_passes_every_rule(preview):
    code, written = preview(anchor={"protect": True})
    assert "meshtrust" in written, "the pack was run"
    assert (code, violations(written)) == (0, set()), written


# What Helm is given the program decides: no configuration of it breaks the rule about that.
@pytest.mark.parametrize(
    ("settings", "rule", "told"),
    [
        (
            {"issuer": {"mode": "anchor"}, "anchor": {"protect": True}},
            "anchor-key-on-no-cluster",
            "Secret linkerd-trust-anchor is to hold the trust anchor's key.",
        ),
        (
            {"issuer": {"duration": "200h"}, "anchor": {"protect": True}},
            "issuer-duration",
            "The identity issuer is to live 200 hours, and may live 168 hours at most.",
        ),
        (
            {"anchor": {"protect": False}},
            "signing-anchors-are-protected",
            "trust-anchor-2026-key signs, and is not protected.",
        ),
    ],
    ids=["anchor-key", "issuer-duration", "protection"],
)
def test_a_rule_refuses_what_it_is_there_for(preview, settings, rule, told):
    code, written = preview(**settings)
    assert code != 0
    assert violations(written) == {rule}, written
    assert told in written
