"""Fixtures of the engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A project with an empty stack `dev`."""
    workbench = Workbench(tmp_path)
    workbench.program("")
    workbench.ok("stack", "init", "dev")
    return workbench
