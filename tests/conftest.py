# The files that take longest, longest first: no worker is left with one of them while the other has nothing to do.
_LONGEST = ("test_rotation.py", "test_modes.py", "test_rehearsal.py", "test_mesh.py", "test_deployed.py")


def pytest_addoption(parser):
    parser.addoption("--record-faults", action="store_true", help="keep what the suite of faults finds out")


def pytest_collection_modifyitems(items):
    """Put the longest files first; everything else stays in its order."""
    order = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
