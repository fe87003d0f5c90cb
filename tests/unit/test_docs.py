import yaml

from docs.generate import configuration
from tests.recorder import REPOSITORY


def test_the_configuration_reference_is_that_of_the_project_file():
    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    written = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert written == configuration(project), "run: make docs"
