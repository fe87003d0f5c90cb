"""The picture of the packages in docs/architecture.md."""

import re
from itertools import product

import pytest

from docs.package_picture import Package, draw_packages, essential_imports, place, place_arrows, read_packages
from tests.recorder import REPOSITORY

WIDTH = 270


@pytest.fixture(scope="module")
def packages():
    return read_packages()


def test_the_picture_in_the_tree_is_that_of_the_code(packages):
    assert (REPOSITORY / "docs" / "packages.svg").read_text() == draw_packages(packages), "run: make docs"


def test_every_package_is_in_the_picture(packages):
    folders = [path.parent for top in ("meshtrust", "program") for path in (REPOSITORY / top).glob("*/__init__.py")]
    names = {f"{folder.parent.name}.{folder.name}" for folder in folders} | {"components", "rehearsal"}
    assert names <= {package.name for package in packages}
    assert all(package.about for package in packages)


def test_a_package_has_the_imports_of_its_modules_and_not_its_own(packages):
    imports = {package.name: package.imports for package in packages}
    assert {"components", "program.wait"} <= set(imports["program.declare"])
    assert imports["meshtrust.pki"] == ()
    assert all(name not in targets for name, targets in imports.items())


def test_an_arrow_that_others_imply_is_left_out():
    chain = [
        Package("a", "a", ("b", "c")),
        Package("b", "b", ("c",)),
        Package("c", "c", ()),
    ]
    assert essential_imports(chain) == [("a", "b"), ("b", "c")]


def test_no_box_overlaps_another_and_no_arrow_crosses_a_box(packages):
    boxes = place(packages)
    for one, other in product(boxes, boxes):
        if one is not other:
            beside = one.x + WIDTH <= other.x or other.x + WIDTH <= one.x
            assert beside or one.y + one.height <= other.y or other.y + other.height <= one.y, (one, other)
    for x1, y1, x2, y2 in place_arrows(boxes):
        for step in range(1, 100):
            x, y = x1 + (x2 - x1) * step / 100, y1 + (y2 - y1) * step / 100
            crossed = [box for box in boxes if box.x < x < box.x + WIDTH and box.y < y < box.y + box.height]
            assert not crossed, crossed


def test_an_arrow_leads_down(packages):
    assert all(y1 < y2 for _, y1, _, y2 in place_arrows(place(packages)))


def test_the_text_of_a_box_is_inside_of_it(packages):
    for package in packages:
        # A character of 12 pixels is 6.5 wide on average in the widest of the fonts that browsers take here.
        assert all(len(line) * 6.5 <= WIDTH - 24 for line in package.lines), package
    assert not re.search(r"[`{}]", draw_packages(packages))


def test_no_package_of_meshtrust_has_more_than_a_dozen_modules():
    packages = [path.parent for path in (REPOSITORY / "meshtrust").rglob("__init__.py")]
    assert len([path for path in packages if path.parent.name == "meshtrust"]) <= 8
    for package in packages:
        modules = [path.stem for path in package.glob("*.py") if not path.stem.startswith("__")]
        assert len(modules) <= 12, f"{package.relative_to(REPOSITORY)} has {len(modules)} modules: {sorted(modules)}"
