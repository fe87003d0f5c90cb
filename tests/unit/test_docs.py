import json
import re

import yaml

from docs.generate import FAULTS, commands, configuration, faults, lint_rules, performance
from tests.recorder import REPOSITORY


def test_the_configuration_reference_is_that_of_the_project_file():
    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    written = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert written == configuration(project), "run: make docs"


def test_the_reference_of_the_commands_is_that_of_the_commands():
    assert (REPOSITORY / "docs" / "commands.md").read_text() == commands(), "run: make docs"


def test_the_reference_of_the_linter_is_that_of_its_rules():
    assert (REPOSITORY / "docs" / "lint.md").read_text() == lint_rules(), "run: make docs"


def test_the_measured_numbers_are_those_that_were_kept():
    assert (REPOSITORY / "docs" / "performance.md").read_text() == performance(), "run: make docs"


def test_the_table_of_faults_is_what_their_suite_recorded():
    assert (REPOSITORY / "docs" / "faults.md").read_text() == faults(json.loads(FAULTS.read_text())), "run: make docs"


def test_every_test_of_the_suite_of_faults_has_its_row_and_no_other_has():
    suite = "".join(path.read_text() for path in (REPOSITORY / "tests" / "rehearsal" / "faults").glob("test_*.py"))
    written = set(re.findall(r"(?m)^def (test_\w+)\([^)]*\brow\b", suite))
    assert {name.partition("[")[0] for name in json.loads(FAULTS.read_text())} == written
