"""Draws the packages of the code base and their imports, for docs/architecture.md.

Packages, their first sentences and their imports are read from the source, so the picture follows the code.
"""

import ast
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import drawsvg
import grimp

_REPOSITORY = Path(__file__).parents[1]
_ROOTS = ("rehearsal", "program", "components", "meshtrust")
# Columns that the packages beside `meshtrust` keep. The others of a row stand in the order of their names.
_COLUMNS = {"program": 1, "components": 1, "rehearsal": 2}
_MARGIN, _WIDTH, _GAP, _BETWEEN_ROWS = 20, 270, 25, 48
_TITLE, _LINE, _PADDING = 18, 15, 12
_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
_INK, _SOFT, _GROUND = "#1c2740", "#44506a", "#fbfaf7"
# Text of 12 pixels fits so many characters into a box.
_CHARACTERS = 37

# The ends of an arrow: x and y of its tail, x and y of its head.
Arrow = tuple[float, float, float, float]


@dataclass(frozen=True)
class Package:
    """A package, or a module that is a package's neighbour.

    Attributes:
        name: Its name, such as ``meshtrust.pki``.
        about: First sentence of its docstring.
        imports: Names of the other packages that its modules import, sorted.
    """

    name: str
    about: str
    imports: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The lines of text below its name."""
        names = ", ".join(name.removeprefix("meshtrust.").removeprefix("program.") for name in self.imports)
        listed = textwrap.wrap(f"imports {names or 'no other package'}", _CHARACTERS)
        return [*textwrap.wrap(self.about, _CHARACTERS), *listed]

    @property
    def height(self) -> int:
        """Height of its box in pixels."""
        return 2 * _PADDING + _TITLE + _LINE * len(self.lines)


@dataclass(frozen=True)
class Box:
    """The place of a package, in pixels from the upper left corner of the picture."""

    package: Package
    x: int
    y: int
    height: int


def read_packages() -> list[Package]:
    """Return the packages of `meshtrust` and `program`, `components` and `rehearsal`."""
    graph = grimp.build_graph(*_ROOTS, cache_dir=None)
    inner = graph.find_children("meshtrust") | {name for name in graph.find_children("program") if _is_package(name)}
    drawn = {"components", "rehearsal", *inner} - {"meshtrust.__main__"}
    members = {name: {name} | graph.find_descendants(name) for name in drawn}
    owners = {module: name for name, modules in members.items() for module in modules}
    packages = []
    for name, modules in sorted(members.items()):
        imported = {
            owners.get(target) for module in modules for target in graph.find_modules_directly_imported_by(module)
        }
        packages.append(Package(name, _first_sentence(name), tuple(sorted(filter(None, imported - {name})))))
    return packages


def _is_package(module: str) -> bool:
    return (_REPOSITORY / module.replace(".", "/")).is_dir()


def _first_sentence(module: str) -> str:
    path = _REPOSITORY / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split()).partition(". ")[0].rstrip(".").replace("`", "")


def essential_imports(packages: Sequence[Package]) -> list[tuple[str, str]]:
    """Return the imports that no other path of imports implies: the arrows of the picture.

    Args:
        packages: Packages whose imports have no cycle.
    """
    direct = {package.name: set(package.imports) for package in packages}
    below = {name: _reachable(name, direct) for name in direct}
    return [
        (name, target)
        for name, targets in direct.items()
        for target in sorted(targets)
        if not any(target in below[other] for other in targets - {target})
    ]


def _reachable(name: str, direct: dict[str, set[str]]) -> set[str]:
    return direct[name].union(*(_reachable(target, direct) for target in direct[name]))


def place(packages: Sequence[Package]) -> list[Box]:
    """Return the box of each package: each row is above those that it imports.

    Args:
        packages: Packages whose imports have no cycle.
    """
    by_name = {package.name: package for package in packages}

    def level(name: str) -> int:
        return 1 + max(map(level, by_name[name].imports), default=-1)

    rows: dict[int, list[Package]] = {}
    for package in packages:
        rows.setdefault(level(package.name), []).append(package)
    boxes, y = [], _MARGIN
    for _, row in sorted(rows.items(), reverse=True):
        height = max(package.height for package in row)
        free = iter(sorted(set(range(len(packages))) - {_COLUMNS.get(_top(package)) for package in row}))
        for package in row:
            column = _COLUMNS[_top(package)] if _top(package) in _COLUMNS else next(free)
            boxes.append(Box(package, _MARGIN + column * (_WIDTH + _GAP), y, height))
        y += height + _BETWEEN_ROWS
    return boxes


def _top(package: Package) -> str:
    return package.name.partition(".")[0]


def draw_packages(packages: Sequence[Package]) -> str:
    """Return the picture as the text of an SVG file.

    Args:
        packages: Packages whose imports have no cycle.
    """
    boxes = place(packages)
    width = max(box.x for box in boxes) + _WIDTH + _MARGIN
    height = max(box.y + box.height for box in boxes) + _MARGIN
    picture = drawsvg.Drawing(width, height, font_family=_FONT)
    picture.append_title("The packages and their imports; an arrow goes from a package to one that it imports")
    picture.append(drawsvg.Rectangle(0, 0, width, height, rx=14, fill=_GROUND))
    for arrow in place_arrows(boxes):
        for element in _draw_arrow(arrow):
            picture.append(element)
    for box in boxes:
        for element in _draw_box(box):
            picture.append(element)
    return f"{picture.as_svg()}\n"


def place_arrows(boxes: Sequence[Box]) -> list[Arrow]:
    """Return the arrows between boxes, from lower edges to upper edges; those of one edge are spread over it."""
    at = {box.package.name: box for box in boxes}
    pairs = essential_imports([box.package for box in boxes])

    def spread(name: str, others: list[str], other: str) -> float:
        ordered = sorted(others, key=lambda each: (at[each].x, at[each].y))
        return at[name].x + _WIDTH * (ordered.index(other) + 1) / (len(ordered) + 1)

    return [
        (
            spread(start, [target for source, target in pairs if source == start], end),
            at[start].y + at[start].height,
            spread(end, [source for source, target in pairs if target == end], start),
            at[end].y,
        )
        for start, end in pairs
    ]


def _draw_arrow(arrow: Arrow) -> Iterable[drawsvg.DrawingElement]:
    x1, y1, x2, y2 = arrow
    length = math.hypot(x2 - x1, y2 - y1)
    along_x, along_y = (x2 - x1) / length, (y2 - y1) / length
    back_x, back_y = x2 - 9 * along_x, y2 - 9 * along_y
    yield drawsvg.Line(x1, y1, back_x, back_y, stroke=_INK, stroke_width=1.5)
    corners = (back_x - 4 * along_y, back_y + 4 * along_x, back_x + 4 * along_y, back_y - 4 * along_x)
    yield drawsvg.Lines(x2, y2, *(round(corner, 1) for corner in corners), close=True, fill=_INK)


def _draw_box(box: Box) -> Iterable[drawsvg.DrawingElement]:
    package = box.package
    inside = package.name.startswith("meshtrust.")
    fill, stroke = ("#eef4f1", "#0b6e4f") if inside else ("#ffffff", "#2b3a55")
    yield drawsvg.Rectangle(box.x, box.y, _WIDTH, box.height, rx=8, fill=fill, stroke=stroke, stroke_width=1.5)
    x, y = box.x + _PADDING, box.y + _PADDING + _TITLE - 5
    yield drawsvg.Text(package.name.replace(".", "/"), 16, x, y, fill=_INK, font_weight="bold")
    for number, line in enumerate(package.lines, 1):
        yield drawsvg.Text(line, 12, x, y + 3 + number * _LINE, fill=_SOFT)
