import yaml

from docs.generate import commands, configuration, lint_rules
from tests.recorder import REPOSITORY


def test_the_configuration_reference_is_that_of_the_project_file():
    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    written = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert written == configuration(project), "run: make docs"


def test_the_reference_of_the_commands_is_that_of_the_commands():
    assert (REPOSITORY / "docs" / "commands.md").read_text() == commands(), "run: make docs"


def test_the_reference_of_the_linter_is_that_of_its_rules():
    assert (REPOSITORY / "docs" / "lint.md").read_text() == lint_rules(), "run: make docs"
