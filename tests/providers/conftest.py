"""Plugins by fixture, and the answers of the real ones, which are kept in answers/.

What a test asks of a plugin is compared with what the real plugin answered: each test runs with the stand-in, and once
more with the real plugin where that is installed. `--record-answers` records again what the real one answers.
"""

import contextlib
import json
from difflib import unified_diff
from pathlib import Path

import pytest

from tests.providers.masks import Masks
from tests.providers.workbench import REAL, STAND_IN, kinds_of, running

ANSWERS = Path(__file__).parent / "answers"


@pytest.fixture
def masks():
    return Masks()


@pytest.fixture
def compared(request, masks):
    """Run a plugin, and at the end compare its answers with those that the real plugin gave in this test."""

    @contextlib.contextmanager
    def start(provider, kind, environment=None):
        with running(provider, kind, environment) as plugin:
            yield plugin
            given = [[name, masks.masked(answer)] for name, answer in plugin.journal]
            given += [["warns", masks.masked(warning)] for warning in plugin.engine.warnings()]
        file = ANSWERS / f"{provider}.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        test = request.node.originalname
        if kind == REAL and request.config.getoption("--record-answers"):
            file.write_text(json.dumps({**kept, test: given}, indent=1, sort_keys=True) + "\n")
            return
        difference = list(
            unified_diff(_lines(kept.get(test)), _lines(given), "the real one", "this plugin", lineterm="")
        )
        if difference:
            pytest.fail("\n".join(["The real plugin answers otherwise.", *difference]), pytrace=False)

    return start


@pytest.fixture
def start_stand_in():
    """Run the stand-in alone, for what it answers in words of its own."""
    return lambda provider, environment=None: running(provider, STAND_IN, environment)


@pytest.fixture(params=kinds_of("tls"))
def tls(request, compared):
    with compared("tls", request.param) as plugin:
        plugin.configure()
        yield plugin


@pytest.fixture(params=kinds_of("random"))
def random(request, compared):
    with compared("random", request.param) as plugin:
        plugin.configure()
        yield plugin


def _lines(answers):
    return json.dumps(answers, indent=1, sort_keys=True).splitlines()
