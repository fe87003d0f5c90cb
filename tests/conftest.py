from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from tests.parts import PARTS

# The files that take longest, longest first: no worker is left with one of them while the other has nothing to do.
_LONGEST = ("test_rotation.py", "test_modes.py", "test_rehearsal.py", "test_mesh.py", "test_deployed.py")


# `make test` tries the same examples in every run, so that a change which breaks nothing does not fail; `make soak`
# looks for others. How long an example takes is the machine's affair.
_UNTIMED = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", _UNTIMED, derandomize=True)
# Hypothesis draws constants of all modules that are loaded, so that the examples of a test would depend on which tests
# its process has run before.
providers._get_local_constants = lambda: providers._local_constants
settings.register_profile("search", _UNTIMED, derandomize=False, print_blob=True)


def pytest_addoption(parser):
    parser.addoption("--record-faults", action="store_true", help="keep what the suite of faults finds out")
    parser.addoption("--record-answers", action="store_true", help="keep what Pulumi's own plugins answer")


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a part that is not on this machine, and put the longest files first."""
    without = [item for item in items if any(not PARTS[mark.args[0]].is_found() for mark in item.iter_markers("needs"))]
    if without:
        config.hook.pytest_deselected(items=without)
    order = {name: number for number, name in enumerate(_LONGEST)}
    items[:] = sorted(
        (item for item in items if item not in without), key=lambda item: order.get(item.path.name, len(order))
    )


def pytest_terminal_summary(terminalreporter):
    """Name the parts that are not on this machine."""
    for part in PARTS.values():
        if not part.is_found():
            terminalreporter.line(f"not on this machine: {part.title}; to have it tested: {part.how}")
