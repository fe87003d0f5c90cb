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
    names = ["deploy-fleet.yml", "deploy-stack.yml", "deploy.yml", "preview.yml", "verify-fleet.yml", "verify.yml"]
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
        assert rights.pop("contents") == "read"
        assert rights.pop("id-token") == "write"
        assert rights in ({}, {"pull-requests": "write"})


def test_commands_of_the_workflows_are_commands_of_this_project(workflow):
    from docs.generate import commands  # noqa: PLC0415 only this test needs the commands

    reference = commands()
    for command in re.findall(r"-m meshtrust ([a-z]+(?: [a-z]+)?)(?: --|$)", workflow.read_text(), re.MULTILINE):
        assert f"## meshtrust {command}\n" in reference, command


def test_a_fleet_is_deployed_in_the_order_that_its_gates_want():
    jobs = yaml.safe_load((REPOSITORY / "ci" / "github" / "deploy-fleet.yml").read_text())["jobs"]
    order = [(name, job.get("needs"), job["with"]["stack"]) for name, job in jobs.items()]
    assert order == [
        ("anchor", None, "anchor"),
        ("ready", "anchor", "${{ matrix.stack }}"),
        ("pass-on", "ready", "anchor"),
        ("step", "pass-on", "${{ matrix.stack }}"),
    ]
    for name in ("ready", "step"):
        assert jobs[name]["strategy"]["matrix"]["stack"] == clusters()


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
