"""The files of ci/: what `make check` lints in them is not all that they promise."""

import re

import pytest
import yaml

from tests.recorder import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / "ci" / "github").glob("*.yml"))
LOCKED = re.compile(r"uses: [-\w]+/[-\w]+@[0-9a-f]{40} # v\d")


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request):
    return request.param


def test_there_is_one_for_each_occasion():
    names = [
        "deploy-fleet.yml",
        "deploy-stack.yml",
        "deploy.yml",
        "preview.yml",
        "rotate.yml",
        "verify-fleet.yml",
        "verify.yml",
    ]
    assert [path.name for path in WORKFLOWS] == names


def test_every_action_is_pinned_by_commit_and_says_its_version(workflow):
    uses = [line for line in workflow.read_text().splitlines() if "uses:" in line]
    assert uses
    own = [f"uses: $/.github/workflows/{path.name}" for path in WORKFLOWS]
    assert all(LOCKED.search(line) or line.strip() in own for line in uses), uses


def test_no_long_lived_key_is_used_and_nothing_is_allowed_by_default(workflow):
    text = workflow.read_text()
    document = yaml.safe_load(text)
    assert "secrets." not in text
    assert document["permissions"] == {}
    for job in document["jobs"].values():
        rights = {**job["permissions"]}
        proposes = workflow.name == "rotate.yml"
        assert rights.pop("contents") == ("write" if proposes else "read")
        assert rights.pop("id-token") == "write"
        assert rights in ({}, {"pull-requests": "write"})


def test_commands_of_the_workflows_are_commands_of_this_project(workflow):
    from docs.generate import commands  # noqa: PLC0415 only this test needs the commands

    reference = commands()
    for command in re.findall(r"-m meshtrust ([a-z]+(?: [a-z]+)?)(?: --|$)", workflow.read_text(), re.MULTILINE):
        assert f"## meshtrust {command}\n" in reference, command


def test_a_fleet_is_deployed_in_no_order_and_again_without_a_merge():
    workflow = yaml.safe_load((REPOSITORY / "ci" / "github" / "deploy-fleet.yml").read_text())
    [job] = workflow["jobs"].values()
    assert "needs" not in job
    assert job["strategy"] == {"fail-fast": False, "matrix": {"stack": ["anchor", *clusters()]}}
    # YAML 1.1 reads the key `on` as a truth.
    assert sorted(workflow[True]) == ["push", "schedule", "workflow_dispatch"]


def test_a_rotation_is_proposed_for_every_stack_of_the_fleet():
    workflow = yaml.safe_load((REPOSITORY / "ci" / "github" / "rotate.yml").read_text())
    environment = workflow["jobs"]["propose"]["env"]
    assert (environment["OWNER"], environment["STACKS"].split()) == ("anchor", clusters())


def test_a_fleet_is_judged_as_a_whole():
    workflow = yaml.safe_load((REPOSITORY / "ci" / "github" / "verify-fleet.yml").read_text())
    assert workflow["jobs"]["verify"]["env"]["CLUSTERS"].split() == clusters()


def clusters():
    """The clusters of the fleet in stacks/."""
    anchor = yaml.safe_load((REPOSITORY / "stacks" / "Pulumi.anchor.yaml").read_text())["config"]
    return anchor["meshtrust:clusters"]


def test_the_cli_is_as_new_as_the_program_asks_for_and_packages_are_those_of_the_lock(workflow):
    """The action leaves a CLI of the runner in place that fits what is asked for, however old."""
    text = workflow.read_text()
    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job.get("steps", [])]
    installing = [step["with"] for step in steps if step.get("uses", "").startswith("pulumi/actions@")]
    oldest = project["requiredPulumiVersion"].removeprefix(">=")
    assert installing == [{"pulumi-version": f"^{oldest}"}] * text.count("pip install")
    assert text.count("pip install") == text.count("pip install --quiet --require-hashes -r requirements.lock")
