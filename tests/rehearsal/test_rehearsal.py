"""`make rehearse`: it goes through, and says so when something does not hold."""

import io
import os

import pytest
from rich.console import Console

from rehearsal.cluster import Cluster
from rehearsal.rehearse import Rehearsal


@pytest.mark.parametrize("stack", ["dev", "guide"])
def test_a_stack_lives_through_its_rehearsal(stack, linkerd_charts):
    console = Console(record=True, width=120, file=io.StringIO())
    name = f"{stack}-{os.getpid()}"
    Rehearsal(stack, console, linkerd_charts=linkerd_charts, name=name).run()
    text = console.export_text()
    assert "All of it held" in text
    assert "event IssuerUpdated" in text
    assert ("intermediate" in text) == (stack == "dev")
    assert name not in [cluster.name for cluster in Cluster.running()]
